"""Compares two versions of trio_mcp, interleaved in one run.

Each round starts the processes of both versions anew, because two processes of one version can differ by a
few percent for as long as they live. Each cell is then sampled from one version and right afterwards from the
other; which of them comes first alternates by round. A ratio compares the two samples of one round.

Owns how the versions take turns, and the table of their ratios. Knows nothing of what the cells measure.
Facts, which have no ratio, are left out, and so are cells that compare a number of trio_mcp with itself.
"""

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from cells.cell import OURS, Cell, Keep, show_round, take_round
from cells.checkout import Checkout
from cells.worker import Worker
from report.scores import ratio_of, show

Contest = tuple[list[Cell], dict[str, Worker]]
Collect = Callable[[Checkout, ExitStack], Contest]
"""Makes the cells of a version and starts their workers, which the stack stops when it closes."""

HERE, THERE = "this", "other"
HEAD = ["cell", HERE, THERE, "better is", "ratio, round by round"]
NOTES = """
Median (min-max) of the rounds. A ratio compares the two samples of one round: how many times as fast this
version is as the other, or how many times less this version takes. 1.00 or more is good in every cell, also
where less is better."""


def take_rounds_beside(
    collect: Collect, this: Checkout, other: Checkout, rounds: int, keep: Keep
) -> tuple[list[Cell], list[Worker]]:
    """The cells with the samples of both versions, and all workers that took part (they have ended)."""
    versions = {HERE: this, THERE: other}
    cells: dict[str, Cell] = {}
    all_workers: list[Worker] = []
    for number in range(rounds):
        show_round(number, rounds)
        order = [HERE, THERE] if number % 2 == 0 else [THERE, HERE]
        with ExitStack() as stack:
            contests = {name: collect(versions[name], stack) for name in order}
            for name in order:
                workers = contests[name][1]
                all_workers += workers.values()
                for worker in workers.values():
                    worker.wait_ready()
            table = pair_cells({name: contests[name][0] for name in order})
            take_round(table, number, keep)
        for cell in table:
            known = cells.setdefault(cell.name, replace(cell, samples={}))
            for name, samples in cell.samples.items():
                known.samples.setdefault(name, []).extend(samples)
    return list(cells.values()), all_workers


def pair_cells(cells: dict[str, list[Cell]]) -> list[Cell]:
    """One cell for each that both versions have and that has a ratio; its samplers keep the given order."""
    first, second = cells
    twins = {cell.name: cell for cell in cells[second]}
    paired = []
    for cell in cells[first]:
        twin = twins.get(cell.name)
        if twin is not None and not cell.is_fact:
            samplers = {first: cell.samplers[OURS], second: twin.samplers[OURS]}
            paired.append(Cell(cell.name, samplers, {}, cell.count, cell.unit))
    return paired


def ratios_of(cell: Cell) -> list[float]:
    """A ratio for each round. A sample is a time or an amount, also in cells that show a rate."""
    pairs = zip(cell.samples[THERE], cell.samples[HERE], strict=True)
    return [ratio_of(theirs, ours) for theirs, ours in pairs]


def has_pairs(cell: Cell) -> bool:
    counts = {len(cell.samples.get(name, ())) for name in (HERE, THERE)}
    return len(counts) == 1 and counts != {0}


def beside_table(cells: list[Cell]) -> list[list[str]]:
    table = [HEAD]
    for cell in cells:
        if has_pairs(cell):
            ratios = ratios_of(cell)
            middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
            here, there = (show(cell, cell.samples[name]) for name in (HERE, THERE))
            direction = "more" if cell.count else "less"
            table.append([cell.name, here, there, direction, f"{middle:.3f}x ({least:.2f}-{most:.2f})"])
    return table


def lowest(cells: list[Cell]) -> str:
    """A sentence that names the cell with the lowest ratio, and those that lack a sample."""
    medians = {cell.name: statistics.median(ratios_of(cell)) for cell in cells if has_pairs(cell)}
    missing = [cell.name for cell in cells if not has_pairs(cell)]
    worst = min(medians, key=lambda name: medians[name])
    without = f" A sample is missing in: {'; '.join(missing)}." if missing else ""
    return f"The lowest of {len(medians)} ratios is {medians[worst]:.3f}x: {worst}.{without}"
