"""What an upstream server sends during one request: updates of its progress, and log messages, in order.

Owns that each is handed on in its place. Updates wait for whoever makes the request, while a log message
comes at once; so it is kept until those before it were reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from trio_mcp.client.pending_call import PendingCall
from trio_mcp.handlers.sink import Progress, ProgressSink, detailed
from trio_mcp.wire.messages import LogParams

MAX_LOGGED: Final = 256
"""How many log messages wait for updates before them; beyond that the oldest is handed on before its turn."""


class Relay:
    """Hands on the updates of one request by `report`, and its log messages by `put_log`.

    Without a `report`, nobody wants to see its progress.
    """

    __slots__ = ("_logged", "_pending", "_put_log", "_report", "_taken", "sink")

    def __init__(
        self, report: Callable[[Progress], Awaitable[None]] | None, put_log: Callable[[LogParams], None]
    ) -> None:
        self._report = report
        self._put_log = put_log
        self._pending: PendingCall | None = None
        self._taken = 0  # updates that were handed on, or are being
        self._logged: deque[tuple[int, LogParams]] = deque()
        self.sink: ProgressSink | None = None if report is None else detailed(self._receive)

    def begin(self, call: PendingCall) -> None:
        """Note that a request was sent, for which `call` waits."""
        self._pending = call

    def take_log(self, message: LogParams) -> None:
        """Hand on a log message in its place; never waits."""
        queued = 0 if self._pending is None else self._pending.queued
        if not queued and not self._logged:
            self._put_log(message)
            return
        self._logged.append((self._taken + queued, message))
        if len(self._logged) > MAX_LOGGED:
            self._put_log(self._logged.popleft()[1])

    def finish(self) -> None:
        """Hand on what is left, because all updates were."""
        while self._logged:
            self._put_log(self._logged.popleft()[1])

    def _receive(self, update: Progress) -> Awaitable[None]:
        while self._logged and self._logged[0][0] <= self._taken:
            self._put_log(self._logged.popleft()[1])
        self._taken += 1
        assert self._report is not None, "updates are wanted"
        return self._report(update)
