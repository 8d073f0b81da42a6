"""The values of one report of a handler. Knows neither what they change nor how they are sent."""

from __future__ import annotations

from msgspec import Struct


class Report(Struct, frozen=True, gc=False):
    """One report as the handler made it.

    It is not a tuple, because the garbage collector visits every tuple: in bursts of many calls that
    took a third of a server's time. Numbers and text cannot form a cycle.
    """

    progress: float
    total: float | None
    message: str | None
