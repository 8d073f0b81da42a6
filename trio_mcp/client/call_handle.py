"""A call that goes on beside the block that started it.

Owns the channel of its updates, which is bounded as the queue of any call is, and its
end: the result, a cancellation, or the end of the block.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_mcp.call_result import CallResult
from trio_mcp.client.link import Link
from trio_mcp.client.tool_call import ToolCall
from trio_mcp.concurrency.failures import split_failure
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallCancelled, ProgressOverflow
from trio_mcp.handlers.sink import Progress, detailed
from trio_mcp.outgoing.policy import DEFAULT_BUFFER, LOSSLESS_CLIENT_BUFFER, Lossless, ProgressPolicy


class UpdateChannel:
    """The updates of one call on their way to whoever reads `receive`; `put` never waits."""

    def __init__(self, policy: ProgressPolicy) -> None:
        self._is_lossless = isinstance(policy, Lossless)
        self.limit = policy.buffer or (LOSSLESS_CLIENT_BUFFER if self._is_lossless else DEFAULT_BUFFER)
        self._send, self.receive = trio.open_memory_channel[Progress](self.limit)
        # An end of our own: the reader may close its end whenever it likes.
        self._replace = self.receive.clone()
        self._left = 0  # so many were put, and left for the reader

    def put(self, update: Progress) -> bool:
        """Put `update` behind the others; False where the policy keeps all and there is no room."""
        if self._send.statistics().current_buffer_used == self.limit:
            if self._is_lossless:
                return False
            self._make_room()
        self._send.send_nowait(update)
        self._left += 1
        return True

    def close(self) -> None:
        """End the channel behind its last update."""
        self._send.close()
        self._replace.close()

    def _make_room(self) -> None:
        """Drop the oldest, but never the very first of the call."""
        if self._left > self.limit:  # the reader has taken the first
            self._replace.receive_nowait()
            self._left -= 1
            return
        # Nobody has read yet. The first can only be spared by taking all out: so half of them go at
        # once, and this costs an update next to nothing.
        first, *rest = [self._replace.receive_nowait() for _ in range(self.limit)]
        kept = [first, *rest[len(rest) - len(rest) // 2 :]]
        for update in kept:
            self._send.send_nowait(update)
        self._left = len(kept)


class CallHandle:
    """A call under way; made by `Client.start_call`, and belongs to its block.

    `updates` is the progress of the call, in order; it ends behind the last update. What is
    not read waits there, up to as many updates as the client's policy keeps for a slow
    handler: under `Conflate` older ones then give way to newer ones, but neither the first
    of the call nor the last; under `Lossless` the call fails with ProgressOverflow. It
    never holds up the call.
    """

    def __init__(self, tool: str, policy: ProgressPolicy) -> None:
        self._tool = tool
        self._channel = UpdateChannel(policy)
        self.updates: trio.MemoryReceiveChannel[Progress] = self._channel.receive
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._result: CallResult | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        state = "under way" if not self._ended.is_set() else "failed" if self._error else "done"
        return f"<CallHandle of tool {self._tool!r}: {state}>"

    async def result(self) -> CallResult:
        """Wait for the result; checkpoints.

        By then every update of the call has been put into `updates`, where it can be read
        before the result or after it, or not at all. Raises what `Client.call_tool` raises,
        and CallCancelled where the call was cancelled or its block has ended.
        """
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        assert self._result is not None, "a call ends with a result or an error"
        return self._result

    def cancel(self) -> None:
        """Give the call up, and tell the server so; nothing happens where it has ended."""
        self._fail(CallCancelled(f"the call of tool {self._tool!r} was cancelled"))

    def put(self, update: Progress) -> None:
        """Put an update into `updates`, as the receiver of the call."""
        if not self._channel.put(update):
            limit = self._channel.limit
            self._fail(ProgressOverflow(f"more than {limit} updates wait in the channel of this call"))

    async def run(self, call: ToolCall) -> None:
        """Run the call to its end, and keep what comes of it; checkpoints."""
        try:
            with self._scope:
                if not self._ended.is_set():
                    self._result = await call.run()
        except BaseException as error:  # noqa: ASYNC103  # whatever ends the call is for `result` to raise
            passing, failure = split_failure(error)
            if self._error is None:
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
) -> AsyncIterator[CallHandle]:
    """See `Client.start_call`."""
    handle = CallHandle(name, link.session.settings.progress)
    call = ToolCall(
        link,
        name,
        arguments,
        detailed(handle.put),
        idle_timeout,
        max_timeout,
        raise_on_error=raise_on_error,
        result_type=result_type,
    )
    with handle.updates:
        async with open_unwrapping_nursery() as nursery:
            nursery.start_soon(handle.run, call)
            try:
                yield handle
            finally:
                handle.cancel()
