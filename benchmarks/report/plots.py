"""The plots of a report: bars by transport and peer, cost, latency, slow handlers, reports, many sessions.

Each function draws one figure from the cells of a run, or returns None if the run lacks the cells it needs.
Needs matplotlib, which the extra `bench` installs.
"""

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from cells.cell import OURS, Cell
from cells.report_cost import FLOOR

Cells = Mapping[str, Cell]

NAMES = {
    "mcp asyncio": "mcp 2, asyncio",
    "mcp trio": "mcp 2, trio",
    "mcp-legacy asyncio": "mcp 2 legacy, asyncio",
    "mcp-legacy trio": "mcp 2 legacy, trio",
    "mcp1": "mcp 1",
    "fastmcp": "FastMCP 4",
    "typescript": "TypeScript SDK 2",
}
OUR_COLOUR = "#0b6e4f"
COLOURS = {"mcp": "#4c78a8", "mcp-legacy": "#86a9cf", "mcp1": "#b0b7c3", "fastmcp": "#9d755d"}
COLOURS |= {"typescript": "#e0a030", "write": "#7f7f7f"}
PLACES: dict[str, dict[str, Any]] = {
    "p50": {"marker": "o", "markersize": 5.5, "linestyle": "none"},
    "p99": {"marker": "D", "markersize": 5.5, "linestyle": "none", "markerfacecolor": "white"},
    "worst": {"marker": "|", "markersize": 9, "linestyle": "none", "markeredgewidth": 1.8},
}
LINES = ("#0b6e4f", "#4c78a8", "#e0a030")
TRANSPORTS = ("stdio", "HTTP", "memory")

mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.h_pad": 0.08,
        "svg.hashsalt": "trio-mcp",
        "figure.dpi": 110,
    }
)


def name_of(contestant: str) -> str:
    return NAMES.get(contestant, contestant)


def colour_of(contestant: str) -> str:
    return OUR_COLOUR if contestant == OURS else COLOURS.get(contestant.split()[0], "#999999")


def short(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1e6:.2g}M" if value >= 1e6 else f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 20 or value == int(value) else f"{value:.2g}"


def scale_by_log(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,)))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_bars(
    axes: Axes,
    cell: Cell,
    of: Callable[[float], float],
    title: str,
    *,
    best_last: bool,
    is_log: bool = False,
    colour: Callable[[str], str] = colour_of,
) -> None:
    """A bar for each contestant, its median with the range, the best on top."""
    medians = {name: of(statistics.median(samples)) for name, samples in cell.samples.items()}
    order = sorted(medians, key=lambda name: medians[name], reverse=not best_last)
    for place, name in enumerate(order):
        values = [of(sample) for sample in cell.samples[name]]
        axes.barh(place, medians[name], color=colour(name), height=0.72)
        if len(values) > 1 and max(values) > min(values):
            axes.plot([min(values), max(values)], [place, place], color="#222222", linewidth=1)
        end = max([*values, medians[name]])
        axes.annotate(
            short(medians[name]), (end, place), xytext=(4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(order)), [name_of(name) for name in order])
    axes.set_title(title, loc="left")
    axes.tick_params(axis="y", length=0)
    if is_log:
        scale_by_log(axes)
        axes.set_xlim(min(medians.values()) / 4, max(max(map(of, s)) for s in cell.samples.values()) * 4)
    else:
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def make_figure(heights: Sequence[int], columns: int = 1, width: float = 8.0) -> tuple[Figure, Any]:
    """One row of axes for each number of bars."""
    total = sum(0.27 * height + 0.75 for height in heights)
    figure = Figure(figsize=(width, total), layout="constrained")
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=[h + 1 for h in heights])
    return figure, axes


def present(cells: Cells, names: Sequence[str]) -> list[Cell]:
    return [cells[name] for name in names if name in cells and cells[name].samples]


def rate_of(cell: Cell, seconds: float) -> float:
    return cell.count / seconds


def draw_rates(cells: Cells, names: Sequence[str], unit: str) -> Figure | None:
    found = present(cells, names)
    if not found:
        return None
    figure, axes = make_figure([len(cell.samples) for cell in found])
    for place, cell in zip(axes[:, 0], found, strict=True):
        draw_bars(place, cell, partial(rate_of, cell), cell.name, best_last=True, is_log=True)
    axes[-1, 0].set_xlabel(f"{unit} a second (log scale); median, with the range of the rounds")
    return figure


def draw_bursts(cells: Cells) -> Figure | None:
    return draw_rates(cells, [f"burst, {transport}" for transport in TRANSPORTS], "notifications")


def draw_strict(cells: Cells) -> Figure | None:
    return draw_rates(cells, [f"strict burst, {transport}" for transport in TRANSPORTS], "notifications")


def draw_fans(cells: Cells) -> Figure | None:
    names = [
        name
        for transport in ("HTTP", "stdio", "memory")
        for name in cells
        if re.fullmatch(rf"\d+ calls of [\d,]+, {transport}", name)
    ]
    return draw_rates(cells, names, "notifications")


def draw_echoes(cells: Cells) -> Figure | None:
    return draw_rates(cells, [f"echo, {transport}" for transport in TRANSPORTS], "calls")


def draw_cost(cells: Cells) -> Figure | None:
    names = [f"server {what}, {transport}" for transport in TRANSPORTS for what in ("CPU of 1,000",)]
    found = present(cells, names)
    if not found:
        return None
    figure, axes = make_figure([len(cell.samples) for cell in found], 2, 10)
    for (left, right), cell in zip(axes, found, strict=True):
        transport = cell.name.rpartition(", ")[2]
        title = f"CPU of 1,000 notifications, {transport} (ms)"
        draw_bars(left, cell, lambda s: s * 1000, title, best_last=False, is_log=True)
        memory = cells.get(f"server peak memory, {transport}")
        if memory and memory.samples:
            title = f"peak memory, {transport} (MB)"
            draw_bars(right, memory, lambda s: s / 1e6, title, best_last=False)
        else:
            right.set_axis_off()
    axes[-1, 0].set_xlabel("of the server's process; log scale")
    axes[-1, 1].set_xlabel("of the server's process during a burst")
    return figure


def draw_latency(cells: Cells) -> Figure | None:
    kinds = [f"latency {kind}" for kind in ("at 1,000/s", "alone")]
    found = [(kind, t) for t in TRANSPORTS for kind in kinds if f"{kind}, p50, {t}" in cells]
    if not found:
        return None
    counts = [len(cells[f"{kind}, p50, {t}"].samples) for kind, t in found]
    figure, axes = make_figure(counts)
    known = [cells[f"{kind}, {place}, {t}"] for kind, t in found for place in PLACES]
    every = [1e6 * statistics.median(samples) for cell in known for samples in cell.samples.values()]
    for place, (kind, transport) in zip(axes[:, 0], found, strict=True):
        draw_places(place, cells, kind, transport)
        place.set_xlim(min(every) / 1.5, max(every) * 1.5)
    legend = [Line2D([], [], color="#444444", **style) for style in PLACES.values()]
    axes[0, 0].legend(
        legend, PLACES, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(PLACES), frameon=False
    )
    axes[-1, 0].set_xlabel("microseconds from report to handler (log scale); medians over the rounds")
    return figure


def draw_places(axes: Axes, cells: Cells, kind: str, transport: str) -> None:
    """A line for each contestant, from its median to its worst."""
    rows = {place: cells[f"{kind}, {place}, {transport}"].samples for place in PLACES}
    middle = {name: statistics.median(samples) for name, samples in rows["p50"].items()}
    order = sorted(middle, key=lambda name: middle[name], reverse=True)
    for height, name in enumerate(order):
        values = {place: 1e6 * statistics.median(rows[place][name]) for place in PLACES}
        axes.plot([values["p50"], values["worst"]], [height, height], color=colour_of(name), linewidth=1.5)
        for place, style in PLACES.items():
            axes.plot(values[place], height, color=colour_of(name), **style)
    axes.set_yticks(range(len(order)), [name_of(name) for name in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_title(f"{kind}, {transport}", loc="left")
    scale_by_log(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)


def draw_slow(cells: Cells) -> Figure | None:
    panels = {
        "ended after the result": (1.0, "handlers that ended\nafter the result"),
        "ended out of order": (1.0, "handlers that ended\nout of order"),
        "time for all": (1000, "milliseconds until\nall had ended"),
    }
    found = [t for t in TRANSPORTS if f"slow handlers, ended after the result, {t}" in cells]
    if not found:
        return None
    late = [cells[f"slow handlers, ended after the result, {t}"] for t in found]
    figure, axes = make_figure([len(cell.samples) for cell in late], len(panels), 10)
    for row, transport in zip(axes, found, strict=True):
        order = list(reversed(cells[f"slow handlers, ended after the result, {transport}"].samples))
        for column, (what, (scale, title)) in enumerate(panels.items()):
            cell = cells[f"slow handlers, {what}, {transport}"]
            draw_facts(row[column], cell, order, scale, f"{title}, {transport}")
            row[column].tick_params(labelleft=column == 0)
    return figure


def draw_facts(axes: Axes, cell: Cell, order: Sequence[str], scale: float, title: str) -> None:
    for place, name in enumerate(order):
        if name not in cell.samples:
            continue
        value = scale * statistics.median(cell.samples[name])
        axes.barh(place, value, color=colour_of(name), height=0.72)
        axes.annotate(short(value), (value, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(order)), [name_of(name) for name in order])
    axes.set_title(title, loc="left")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.25)
    axes.set_xlim(0, max(axes.get_xlim()[1], 1))


def draw_reporting(cells: Cells) -> Figure | None:
    """What a report costs a handler: each kind of ours, and the kind that all have."""
    kinds = {m[1]: cell for name, cell in cells.items() if (m := re.fullmatch("cost of (.+), memory", name))}
    ours = {kind: cell.samples[OURS] for kind, cell in kinds.items() if cell.samples.get(OURS)}
    if not ours:
        return None
    floors = [cell.samples[FLOOR] for cell in kinds.values() if FLOOR in cell.samples]
    if floors:
        ours[FLOOR] = [sample for samples in floors for sample in samples]
    shared = {kind: cell for kind, cell in kinds.items() if "report_progress" in kind and cell.samples}
    figure, axes = make_figure([len(ours), *(len(cell.samples) for cell in shared.values())])
    panels = [Cell(OURS, {}, {}, samples=ours), *shared.values()]
    for place, cell, title in zip(axes[:, 0], panels, [OURS, *shared], strict=True):
        colour = colour_of if cell in shared.values() else colour_of_kind
        draw_bars(place, cell, lambda s: s * 1e9, title, best_last=False, is_log=True, colour=colour)
    axes[-1, 0].set_xlabel("nanoseconds of processor time for one (log scale); median, with the range")
    return figure


def colour_of_kind(kind: str) -> str:
    return COLOURS["write"] if kind == FLOOR else OUR_COLOUR


def draw_sessions(cells: Cells) -> Figure | None:
    """The throughput of our server against the number of sessions that call it."""
    points: dict[str, list[tuple[int, list[float]]]] = {}
    for cell in cells.values():
        if (found := re.fullmatch(r"(\d+) sessions?, (.+)", cell.name)) and cell.samples:
            rates = [cell.count / sample for sample in cell.samples[OURS]]
            points.setdefault(found[2], []).append((int(found[1]), rates))
    if not points:
        return None
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    for colour, (transport, known) in zip(LINES, points.items(), strict=False):
        known.sort()
        sessions = [count for count, _ in known]
        axes.plot(
            sessions, [statistics.median(r) for _, r in known], "o-", color=colour, label=transport, ms=4
        )
        axes.fill_between(
            sessions, [min(r) for _, r in known], [max(r) for _, r in known], color=colour, alpha=0.15
        )
    axes.set_xscale("log")
    ticks = sorted({count for known in points.values() for count, _ in known})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlabel("sessions (log scale)")
    axes.set_ylabel("notifications a second, all together")
    axes.set_title("one server, many sessions", loc="left")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False)
    return figure


FIGURES: dict[str, Callable[[Cells], Figure | None]] = {
    "bursts": draw_bursts,
    "strict-bursts": draw_strict,
    "fan-out": draw_fans,
    "echo-calls": draw_echoes,
    "server-cost": draw_cost,
    "latency": draw_latency,
    "slow-handlers": draw_slow,
    "reporting": draw_reporting,
    "many-sessions": draw_sessions,
}


def draw_all(cells: Sequence[Cell], out: Path, kind: str) -> list[str]:
    """Write all figures that can be drawn into the directory, and return the names of the files."""
    known = {cell.name: cell for cell in cells}
    written = []
    for name, draw in FIGURES.items():
        if figure := draw(known):
            figure.savefig(out / f"{name}.{kind}", metadata={"Date": None} if kind == "svg" else None)
            written.append(f"{name}.{kind}")
    return written
