"""A cell of the table, which is one thing that is measured, and the rounds that take its samples.

Knows neither what is measured nor how samples become tables (`report/scores.py`). Needs only the standard
library.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cells.worker import LostWorker

OURS = "trio_mcp"

Sampler = Callable[[], float | None]
"""Takes a sample: seconds or an amount, so less is better. None if the contestant cannot tell."""

Keep = Callable[[dict[str, Any]], None]
"""Is called with each sample, as an object for JSON."""


@dataclass
class Cell:
    """One thing that is measured, for trio_mcp and for each rival."""

    name: str
    """What is measured, and after a comma the transport if there is one."""
    samplers: dict[str, Sampler]
    targets: dict[str, float]
    """By rival, the ratio that we mean to reach.

    A rival here is a contestant, or the first word of several names (the backends of one implementation),
    of which only the best counts.
    """
    count: int = 0
    """Units of work in one sample, if the table shows a rate; 0 if it shows the sample itself."""
    unit: str = "ms"
    """The unit in which the table shows a sample: a key of `scores.UNITS`."""
    is_fact: bool = False
    """The samples are shown without a ratio, since neither more nor less of it is better."""
    samples: dict[str, list[float]] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """All fields but the samples, as an object for JSON."""
        return {
            "name": self.name,
            "targets": self.targets,
            "count": self.count,
            "unit": self.unit,
            "is_fact": self.is_fact,
        }


def take_rounds(table: Sequence[Cell], rounds: int, keep: Keep = lambda sample: None) -> None:
    """In each round take one sample of every cell from every contestant, and record each."""
    for number in range(rounds):
        show_round(number, rounds)
        take_round(table, number, keep)


def show_round(number: int, rounds: int) -> None:
    if sys.stderr.isatty():
        print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)


def take_round(table: Sequence[Cell], number: int, keep: Keep) -> None:
    """Take one sample of every cell from every contestant, in the order of the cell's samplers.

    `took` is the time of all work for a sample, the unmeasured part included.
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
