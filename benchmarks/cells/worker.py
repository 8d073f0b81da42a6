"""A worker: a client in a process of its own that takes measurements when it is asked to.

Owns the worker's process, the exchange of a line for a line with it, and the list of what it delivered
wrongly. Knows nothing of cells. Needs only the standard library.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO, Any

from cells.checkout import Command

ANSWER_DEADLINE = 180
WARM_SECONDS = 0.3
"""Long enough that a process has had its first full garbage collection, which stops it for about 10 ms. After
0.1 seconds it fell into the sample of one version and overlapped with the server's in that of another."""


class LostWorker(SystemExit):
    """A worker has ended. The run goes on without it and fails at the end."""


class Worker:
    """A client that stays connected, in a process of its own, and takes the measurements it is asked for.

    `warm_up` names a measurement and its size; it is taken once before the rounds and thrown away. A `lossy`
    contestant is known to lose updates: how many is printed, and the run does not fail. If `quiet`, the
    standard error of the process is shown only if the process fails.
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
        """The time of the last measurement."""
        self._warm_up = warm_up
        self._stderr = TemporaryFile() if quiet else None  # noqa: SIM115  # as long as the process
        self._process = start(command, self._stderr)
        self.hello: dict[str, Any] = {}

    def wait_ready(self) -> None:
        self.hello = self._read()
        if self._warm_up:
            self.measure(*self._warm_up)

    def measure(self, what: str, n: int) -> float:
        """Take a measurement of size `n` and return its seconds; a wrong count is added to `faults`.

        If a lossy contestant delivers less than `n`, the seconds are scaled up to `n`.
        """
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
        """Like `measure`, after unmeasured work that warms a process that has waited for its turn.

        The unmeasured work is a tenth of the same, at least `fewest`, repeated for `WARM_SECONDS`.
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
    # The read has no time limit of its own, and ends if the process is killed.
    watchdog = threading.Timer(ANSWER_DEADLINE, process.kill)
    watchdog.start()
    try:
        return process.stdout.readline()
    finally:
        watchdog.cancel()


def stop(process: "subprocess.Popen[str]") -> None:
    with process:
        assert process.stdin
        with suppress(BrokenPipeError):  # the process has ended and left a request unread
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def report_faults(workers: Iterable[Worker]) -> int:
    """Print what was lost and what was delivered wrongly, and return the exit status."""
    faults = []
    for worker in workers:
        if worker.lost:
            print(f"{worker.name}: {worker.lost:,} updates never reached their handlers.")
        faults += worker.faults
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0
