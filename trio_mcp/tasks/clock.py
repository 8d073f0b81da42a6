"""Wall-clock times that follow Trio's clock.

Owns the one conversion between the two, so that a test with a MockClock sees
tasks age with its clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio


class TaskClock:
    """Gives times in UTC, counted by Trio's clock from the moment it was made."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._start = trio.current_time()

    def now(self) -> datetime:
        """The present time, aware and in UTC."""
        return self.at(trio.current_time())

    def at(self, seconds: float) -> datetime:
        """The time in UTC at which Trio's clock shows `seconds`."""
        return self._wall + timedelta(seconds=seconds - self._start)

    def seconds_until(self, moment: datetime) -> float:
        """How long it is until `moment`, in seconds; negative where it is past."""
        return (moment - self.now()).total_seconds()
