"""One call of a tool from its arguments to its result, whatever the server makes of it.

Owns what every call has in common, waited for where it was made or in the background:
its handler is opened, a refusal for want of headers is answered, a task that the server
makes unasked is waited for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from trio_mcp.call_result import CallResult, finish_call
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.client.timeouts import read_timeouts
from trio_mcp.client.tool_rounds import start_call
from trio_mcp.errors import ProtocolError
from trio_mcp.handlers.sink import Handler, ProgressHandler, ProgressSink, open_handler
from trio_mcp.schema.flaws import encode_json
from trio_mcp.wire.codec import UNENCODABLE
from trio_mcp.wire.errors import HEADER_MISMATCH
from trio_mcp.wire.messages import CallToolParams

if TYPE_CHECKING:
    from trio_mcp.client.client import Client


class ToolCall:
    """A call that is to be made; raises ValueError for arguments that JSON cannot hold and for bad times."""

    def __init__(
        self,
        client: Client,
        name: str,
        arguments: Mapping[str, Any] | None,
        handler: ProgressHandler | ProgressSink | None,
        idle_timeout: float | None,
        max_timeout: float | None,
        *,
        raise_on_error: bool,
        result_type: Any,
    ) -> None:
        self.name = name
        self._client = client
        self._handler = handler
        self._idle_timeout = idle_timeout
        self._idle, self._longest = read_timeouts(idle_timeout, max_timeout)
        self._raise_on_error = raise_on_error
        self._result_type = result_type
        try:
            self._params = CallToolParams(name=name, arguments=encode_json(dict(arguments or {})))
        except UNENCODABLE as error:
            raise ValueError(f"the arguments of tool {name!r} are not JSON: {error}") from None

    async def run(self) -> CallResult:
        """Call and wait for the result; checkpoints. See `Client.call_tool`."""
        if self._handler is None or not isinstance(self._handler, ProgressSink):
            return await self._run(self._handler)
        async with open_handler(self._handler, self.name) as handler:
            return await self._run(handler)

    async def start_task(self, ttl: float | None) -> TaskHandle:
        """Call as a background task; checkpoints. See `Client.call_tool`."""
        async with open_handler(self._handler, self.name) as handler:
            handle = await self._start(handler, as_task=True, ttl=ttl)
        handle.use_handler(self._handler)
        return handle

    async def _run(self, handler: Handler | None) -> CallResult:
        started = 0.0 if self._longest == math.inf else trio.current_time()
        handle = await self._start(handler)
        if handle.answer is not None:
            return finish_call(
                f"tool {self.name!r}", handle.answer, self._result_type, raise_on_error=self._raise_on_error
            )
        left = None
        if self._longest != math.inf:
            left = max(self._longest - (trio.current_time() - started), 1e-9)
        try:
            return await handle.result(
                idle_timeout=self._idle_timeout,
                max_timeout=left,
                raise_on_error=self._raise_on_error,
                result_type=self._result_type,
            )
        finally:
            handle.abandon()

    async def _start(
        self, handler: Handler | None, *, as_task: bool = False, ttl: float | None = None
    ) -> TaskHandle:
        client, idle, longest = self._client, self._idle, self._longest
        try:
            return await start_call(client, self._params, handler, idle, longest, as_task=as_task, ttl=ttl)
        except ProtocolError as error:
            if error.code != HEADER_MISMATCH or client._mirror is None:
                raise
            # The tool mirrors parameters that this client has not heard of (MCP transports).
            await client.list_tools()
            return await start_call(client, self._params, handler, idle, longest, as_task=as_task, ttl=ttl)
