"""A call that runs concurrently with the block that started it.

Owns the bounded channel of its updates, and its end: the result, a cancellation, or the end of the
block. Refuses to know how a call is made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic

import trio

from trio_mcp.call_result import CallResult, D_co
from trio_mcp.client.crowded_calls import STILL_SECONDS
from trio_mcp.client.link import Link
from trio_mcp.client.pending_call import PATIENCE_PARTS
from trio_mcp.client.tool_call import ToolCall
from trio_mcp.concurrency.failures import split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallCancelled, ProgressOverflow
from trio_mcp.handlers.sink import Progress, detailed
from trio_mcp.outgoing.policy import DEFAULT_BUFFER, LOSSLESS_CLIENT_BUFFER, Lossless, ProgressPolicy


class UpdateChannel:
    """The updates of one call; `receive` is the reader's end, and `put` never waits."""

    def __init__(self, policy: ProgressPolicy) -> None:
        self._is_lossless = isinstance(policy, Lossless)
        self.limit = policy.buffer or (LOSSLESS_CLIENT_BUFFER if self._is_lossless else DEFAULT_BUFFER)
        self._send, self.receive = trio.open_memory_channel[Progress](self.limit)
        # A clone, because the reader may close its own end at any time.
        self._replace = self.receive.clone()
        self._left = 0  # how many were put and not dropped again

    def put(self, update: Progress) -> bool:
        """Append `update`; return False if the policy drops nothing and there is no room."""
        if self._send.statistics().current_buffer_used == self.limit:
            if self._is_lossless:
                return False
            self._make_room()
        self._send.send_nowait(update)
        self._left += 1
        return True

    async def wait_put(self, update: Progress, patience: float) -> bool:
        """Append `update` when there is room; False if there is none for `patience` seconds. Checkpoints."""
        for _ in range(PATIENCE_PARTS):
            with trio.move_on_after(patience / PATIENCE_PARTS):
                await self._send.send(update)
                self._left += 1
                return True
        return False

    def close(self) -> None:
        """End the channel after its last update."""
        self._send.close()
        self._replace.close()

    def _make_room(self) -> None:
        """Drop the oldest update, but never the very first of the call."""
        if self._left > self.limit:  # the reader has taken the first
            self._replace.receive_nowait()
            self._left -= 1
            return
        # Nobody has read yet. The first can only be kept by receiving everything, so half of the others
        # are dropped at once: then this happens rarely, and its cost per update is small.
        first, *rest = [self._replace.receive_nowait() for _ in range(self.limit)]
        kept = [first, *rest[len(rest) - len(rest) // 2 :]]
        for update in kept:
            self._send.send_nowait(update)
        self._left = len(kept)


class CallHandle(Generic[D_co]):
    """A running call; made by `Client.start_call`, and bound to its block.

    `updates` is a channel with the progress of the call, in order; it ends after the last update.
    Updates that are not read wait there, up to the number that the client's policy keeps for a
    slow handler. If more arrive, `Conflate` drops older ones, but neither the first of the call
    nor the last, and never waits. Under `Lossless` it waits for its reader, and fails with
    ProgressOverflow if that takes nothing for a tenth of a second.
    """

    def __init__(self, tool: str, policy: ProgressPolicy) -> None:
        self._tool = tool
        self._channel = UpdateChannel(policy)
        self.updates: trio.MemoryReceiveChannel[Progress] = self._channel.receive
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._result: CallResult[D_co] | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        state = "running" if not self._ended.is_set() else "failed" if self._error else "done"
        return f"<CallHandle of tool {self._tool!r}: {state}>"

    async def result(self) -> CallResult[D_co]:
        """Wait for the result; checkpoints.

        By then every update of the call is in `updates`, and can be read before the result or
        after it, or not at all. Raises what `Client.call_tool` raises, and CallCancelled if the
        call was cancelled or its block has ended.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None, "a call ends with a result or an error"
        return self._result

    def cancel(self) -> None:
        """Cancel the call, also at the server; does nothing if it has ended."""
        self._fail(CallCancelled(f"the call of tool {self._tool!r} was cancelled"))

    def put(self, update: Progress) -> Awaitable[None] | None:
        """Put an update into `updates`, as the receiver of the call; if it is full, returns the wait."""
        return None if self._channel.put(update) else self._put_slowly(update)

    async def _put_slowly(self, update: Progress) -> None:
        if not await self._channel.wait_put(update, STILL_SECONDS):
            limit = self._channel.limit
            self._fail(ProgressOverflow(f"more than {limit} updates wait in the channel of this call"))

    async def run(self, call: ToolCall) -> None:
        """Run the call to its end, and keep the result or the error; checkpoints."""
        try:
            with self._scope:
                if not self._ended.is_set():
                    self._result = await call.run()
        except BaseException as error:  # noqa: ASYNC103  # whatever ends the call is for `result` to raise
            passing, failure = split_failure(error)
            if self._error is None and failure is None:  # whoever shields `result` from the same cancellation
                self._error = CallCancelled(f"the call of tool {self._tool!r} was cancelled")
            elif self._error is None:
                self._error = failure
            if passing is not None:
                raise passing from None  # noqa: ASYNC104
        finally:
            self._ended.set()
            self._channel.close()

    def _fail(self, error: BaseException) -> None:
        if not self._ended.is_set():
            self._error = error
            self._ended.set()
            self._scope.cancel()


@asynccontextmanager
async def open_call(
    link: Link,
    name: str,
    arguments: Mapping[str, Any] | None,
    idle_timeout: float | None,
    max_timeout: float | None,
    *,
    raise_on_error: bool,
    result_type: Any,
    idempotency_key: str | None,
) -> AsyncIterator[CallHandle[Any]]:
    """See `Client.start_call`."""
    handle: CallHandle[Any] = CallHandle(name, link.session.settings.progress)
    call = ToolCall(
        link,
        name,
        arguments,
        detailed(handle.put),
        idle_timeout,
        max_timeout,
        raise_on_error=raise_on_error,
        result_type=result_type,
        idempotency_key=idempotency_key,
    )
    with handle.updates:
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(handle.run, call)
            try:
                yield handle
            finally:
                handle.cancel()
