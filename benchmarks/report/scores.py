"""Turns samples into tables: medians, ranges, ratios, and the targets that are met.

The run prints these tables, and the report makes them again from the lines of a run. Knows nothing of
processes.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cells.cell import OURS, Cell

HEAD = ["cell", OURS, "beside", "", "ratio", "round by round", "target", ""]
FACTS_HEAD = ["cell", "contestant", ""]

# By unit: the factor from a sample (in seconds or bytes) to it, and the number of digits to show.
UNITS = {"ms": (1000, 1), "us": (1_000_000, 0), "ns": (1e9, 0), "bytes": (1, 0), "MB": (1e-6, 1), "": (1, 0)}


def belongs(contestant: str, rival: str) -> bool:
    """Whether a target for `rival` also is one for the contestant."""
    return contestant == rival or contestant.startswith(f"{rival} ")


def find_target(cell: Cell, contestant: str) -> float | None:
    """The target beside this contestant; None if it has none, or another backend of the rival is better."""
    for rival, target in cell.targets.items():
        if belongs(contestant, rival):
            backends = [name for name in cell.samples if belongs(name, rival)]
            best = min(backends, key=lambda name: statistics.median(cell.samples[name]))
            return target if contestant == best else None
    return None


def ratio_of(theirs: float, ours: float) -> float:
    return theirs / ours if ours else float("inf")


def show(cell: Cell, samples: Sequence[float]) -> str:
    """The median and the range."""
    if cell.count:
        middle, *ends = (cell.count / f(samples) for f in (statistics.median, max, min))
        return f"{middle:,.0f}/s ({ends[0]:,.0f}-{ends[1]:,.0f})"
    scale, digits = UNITS[cell.unit]
    middle, *ends = (scale * f(samples) for f in (statistics.median, min, max))
    return f"{middle:,.{digits}f} {cell.unit} ({ends[0]:,.{digits}f}-{ends[1]:,.{digits}f})".replace(
        "  ", " "
    )


def rows(cell: Cell) -> list[list[str]]:
    """A row for each rival, or a single one if there are no rivals."""
    ours = cell.samples[OURS]
    rivals = [contestant for contestant in cell.samples if contestant != OURS]
    if not rivals:
        return [[cell.name, show(cell, ours), *[""] * (len(HEAD) - 2)]]
    return [row(cell, rival, ours) for rival in rivals]


def row(cell: Cell, rival: str, ours: list[float]) -> list[str]:
    theirs = cell.samples[rival]
    ratio = ratio_of(statistics.median(theirs), statistics.median(ours))
    pairs = [ratio_of(*pair) for pair in zip(theirs, ours, strict=False)]
    target = find_target(cell, rival)
    return [
        cell.name,
        show(cell, ours),
        rival,
        show(cell, theirs),
        f"{ratio:.2f}x",
        f"{statistics.median(pairs):.2f}x ({min(pairs):.2f}-{max(pairs):.2f})",
        "" if target is None else f"{target:.3g}x",
        "" if target is None else ("met" if ratio >= target else "MISSED"),
    ]


def fact_rows(cell: Cell) -> list[list[str]]:
    return [[cell.name, contestant, show(cell, samples)] for contestant, samples in cell.samples.items()]


def tables(cells: Iterable[Cell]) -> list[list[list[str]]]:
    """The table of ratios and the table of facts, each with its head; one without rows is left out."""
    taken = [cell for cell in cells if cell.samples]
    ratios = [row for cell in taken if not cell.is_fact and OURS in cell.samples for row in rows(cell)]
    facts = [row for cell in taken if cell.is_fact for row in fact_rows(cell)]
    return [[head, *body] for head, body in ((HEAD, ratios), (FACTS_HEAD, facts)) if body]


def print_table(table: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        print("  ".join(text.ljust(width) for text, width in zip(cells, widths, strict=True)).rstrip())


def read_lines(path: Path) -> tuple[dict[str, Any], list[Cell]]:
    """The facts of a run, and its cells with their samples."""
    first, *rest = (json.loads(line) for line in path.read_text().splitlines())
    cells = {known["name"]: Cell(samplers={}, **known) for known in first.pop("cells")}
    for sample in rest:
        cells[sample["cell"]].samples.setdefault(sample["contestant"], []).append(sample["value"])
    return first, list(cells.values())
