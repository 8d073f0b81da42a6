"""The way back to the Trio thread, for handlers that work in other threads.

Owns the check whether a caller is in another thread, and the cancellation check of each call.
Refuses to know what is run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from threading import get_ident
from typing import Any, TypeVar

import trio

from trio_mcp.errors import RequestCancelled
from trio_mcp.session.request import ServerRequest

T = TypeVar("T")


class Done:
    """An awaitable that is done already; awaiting it does not checkpoint."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


DONE = Done()


class ThreadBridge:
    """Runs functions on the Trio thread that made the bridge, from any other thread."""

    __slots__ = ("_request", "_thread", "_token")

    def __init__(self, request: ServerRequest) -> None:
        self._request = request
        self._thread = get_ident()
        self._token = trio.lowlevel.current_trio_token()

    @property
    def outside(self) -> bool:
        """Whether the caller is in another thread than the bridge."""
        return get_ident() != self._thread

    def check_cancelled(self) -> None:
        """Raise if the request is cancelled: trio.Cancelled, or RequestCancelled in a foreign thread."""
        if self._is_foreign() and self._request.is_over:
            raise RequestCancelled("the request was cancelled or has ended")

    def run(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `async_fn(*args)` on the Trio thread and wait for it; raises like `check_cancelled`."""
        if not self._is_foreign():
            return trio.from_thread.run(async_fn, *args)
        if self._request.is_over:
            raise RequestCancelled("the request was cancelled or has ended")
        try:
            return trio.from_thread.run(async_fn, *args, trio_token=self._token)
        except trio.RunFinishedError:
            raise RequestCancelled("the server has ended") from None

    def run_soon(self, sync_fn: Callable[[], None]) -> None:
        """Run `sync_fn()` on the Trio thread, and do not wait for it; it must not raise.

        It makes no cancellation check, because it is for work that must be done in any case.
        """
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(sync_fn)

    @staticmethod
    def _is_foreign() -> bool:
        """Whether Trio did not start this thread; raises trio.Cancelled if its task is cancelled."""
        try:
            trio.from_thread.check_cancelled()
        except RuntimeError:
            return True
        return False
