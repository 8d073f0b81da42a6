"""One request that a server is working on.

Owns its scope, its progress, its log threshold and its state. Knows the session
only as far as a handler may ask for it.
"""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

import attrs
import trio
from msgspec import UNSET

from trio_mcp.outgoing.call_queue import CallQueue
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.schema.flaws import encode_json
from trio_mcp.session.connection import ServerConnection
from trio_mcp.wire.codec import UNENCODABLE, encode_value
from trio_mcp.wire.eras import Era
from trio_mcp.wire.frames import Notification, RequestId
from trio_mcp.wire.handshake import RequestMeta
from trio_mcp.wire.messages import LOGGING_LEVELS, LoggingLevel, LogParams, Params

DEFAULT_LOG_LEVEL: LoggingLevel = "info"
"""What a legacy client receives until it sets a level (MCP logging lets the server decide)."""


MARGIN_SHARE: Final = 0.1
"""What of the time that a client gives is kept for the answer, where the margin would be more than that."""


@attrs.define
class SessionData:
    """What a legacy session keeps between its requests."""

    log_level: LoggingLevel = DEFAULT_LOG_LEVEL
    state: dict[str, Any] = attrs.field(factory=dict)


class RunningTask(Protocol):
    """What a request knows of the background task that it has become."""

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""

    @property
    def related_meta(self) -> dict[str, Any] | None:
        """What its messages carry in `_meta`, or None."""


@attrs.define(eq=False)
class ServerRequest:
    """A request in flight; `session` is None in eras that have no sessions.

    `task` is the background task that the request has become, if it has. Where its
    progress token outlives the answer, `call_queue` is then the task's. `deadline` is when its
    handler is cancelled because the client will give up, on Trio's clock; infinity for never.
    """

    id: RequestId
    method: str
    era: Era
    params: Params
    meta: RequestMeta
    call_queue: CallQueue
    progress: ProgressReporter
    connection: ServerConnection
    session: SessionData | None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    state: dict[str, Any] = attrs.field(factory=dict)
    withdrawn: bool = False
    task: RunningTask | None = None
    deadline: float = math.inf

    @property
    def is_over(self) -> bool:
        """Whether nothing that its handler says is of use any more."""
        return self.call_queue.closed if self.task is None else self.task.is_final

    @property
    def log_level(self) -> LoggingLevel | None:
        """The least level that the client wants to see, or None where it wants no logs."""
        return self.meta.log_level if self.session is None else self.session.log_level

    def wants_log(self, level: LoggingLevel) -> bool:
        """Whether a log message of `level` would be sent."""
        threshold = None if self.call_queue.closed else self.log_level
        return threshold is not None and LOGGING_LEVELS.index(level) >= LOGGING_LEVELS.index(threshold)

    def put_log(self, level: LoggingLevel, data: Any, logger: str | None) -> None:
        """Queue a log message behind what is pending of this request (MCP logging)."""
        related = None if self.task is None else self.task.related_meta
        meta = UNSET if related is None else related
        try:
            params = encode_value(LogParams(level=level, data=encode_json(data), logger=logger, meta=meta))
        except UNENCODABLE as error:
            raise ValueError(f"a log message must be JSON: {error}") from None
        self.call_queue.put(Notification("notifications/message", params))

    def expire_after(self, seconds: float, margin: float) -> None:
        """Cancel the handler `margin` seconds before `seconds` have passed, when the client gives up."""
        self.deadline = trio.current_time() + seconds - min(margin, seconds * MARGIN_SHARE)
        self.scope.deadline = self.deadline

    def lift_deadline(self) -> None:
        """Let the handler run on, because nobody waits for it any more: it is a background task."""
        self.deadline = self.scope.deadline = math.inf

    def withdraw(self) -> None:
        """Stop working on the request: its client no longer wants an answer."""
        self.withdrawn = True
        self.call_queue.withdraw()
        self.scope.cancel()
