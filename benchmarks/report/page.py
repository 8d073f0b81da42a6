"""The page of a report, in Markdown: the facts of a run, its targets, its plots and its tables.

Knows neither processes nor how a plot is drawn.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cells.cell import Cell
from report.scores import HEAD, read_lines, tables

HEADINGS = {len(HEAD): "Ratios", 3: "What has no ratio"}

INTRODUCTION = """# Benchmark report

Made by `benchmarks/write_report.py` from the lines of one run; [benchmarks.md](../benchmarks.md) says how
it is measured and what is not claimed. Median (min-max) of {rounds} rounds. `ratio` is that of the medians,
`round by round` the median of the ratios in a round (min-max): how many times as fast, or how many times
less of it, as the other.

{score}
"""


def markdown(table: list[list[str]]) -> list[str]:
    head, *body = table
    rule = ["---"] * len(head)
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]


def sentence_of_targets(cells: Iterable[Cell]) -> str:
    """A sentence that says how many targets are met, and which are not."""
    verdicts = [
        (row[0], row[2], row[-1])
        for table in tables(cells)
        if len(table[0]) == len(HEAD)
        for row in table[1:]
        if row[-1]
    ]
    missed = [f"{cell} beside {rival}" for cell, rival, verdict in verdicts if verdict != "met"]
    ending = f" Not met: {'; '.join(missed)}." if missed else ""
    return f"Of {len(verdicts)} targets, {len(verdicts) - len(missed)} are met.{ending}"


def facts_of(facts: dict[str, Any]) -> list[str]:
    machine = facts["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return [
        f"- Machine: {machine['cpus']} CPUs, {machine['processor']}, {machine['system']}",
        f"- Python {machine['python']}; {versions}",
        f"- Started {facts['started']}, set {facts['options']['set']}; the load average was"
        f" {machine['load_before']}, which is what others had to do on the machine before",
    ]


def write_report(facts: dict[str, Any], cells: list[Cell], plots: list[str], out: Path) -> Path:
    rounds = facts["options"]["rounds"]
    lines = [INTRODUCTION.format(rounds=rounds, score=sentence_of_targets(cells)), *facts_of(facts), ""]
    for plot in plots:
        lines += [f"![{Path(plot).stem.replace('-', ' ')}]({plot})", ""]
    for table in tables(cells):
        lines += [f"## {HEADINGS[len(table[0])]}", "", *markdown(table), ""]
    path = out / "report.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    return path


def read_runs(paths: Iterable[Path]) -> tuple[dict[str, Any], list[Cell]]:
    first: dict[str, Any] = {}
    cells: dict[str, Cell] = {}
    for path in paths:
        facts, more = read_lines(path)
        first = first or facts
        cells |= {cell.name: cell for cell in more if cell.samples}
    return first, list(cells.values())
