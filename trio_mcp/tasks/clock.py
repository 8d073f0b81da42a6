"""Wall-clock times that follow Trio's clock.

Owns the one conversion between the two, so that a test with a MockClock sees
tasks age with its clock.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import trio

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class TaskClock:
    """Gives times in UTC, counted by Trio's clock from the moment at which it was made."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._wall_microseconds = (self._wall - _EPOCH) // _MICROSECOND
        self._start = trio.current_time()

    def now(self) -> datetime:
        """The present time, aware and in UTC."""
        return self.at(trio.current_time())

    def at(self, seconds: float) -> datetime:
        """The time in UTC at which Trio's clock shows `seconds`."""
        return self._wall + timedelta(microseconds=self._since_start(seconds))

    def microseconds_at(self, seconds: float) -> int:
        """The same as a number: microseconds since 1970."""
        return self._wall_microseconds + self._since_start(seconds)

    def seconds_at(self, moment: datetime) -> float:
        """What Trio's clock shows at `moment`, which may be before its start."""
        return self._start + (moment - self._wall).total_seconds()

    def seconds_at_microseconds(self, microseconds: int) -> float:
        """The same of microseconds since 1970."""
        return self._start + (microseconds - self._wall_microseconds) / 1_000_000

    def _since_start(self, seconds: float) -> int:
        return round((seconds - self._start) * 1_000_000)

    def seconds_until(self, moment: datetime) -> float:
        """The seconds until `moment`; negative if it is past."""
        return (moment - self.now()).total_seconds()
