"""What one report of a handler says. Knows neither what it changes nor how it travels."""

from __future__ import annotations

from msgspec import Struct


class Report(Struct, frozen=True, gc=False):
    """One report as the handler made it.

    No tuple: a burst of many calls has so many of them that the collector, which looks at every
    tuple, took a third of a server's time. Numbers and text need it not.
    """

    progress: float
    total: float | None
    message: str | None
