"""A cell, which is one thing that is measured, and the rounds in which cells are filled.

Knows nothing of what is measured, nor of how samples become tables, which is `report/scores.py`'s. Needs
only the standard library.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cells.worker import LostWorker

OURS = "trio_mcp"

Sampler = Callable[[], float | None]
"""Takes a sample; None where it is not told."""

Keep = Callable[[dict[str, Any]], None]
"""Is handed each sample, as an object for JSON."""


@dataclass
class Cell:
    """One thing that is measured, by us and by each rival."""

    name: str
    """What is measured, and behind a comma the transport, where there is one."""
    samplers: dict[str, Sampler]
    targets: dict[str, float]
    """By rival: how many times less than it we mean to take, at least; below 1, how much more at most.

    A rival here is a contestant, or the first word of several (the backends of one implementation),
    of which the best is the one that counts.
    """
    count: int = 0
    """Units of work in one sample, for a rate; 0 where the sample itself is what matters."""
    unit: str = "ms"
    """What a sample is shown in, where there is no rate: a key of `scores.UNITS`."""
    is_fact: bool = False
    """Nobody is ahead in it, so there is no ratio."""
    samples: dict[str, list[float]] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """All but what is measured, for the first of the lines."""
        return {
            "name": self.name,
            "targets": self.targets,
            "count": self.count,
            "unit": self.unit,
            "is_fact": self.is_fact,
        }


def take_rounds(table: Sequence[Cell], rounds: int, keep: Keep = lambda sample: None) -> None:
    """Take one sample of every cell from every contestant in each round, and hand over each."""
    for number in range(rounds):
        show_round(number, rounds)
        take_round(table, number, keep)


def show_round(number: int, rounds: int) -> None:
    if sys.stderr.isatty():
        print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)


def take_round(table: Sequence[Cell], number: int, keep: Keep) -> None:
    """Take one sample of every cell from every contestant, in the order of its samplers.

    What a sample took is that of all that is done for it, with what does not count.
    """
    for cell in table:
        for contestant, take in cell.samplers.items():
            begin = time.perf_counter()
            try:
                value = take()
            except LostWorker:
                continue
            if value is None:
                continue
            took = time.perf_counter() - begin
            cell.samples.setdefault(contestant, []).append(value)
            sample = {"cell": cell.name, "contestant": contestant, "round": number, "value": value}
            keep({**sample, "took": round(took, 3)})
