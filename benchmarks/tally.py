"""What both sides of the benchmark share: the burst's message, and the handler that counts it."""

import time
from collections.abc import Callable

MESSAGE = "working"

FAN_CALLS = 100
"""Calls at once in a fan-out."""


class Tally:
    """Counts the updates of one burst, and checks that each is whole and in its place."""

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
        if self.count == self.expected:
            self.finished_at = time.perf_counter()
            self.on_complete()
