"""Draws bars.svg, which moves: the bars that `trio-mcp call` and `RichProgress` show for backup_run.py.

`python docs/pictures/bars.py [DIRECTORY]`. The code of the bars draws the lines, at chosen times of the
run; this script only converts them to SVG. If pictures do not move, one frame is shown.
"""

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import takewhile
from pathlib import Path

from backup_run import Moment, run
from rich.console import Console
from rich.segment import Segment
from rich.terminal_theme import SVG_EXPORT_THEME

from trio_mcp.handlers.meter import Meter
from trio_mcp.handlers.rich_board import CallRow, draw_calls

COLUMNS, ROWS = 100, 7
FRAME_SECONDS = 0.5
END_SECONDS = 3.0
"""How long the last frame stays before the picture begins anew."""
STILL_SECONDS = 3.0
"""The time of the run whose frame is shown if pictures do not move."""

COMMAND = "$ trio-mcp call photos.py back_up"
RESULT = "backed up"

CELL, LINE, MARGIN = 7.8, 20, 18
BAR = {"━": (0.0, 1.0), "╸": (0.0, 0.5), "╺": (0.5, 1.0)}
"""The characters of bars, and the part of its cell that each fills; fonts leave gaps between them."""

STYLE = """
  .card { fill: #16191f; stroke: #363c46 } line { stroke-width: 3 } .bold { font-weight: bold }
  text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
  .frame { visibility: hidden } .still { visibility: visible }
  @media (prefers-reduced-motion: no-preference) { .frame { animation: turn step-end infinite } }"""

Lines = Sequence[Sequence[Segment]]


def take_frame(moments: Sequence[Moment], time: float) -> Lines:
    """Return the lines that the terminal shows at `time`, below the command."""
    # A console detects its properties; here they are given, so that the picture is the same everywhere.
    console = Console(
        file=io.StringIO(), width=COLUMNS, color_system="truecolor", no_color=False, legacy_windows=False
    )
    row = CallRow("back_up", Meter(0.0))
    for moment in takewhile(lambda moment: moment.time <= time, moments):
        row.receive(moment.update)
        row.meter.sample(moment.time)
    if time >= moments[-1].time:
        row.has_ended = True
    lines = console.render_lines(draw_calls([row], time, COLUMNS), pad=False)
    return [*lines, [Segment(RESULT)]] if row.has_ended else lines


def draw_line(segments: Iterable[Segment], row: int) -> Iterator[str]:
    """Yield the SVG elements of a line of the terminal."""
    column = 0
    y = MARGIN + LINE * row
    for segment in segments:
        text, style = segment.text, segment.style
        colour = style.color.get_truecolor(SVG_EXPORT_THEME).hex if style and style.color else "#d6dbe2"
        if text and BAR.keys() >= set(text):
            start, end = column + BAR[text[0]][0], column + len(text) - 1 + BAR[text[-1]][1]
            x1, x2 = (f"{MARGIN + CELL * at:.1f}" for at in (start, end))
            yield f'<line x1="{x1}" x2="{x2}" y1="{y + 10}" y2="{y + 10}" stroke="{colour}"/>'
        elif words := text.strip():
            x = MARGIN + CELL * (column + len(text) - len(text.lstrip()))
            bold = ' class="bold"' if style and style.bold else ""
            yield (
                f'<text x="{x:.1f}" y="{y + 15}" textLength="{CELL * len(words):.1f}" fill="{colour}"{bold}>'
                f"{escape(words)}</text>"
            )
        column += len(text)


def draw(moments: Sequence[Moment]) -> str:
    """Return the picture as SVG: its frames one above the other, of which one is visible at a time."""
    end = moments[-1].time
    times = [*(FRAME_SECONDS * i for i in range(int(end / FRAME_SECONDS) + 1)), end]
    length = end + END_SECONDS
    width, height = round(2 * MARGIN + CELL * COLUMNS), 2 * MARGIN + LINE * ROWS
    seen = (
        f"@keyframes {name} {{ 0% {{ visibility: visible }} {shown / length:.3%} {{ visibility: hidden }} }}"
        for name, shown in (("turn", FRAME_SECONDS), ("stay", END_SECONDS))
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>The bars of a call and of its open stages in a terminal</title>",
        "\n  ".join([f"<style>{STYLE}", *seen]) + "\n</style>",
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" class="card"/>',
        *draw_line([Segment(COMMAND)], 0),
    ]
    for time in times:
        kind = "frame still" if time == STILL_SECONDS else "frame"
        name = "stay" if time == end else "turn"
        # The negative delay starts the animation in the past, so the first round shows each frame too.
        lines.append(
            f'<g class="{kind}" style="animation-name: {name}; animation-duration: {length:.2f}s; '
            f'animation-delay: {time - length:.2f}s">'
        )
        for row, segments in enumerate(take_frame(moments, time), 1):
            lines += draw_line(segments, row)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (directory / "bars.svg").write_text(draw(run()))
