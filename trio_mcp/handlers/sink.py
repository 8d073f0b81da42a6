"""The kinds of progress handlers: plain callables, and sinks that get records, stages and the end of a call.

Owns the record of an update, and when a sink is opened and closed. Refuses to know how updates wait
for their handler: that is the matter of the client's `PendingCall`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import attrs

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.progress.estimator import Estimator
from trio_mcp.wire.frames import StageState

logger = logging.getLogger("trio_mcp.handlers")

ProgressHandler: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None] | None]
"""Called as `handler(progress, total, message)`; sync or async, never twice at once."""


@attrs.frozen
class Progress:
    """One update of the progress of a call.

    `progress`, `total` and `message` are the values that a plain handler gets. `stages` are the
    stages that were open then, at most 16, in the order in which they were opened, each
    before its own stages; empty if there are none, or if the server does not use trio_mcp.
    """

    progress: float
    total: float | None = None
    message: str | None = None
    stages: tuple[StageState, ...] = ()
    _estimator: Estimator | None = attrs.field(default=None, eq=False, repr=False, alias="estimator")

    @property
    def rate(self) -> float | None:
        """The progress per second as of the newest update that has arrived, or None if it is not known."""
        return None if self._estimator is None else self._estimator.rate

    @property
    def eta(self) -> float | None:
        """The seconds that are left as of that update; None without a total or a rate."""
        return None if self._estimator is None else self._estimator.eta

    @property
    def share(self) -> float | None:
        """The part that is done, from 0 to 1; None without a total."""
        if self.total is None or self.total <= 0:
            return None
        return min(max(self.progress / self.total, 0.0), 1.0)


ProgressReceiver: TypeAlias = Callable[[Progress], Awaitable[None] | None]
"""Called with each update of one call; sync or async, never twice at once."""


class ProgressSink(ABC):
    """A progress handler that is opened for each call, and gets its updates as `Progress` records.

    It is accepted wherever a progress handler is. One sink may serve several calls at once.
    """

    @abstractmethod
    def open_call(self, tool: str) -> AbstractAsyncContextManager[ProgressReceiver]:
        """Return an async context manager for a call of `tool`; it yields the receiver of the updates.

        It is left when the receiver has finished with the last update, and before the
        call returns or raises; an exception of the call passes through it. What it raises
        itself then is logged. If a task's result is waited for more than once, each wait
        opens it.
        """


@attrs.frozen
class Receiver:
    """The receiver of one call; this type distinguishes it from a plain handler."""

    receive: ProgressReceiver


Handler: TypeAlias = ProgressHandler | ProgressSink | Receiver
"""Every kind of progress handler; a sink must be opened before it gets updates."""


class _Detailed(ProgressSink):
    def __init__(self, receive: ProgressReceiver) -> None:
        self._receive = receive

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        yield self._receive


def detailed(receive: ProgressReceiver) -> ProgressSink:
    """Make a progress handler of `receive(progress)`, sync or async, which gets `Progress` records.

    Raises TypeError if `receive` cannot be called.
    """
    if not callable(receive):
        raise TypeError(f"a receiver of progress must be callable, not {receive!r}")
    return _Detailed(receive)


def as_handler(value: Any) -> ProgressHandler | ProgressSink | None:
    """Return `value` if it is a progress handler or None; raises TypeError otherwise."""
    if value is None or callable(value) or isinstance(value, ProgressSink):
        return value  # type: ignore[no-any-return]  # callable is all that can be checked
    raise TypeError(f"a progress handler must be callable or a ProgressSink, not {value!r}")


def as_sink(handler: ProgressHandler | ProgressSink) -> ProgressSink:
    """Return a sink that passes updates to `handler`; raises TypeError if that is not a progress handler."""
    checked = as_handler(handler)
    if isinstance(checked, ProgressSink):
        return checked
    if checked is None:
        raise TypeError("a progress handler must be callable or a ProgressSink, not None")
    return _Detailed(lambda update: checked(update.progress, update.total, update.message))


@asynccontextmanager
async def open_handler(handler: Handler | None, tool: str) -> AsyncIterator[Handler | None]:
    """Open `handler` for one wait, if it is a sink; an exception of the sink at the end is logged.

    Checkpoints if the sink does.
    """
    if not isinstance(handler, ProgressSink):
        yield handler
        return
    raised: BaseException | None = None
    is_open = False
    try:
        async with handler.open_call(tool) as receive:
            is_open = True
            try:
                yield Receiver(receive)
            except BaseException as error:  # noted, to tell it from the sink's own, and raised again
                raised = error
                raise
    except BaseException as error:  # noqa: ASYNC103  # a user's sink may raise anything
        if not is_open:
            raise
        if error is not raised:
            contain_failure(error, "a progress sink", logger, "failed at the end of a call")
    if raised is not None:
        raise raised
