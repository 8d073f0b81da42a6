"""What all Python contestants share: the work of a tool, and the handlers that count its updates.

Needs only the standard library, since it runs in the environments of other SDKs.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

MESSAGE = "working"

Report = Callable[[float, float, str], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]


async def report_burst(report: Report, n: int) -> None:
    """Report n updates in a tight loop."""
    for i in range(n):
        await report(i + 1, n, MESSAGE)


async def report_paced(report: Report, sleep: Sleep, n: int, rate: float) -> None:
    """Report n updates at `rate` a second, each with the time as its message."""
    start = time.monotonic()
    for i in range(n):
        early = start + i / rate - time.monotonic()
        if early > 0:
            await sleep(early)
        await report(i + 1, n, str(time.monotonic_ns()))


async def time_reports(report: Callable[[float, float], Awaitable[None]], n: int) -> str:
    """Report n updates in a tight loop; return the processor time of the loop, and n."""
    begin = time.process_time()
    for i in range(n):
        await report(i + 1, n)
    return f"{time.process_time() - begin} {n}"


class Tally:
    """Counts the updates of one burst, and checks that each is whole and in order."""

    def __init__(self, expected: int, on_complete: Callable[[], None]) -> None:
        self.expected = expected
        self.on_complete = on_complete
        self.count = 0
        self.correct = True
        self.finished_at = 0.0

    async def update(self, progress: float, total: float | None, message: str | None) -> None:
        self.count += 1
        if progress != self.count or total != self.expected or message != MESSAGE:
            self.correct = False
        self.finish()

    def finish(self) -> None:
        if self.count == self.expected:
            self.finished_at = time.perf_counter()
            self.on_complete()


class Ascent(Tally):
    """Waits for the last of n steps; one update may cover several steps."""

    def __init__(self, expected: int, on_complete: Callable[[], None]) -> None:
        super().__init__(expected, on_complete)
        self.reached = 0.0

    async def update(self, progress: float, total: float | None, message: str | None) -> None:
        self.count += 1
        if progress < self.reached:
            self.correct = False
        self.reached = progress
        self.finish()

    def finish(self) -> None:
        if self.reached == self.expected:
            self.finished_at = time.perf_counter()
            self.on_complete()


class SlowTally(Tally):
    """Sleeps on every second update, and counts the handlers that end out of order."""

    SECONDS = 0.002

    def __init__(self, expected: int, on_complete: Callable[[], None], sleep: Sleep) -> None:
        super().__init__(expected, on_complete)
        self.misordered = 0
        self._sleep = sleep
        self._newest = 0.0

    async def update(self, progress: float, total: float | None, message: str | None) -> None:
        await self._sleep(self.SECONDS if progress % 2 else 0)
        self.count += 1
        self.misordered += progress < self._newest
        self._newest = max(self._newest, progress)
        if total != self.expected or message != MESSAGE:
            self.correct = False
        self.finish()


class Stopwatch(Tally):
    """Collects the age of each update when its handler begins, in seconds."""

    def __init__(self, expected: int, on_complete: Callable[[], None]) -> None:
        super().__init__(expected, on_complete)
        self.latencies: list[float] = []

    async def update(self, progress: float, total: float | None, message: str | None) -> None:
        self.latencies.append((time.monotonic_ns() - int(message or 0)) / 1e9)
        self.count += 1
        if progress != self.count or total != self.expected:
            self.correct = False
        self.finish()

    def percentiles(self) -> dict[str, Any]:
        ordered = sorted(self.latencies) or [0.0]
        return {name: ordered[int(place * (len(ordered) - 1))] for name, place in PLACES.items()}


PLACES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
