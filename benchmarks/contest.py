"""What the benchmarks share: the processes that are measured, and the cells that are filled in.

This file needs only the standard library; every contestant runs in processes of its own.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

OURS = "trio_mcp"
ANSWER_DEADLINE = 180
HEAD = ["cell", OURS, "beside", "", "faster", "pair by pair", "target", ""]

# By unit: how many of it are in one second (or in one byte), and the digits that matter.
UNITS = {"ms": (1000, 1), "us": (1_000_000, 0), "bytes": (1, 0)}

# An installed package runs from compiled files, and so does what is measured.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

Sampler = Callable[[], float]


class Worker:
    """A client that stays connected, in a process of its own, and measures what it is asked to."""

    def __init__(self, name: str, command: Sequence[str | Path], *, quiet: bool = False) -> None:
        self.name = name
        self.faults: list[str] = []
        self.late = 0
        self.last: dict[str, Any] = {}
        self._stderr = TemporaryFile() if quiet else None  # noqa: SIM115  # as long as the process
        self._process = start(command, self._stderr)
        self.hello: dict[str, Any] = {}

    def wait_ready(self) -> None:
        self.hello = self._read()

    def measure(self, what: str, n: int) -> float:
        """Seconds that it took; a miscount is kept in `faults`, for the exit status."""
        assert self._process.stdin
        self._process.stdin.write(f"{what} {n}\n")
        self._process.stdin.flush()
        sample = self.last = self._read()
        self.late += sample["late"]
        if sample["count"] != n:
            self.faults.append(f"{self.name}: {what} {n} delivered {sample['count']}")
        elif not sample["correct"]:
            self.faults.append(f"{self.name}: {what} {n} arrived out of order or not whole")
        return float(sample["seconds"])

    def close(self) -> None:
        stop(self._process)
        if self._stderr:
            self._stderr.close()

    def _read(self) -> Any:
        line = read_line(self._process)
        if not line:
            if self._stderr:
                self._stderr.seek(0)
                sys.stderr.buffer.write(self._stderr.read())
            raise SystemExit(f"{self.name} gave no answer")
        return json.loads(line)


def start(command: Sequence[str | Path], stderr: IO[bytes] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=ENVIRONMENT
    )


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    # Killing it ends the read, which has no time limit of its own.
    watchdog = threading.Timer(ANSWER_DEADLINE, process.kill)
    watchdog.start()
    try:
        return process.stdout.readline()
    finally:
        watchdog.cancel()


def stop(process: "subprocess.Popen[str]") -> None:
    with process:
        assert process.stdin
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


@dataclass
class Cell:
    """One thing that is measured, by us and by each rival."""

    name: str
    samplers: dict[str, Sampler]
    targets: dict[str, float]
    """By rival: how many times faster than it we mean to be, at least; below 1, how much slower at most."""
    count: int = 0
    """Units of work in one sample, for a rate; 0 where the sample itself is what matters."""
    unit: str = "ms"
    """What a sample is shown in, where there is no rate."""
    best_rival_only: bool = False
    """The rivals are one implementation's backends, and the target is against the fastest."""
    samples: dict[str, list[float]] = field(default_factory=dict)

    def take(self, keep: bool) -> None:
        for contestant, sample in self.samplers.items():
            seconds = sample()
            if keep:
                self.samples.setdefault(contestant, []).append(seconds)

    @property
    def rivals(self) -> list[str]:
        return [contestant for contestant in self.samplers if contestant != OURS]

    def rows(self) -> list[list[str]]:
        ours = self.samples[OURS]
        if not self.rivals:
            return [[self.name, self._spread(ours), *[""] * (len(HEAD) - 2)]]
        fastest = min(self.rivals, key=lambda rival: statistics.median(self.samples[rival]))
        rows = []
        for rival in self.rivals:
            theirs = self.samples[rival]
            ratio = statistics.median(theirs) / statistics.median(ours)
            pairs = [their / our for their, our in zip(theirs, ours, strict=True)]
            target = None if self.best_rival_only and rival != fastest else self.targets.get(rival)
            rows.append(
                [
                    self.name,
                    self._spread(ours),
                    rival,
                    self._spread(theirs),
                    f"{ratio:.2f}x",
                    f"{statistics.median(pairs):.2f}x ({min(pairs):.2f}-{max(pairs):.2f})",
                    "" if target is None else f"{target:g}x",
                    "" if target is None else ("met" if ratio >= target else "MISSED"),
                ]
            )
        return rows

    def _spread(self, samples: list[float]) -> str:
        if self.count:
            middle, *ends = (self.count / f(samples) for f in (statistics.median, max, min))
            return f"{middle:,.0f}/s ({ends[0]:,.0f}-{ends[1]:,.0f})"
        scale, digits = UNITS[self.unit]
        middle, *ends = (scale * f(samples) for f in (statistics.median, min, max))
        return f"{middle:,.{digits}f} {self.unit} ({ends[0]:,.{digits}f}-{ends[1]:,.{digits}f})"


def take_rounds(table: Sequence[Cell], warm_ups: int, rounds: int) -> None:
    """Take one sample of every cell in each round; those of the first rounds are thrown away."""
    for round_ in range(-warm_ups, rounds):
        if sys.stderr.isatty():
            print(f"\rround {round_ + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for cell in table:
            cell.take(keep=round_ >= 0)


def print_facts(facts: dict[str, Any]) -> None:
    print("\n".join(f"{name}: {json.dumps(value).strip(chr(34))}" for name, value in facts.items()), "\n")


def print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [HEAD, *rows]) for i in range(len(HEAD))]
    for row in [HEAD, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def report_faults(workers: Iterable[Worker]) -> int:
    """Print what was delivered wrongly; the exit status."""
    faults = [fault for worker in workers for fault in worker.faults]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0
