"""Draws stages.svg: the stages that are open in the run of backup_run.py, and their sum.

`python docs/pictures/stages.py [DIRECTORY]`. Everything is drawn from the client's updates, and the areas
below the curve are checked against its numbers.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

import attrs
from backup_run import PLAN, Moment, run

Points = Sequence[tuple[float, float]]

WIDTH = 760
LEFT, RIGHT = 128, 700
CURVE_TOP, CURVE_BOTTOM = 48, 228
LANES_TOP, LANE, GAP = 268, 26, 14
CHILD, CHILD_GAP = 16, 5
"""The lanes of a stage's stages."""
SECOND = 2
"""The axis has a tick for every so many seconds."""

STYLE = """
  svg { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
  .card { fill: #fdfdfc; stroke: #dcdfe4 } text { fill: #24292f } .quiet { fill: #6b7280; font-size: 12px }
  .end { text-anchor: end } .middle { text-anchor: middle } .strong { font-weight: 600 }
  .grid { stroke: #e5e7eb } .total { fill: none; stroke: #24292f; stroke-width: 2; stroke-linejoin: round }
  .last { fill: #24292f }
  .break { stroke: #c0392b; stroke-dasharray: 3 3 } .broken { fill: #c0392b; font-size: 12px }
  .open { opacity: .2 } .failed { opacity: .45 } .area { opacity: .7 }
  .scan { fill: #5b7fb5 } .resize { fill: #0b7a58 } .upload { fill: #d9962a } .index { fill: #8e5ea2 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #16191f; stroke: #363c46 } text { fill: #e6e8eb } .quiet { fill: #9aa4b2 }
    .last { fill: #f2f4f7 } .grid { stroke: #2b313a } .total { stroke: #f2f4f7 }
    .break { stroke: #ff7b6b } .broken { fill: #ff8f80 }
    .scan { fill: #7ea2dc } .resize { fill: #2fae86 } .upload { fill: #e8b04e } .index { fill: #b48bc8 }
  }"""


@attrs.define
class Span:
    """A stage from the time at which it was opened to the time at which it was gone."""

    path: tuple[str, ...]
    start: float
    end: float = math.inf
    steps: list[tuple[float, float]] = attrs.field(factory=list)
    """The times at which it moved, and the share that was done then."""
    is_complete: bool = False


def read_spans(moments: Sequence[Moment]) -> list[Span]:
    """Return the stages of the run, in the order in which they were opened."""
    spans: list[Span] = []
    now_open: dict[tuple[str, ...], Span] = {}
    for moment in moments:
        states = {stage.path: stage for stage in moment.update.stages}
        for path in now_open.keys() - states.keys():
            now_open.pop(path).end = moment.time
        for path, stage in states.items():
            if path not in now_open:
                now_open[path] = Span(path, moment.time)
                spans.append(now_open[path])
            now_open[path].steps.append((moment.time, (stage.progress or 0) / (stage.total or 1)))
    # A stage that was opened again had failed; all others were complete when they ended.
    for span in {span.path: span for span in spans}.values():
        span.steps.append((span.end, 1.0))
        span.is_complete = True
    return spans


def done_by(spans: Iterable[Span], name: str, time: float) -> float:
    """Return how much of the whole a stage had done at `time`; a retry counts from the old mark on."""
    shares = (share for span in spans if span.path == (name,) for at, share in span.steps if at <= time)
    return PLAN[name] * max(shares, default=0.0)


class Picture:
    """The coordinates of seconds and shares, and the elements so far."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.elements: list[str] = []

    def x(self, time: float) -> float:
        return LEFT + (RIGHT - LEFT) * time / self.seconds

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self.elements.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.elements.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
        )

    def box(self, start: float, end: float, top: float, height: float, kind: str) -> None:
        x, width = self.x(start), self.x(end) - self.x(start)
        self.elements.append(
            f'<rect x="{x:.1f}" y="{top:g}" width="{width:.1f}" height="{height:g}" class="{kind}"/>'
        )

    def path(self, corners: Points, kind: str) -> None:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self.elements.append(f'<path d="M{places}" class="{kind}"/>')

    def stair(self, points: Points, top: float, height: float) -> list[tuple[float, float]]:
        """Return the corners of a line that stays at each share until the next; shares are 0 to 1."""
        places = [(self.x(time), top + height * (1 - share)) for time, share in points]
        corners = [place for (x, y), (later, _) in pairwise(places) for place in ((x, y), (later, y))]
        return [*corners, places[-1]]


def draw_curve(picture: Picture, moments: Sequence[Moment], spans: Sequence[Span]) -> None:
    """Draw the total, and below it the share of each stage."""
    height = CURVE_BOTTOM - CURVE_TOP
    for share in (0, 50, 100):
        y = CURVE_BOTTOM - height * share / 100
        picture.line(LEFT, y, RIGHT, y, "grid")
        picture.text(LEFT - 8, y + 4, str(share), "quiet end")
    times = [moment.time for moment in moments]
    floor = [0.0] * len(times)
    for name in PLAN:
        ceiling = [below + done_by(spans, name, time) / 100 for below, time in zip(floor, times, strict=True)]
        above = picture.stair(list(zip(times, ceiling, strict=True)), CURVE_TOP, height)
        below = picture.stair(list(zip(times, floor, strict=True)), CURVE_TOP, height)
        picture.path([*above, *reversed(below)], f"area {name}")
        floor = ceiling
    totals = [moment.update.progress / 100 for moment in moments]
    assert all(map(math.isclose, floor, totals)), "the stages do not add up to what the client saw"
    line = picture.stair(list(zip(times, totals, strict=True)), CURVE_TOP, height)
    picture.path(line, "total")
    x, y = line[-1]
    picture.elements.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="last"/>')


def draw_lanes(picture: Picture, spans: Sequence[Span]) -> int:
    """Draw a lane for each stage, filled as far as the stage was; return their lower end."""
    tops: dict[tuple[str, ...], int] = {}
    y = LANES_TOP - GAP
    opened = dict.fromkeys(span.path for span in spans)
    for path in sorted(opened, key=lambda path: list(PLAN).index(path[0])):
        is_child = len(path) > 1
        height = CHILD if is_child else LANE
        y += CHILD_GAP if is_child else GAP
        tops[path] = y
        words = path[-1] if is_child else f"{path[0]} · {PLAN[path[0]]}"
        picture.text(LEFT - 8, y + height / 2 + 4.5, words, "quiet end" if is_child else "end")
        y += height
    for span in spans:
        top, height = tops[span.path], CHILD if len(span.path) > 1 else LANE
        fill = span.path[0]
        picture.box(span.start, span.end, top, height, f"open {fill}")
        last = (span.end, span.steps[-1][1])
        stair = picture.stair([*span.steps, last], top, height)
        ends = [(picture.x(span.end), top + height), (picture.x(span.start), top + height)]
        picture.path([*stair, *ends], fill if span.is_complete else f"failed {fill}")
    return y


def draw_break(picture: Picture, span: Span, retry: Span, bottom: int) -> None:
    """Mark the time at which a stage failed, and the time at which its retry passes the mark."""
    mark = span.steps[-1][1]
    passed = next(time for time, share in retry.steps if share > mark)
    for time, words in (
        (span.end, f"{span.path[0]} fails at {mark:.0%}"),
        (passed, "its retry has passed the mark"),
    ):
        x = picture.x(time)
        picture.line(x, CURVE_TOP - 12, x, bottom, "break")
        picture.text(x - 6, CURVE_TOP - 6, words, "broken end")


def draw(moments: Sequence[Moment]) -> str:
    """Return the picture as SVG."""
    spans = read_spans(moments)
    picture = Picture(moments[-1].time)
    picture.text(20, 28, "The progress of the call", "strong")
    draw_curve(picture, moments, spans)
    picture.text(20, LANES_TOP - 14, "Its stages and their weights", "strong")
    bottom = draw_lanes(picture, spans)
    for second in range(0, math.floor(picture.seconds) + 1, SECOND):
        picture.text(picture.x(second), bottom + 24, f"{second} s", "quiet middle")
    (failed,) = (span for span in spans if not span.is_complete)
    retry = next(span for span in spans if span.path == failed.path and span.is_complete)
    draw_break(picture, failed, retry, bottom + 8)
    height = bottom + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Four stages at once, and the one number that a client sees of them</title>",
        f"<style>{STYLE}\n</style>",
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8" class="card"/>',
        *picture.elements,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (directory / "stages.svg").write_text(draw(run()))
