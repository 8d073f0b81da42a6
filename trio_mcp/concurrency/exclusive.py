"""One task at a time in each direction of a transport.

Owns the check that two tasks do not use one direction; see `FrameTransport`. Refuses to know the transport.
"""

from __future__ import annotations

from types import TracebackType

import trio


class Exclusive:
    """A context manager that only one task may be in; raises `trio.BusyResourceError` for a second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._held = False

    def __enter__(self) -> None:
        if self._held:
            raise trio.BusyResourceError(f"another task is {self._what} this transport")
        self._held = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = False
