"""What takes the progress of calls in all its detail: records, stages, and the end of each call.

Owns the record that is handed over and when a sink is opened and closed. How updates
wait for it is the matter of `PendingCall`, as for plain handlers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import attrs

from trio_mcp.concurrency.failures import contain_failure
from trio_mcp.progress.estimator import Estimator
from trio_mcp.wire.frames import StageState

ProgressHandler: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None] | None]
"""Called as `handler(progress, total, message)`, sync or async, one call at a time."""


@attrs.frozen
class Progress:
    """One update of the progress of a call.

    `progress`, `total` and `message` are what a plain handler gets. `stages` are the
    stages that were open then, at most 16, in the order in which they were opened, each
    before its own; empty where there are none, and where the server is of another make.
    """

    progress: float
    total: float | None = None
    message: str | None = None
    stages: tuple[StageState, ...] = ()
    _estimator: Estimator | None = attrs.field(default=None, eq=False, repr=False, alias="estimator")

    @property
    def rate(self) -> float | None:
        """The progress per second as of the newest update that has come, or None where it is not known."""
        return None if self._estimator is None else self._estimator.rate

    @property
    def eta(self) -> float | None:
        """The seconds that are left as of then; None without a total or a rate."""
        return None if self._estimator is None else self._estimator.eta

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None where there is no total."""
        if self.total is None or self.total <= 0:
            return None
        return min(max(self.progress / self.total, 0.0), 1.0)


ProgressReceiver: TypeAlias = Callable[[Progress], Awaitable[None] | None]
"""Called with each update of one call, sync or async, one call at a time."""


class ProgressSink(ABC):
    """Takes the progress of calls in all its detail; goes wherever a progress handler goes.

    One sink may serve several calls at once.
    """

    @abstractmethod
    def open_call(self, tool: str) -> AbstractAsyncContextManager[ProgressReceiver]:
        """Begin with a call of `tool`: an async context manager that gives the receiver of its updates.

        It is left when the receiver has finished with the last update, and before the
        call returns or raises; what the call raises goes through it. What it raises
        itself then is logged. Where a task's result is waited for more than
        once, each wait opens it.
        """


@attrs.frozen
class Receiver:
    """The receiver of one call: how a `PendingCall` tells it from a plain handler."""

    receive: ProgressReceiver


Handler: TypeAlias = ProgressHandler | ProgressSink | Receiver
"""Whatever takes progress; a sink must be opened before it does."""


class _Detailed(ProgressSink):
    def __init__(self, receive: ProgressReceiver) -> None:
        self._receive = receive

    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncIterator[ProgressReceiver]:
        yield self._receive


def detailed(receive: ProgressReceiver) -> ProgressSink:
    """Make a progress handler of `receive(progress)`, sync or async, which gets a `Progress` with its stages.

    Raises TypeError for what cannot be called.
    """
    if not callable(receive):
        raise TypeError(f"a receiver of progress must be callable, not {receive!r}")
    return _Detailed(receive)


def as_handler(value: Any) -> ProgressHandler | ProgressSink | None:
    """Return `value` if it can take progress, or None; raises TypeError otherwise."""
    if value is None or callable(value) or isinstance(value, ProgressSink):
        return value  # type: ignore[no-any-return]  # callable is all that can be checked
    raise TypeError(f"a progress handler must be callable or a ProgressSink, not {value!r}")


def as_sink(handler: ProgressHandler | ProgressSink) -> ProgressSink:
    """Return a sink that hands over to `handler`; raises TypeError for what is no progress handler."""
    checked = as_handler(handler)
    if isinstance(checked, ProgressSink):
        return checked
    if checked is None:
        raise TypeError("a progress handler must be callable or a ProgressSink, not None")
    return _Detailed(lambda update: checked(update.progress, update.total, update.message))


@asynccontextmanager
async def open_handler(handler: Handler | None, tool: str) -> AsyncIterator[Handler | None]:
    """Open `handler` for one wait, where it is a sink; what the sink raises at the end is logged.

    Checkpoints where the sink does.
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
            except BaseException as error:
                raised = error
                raise
    except BaseException as error:  # noqa: ASYNC103  # contain_failure raises what must pass on
        if not is_open:
            raise
        if error is not raised:
            contain_failure(error, "a progress sink failed at the end of a call")
    if raised is not None:
        raise raised
