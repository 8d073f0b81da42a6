"""What the benchmarks share: the processes that are measured, and the cells that are filled in.

This file needs only the standard library; every contestant runs in processes of its own. How samples
become tables is `scores.py`'s.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Any

from checkout import Command

OURS = "trio_mcp"
ANSWER_DEADLINE = 180
WARM_SECONDS = 0.1

Sampler = Callable[[], float | None]
"""Takes a sample; None where it is not told."""

Keep = Callable[[dict[str, Any]], None]
"""Is handed each sample, as an object for JSON."""


class LostWorker(SystemExit):
    """A worker that has ended; a run goes on without it, and fails in the end."""


class Worker:
    """A client that stays connected, in a process of its own, and measures what it is asked to.

    `warm_up` is a measurement, what and how much, that is made and thrown away before the rounds. A
    contestant that is known to lose updates is `lossy`: that is told, and is no fault of the benchmark.
    """

    def __init__(
        self,
        name: str,
        command: Command,
        *,
        quiet: bool = False,
        warm_up: tuple[str, int] | None = None,
        lossy: bool = False,
    ) -> None:
        self.name = name
        self.faults: list[str] = []
        self.lost = 0
        self._lossy = lossy
        self.last: dict[str, Any] = {}
        self.seconds = 0.0
        """Of the last measurement."""
        self._warm_up = warm_up
        self._stderr = TemporaryFile() if quiet else None  # noqa: SIM115  # as long as the process
        self._process = start(command, self._stderr)
        self.hello: dict[str, Any] = {}

    def wait_ready(self) -> None:
        self.hello = self._read()
        if self._warm_up:
            self.measure(*self._warm_up)

    def measure(self, what: str, n: int) -> float:
        """Seconds that it took for as many as were delivered; a miscount is kept in `faults`."""
        assert self._process.stdin
        try:
            self._process.stdin.write(f"{what} {n}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise LostWorker(f"{self.name} has ended") from None
        sample = self.last = self._read()
        self.seconds = float(sample["seconds"])
        if self._lossy and sample["count"] < n:
            self.lost += n - sample["count"]
            self.seconds *= n / max(sample["count"], 1)
        elif sample["count"] != n:
            self.faults.append(f"{self.name}: {what} {n} delivered {sample['count']}")
        elif not sample["correct"]:
            self.faults.append(f"{self.name}: {what} {n} arrived out of order or not whole")
        return self.seconds

    def measure_warm(self, what: str, n: int, fewest: int = 1) -> float:
        """As `measure`, behind as much unmeasured work as wakes a process that has waited for its turn.

        That is a tenth of the same, at least `fewest`, and again until `WARM_SECONDS` have passed.
        """
        begin = time.perf_counter()
        while True:
            self.measure(what, max(n // 10, fewest))
            if time.perf_counter() - begin >= WARM_SECONDS:
                return self.measure(what, n)

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
            self.faults.append(f"{self.name} gave no answer")
            raise LostWorker(self.faults[-1])
        return json.loads(line)


def start(command: Command, stderr: IO[bytes] | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command.arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=command.directory,
        env=command.environment,
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
        with suppress(BrokenPipeError):  # what was asked of a worker that has ended
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


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


def report_faults(workers: Iterable[Worker]) -> int:
    """Print what was lost, and what was delivered wrongly; the exit status."""
    faults = []
    for worker in workers:
        if worker.lost:
            print(f"{worker.name}: {worker.lost:,} updates never reached their handlers.")
        faults += worker.faults
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0
