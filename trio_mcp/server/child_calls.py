"""Tools that a handler calls in its own process.

Owns what such a call has in common with one of a client: its arguments and its result are JSON,
and its failure becomes its result. It runs in its caller's task, and is cancelled with it. Knows
nothing of sessions, and of progress only which helper the child reports to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import trio

from trio_mcp.concurrency.failures import leaves, split_failure
from trio_mcp.errors import ProtocolError, ReturnError, ToolError
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.schema.flaws import encode_json
from trio_mcp.server.context import Context
from trio_mcp.server.error_results import ErrorResults
from trio_mcp.server.input_rounds import InputRounds
from trio_mcp.server.progress_helper import ProgressHelper
from trio_mcp.server.task_run import TaskRun
from trio_mcp.server.tool import ToolDefinition
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.codec import UNENCODABLE, encode_value
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import CallToolParams

MAX_DEPTH: Final = 32
"""Calls within calls: more than a design needs, and less than Python's stack holds."""


class ChildCalls(msgspec.Struct, eq=False):
    """What the handler of one call may call: the `ChildCaller` of its Context.

    For the questions that the handler asks, it is its `Place`: with the `arguments` of the call, its
    `parent`, and the `prefix` of its keys once it has asked. `mounts` are the servers that are mounted in the
    one that runs. `holds_thread` is None if `tools` has the handler that calls.
    """

    tools: Mapping[str, ToolDefinition]
    limiter: trio.CapacityLimiter
    lifespan: Any
    errors: ErrorResults
    rounds: InputRounds
    server: Any = None
    path: tuple[str, ...] = ()
    gathered: Any = None
    arguments: msgspec.Raw | None = None
    parent: ChildCalls | None = None
    prefix: str | None = None
    mounts: Any = None
    holds_thread: bool | None = None

    async def call(
        self,
        request: ServerRequest,
        run: TaskRun | None,
        name: str,
        arguments: Mapping[str, Any],
        progress: ProgressHelper | None,
    ) -> msgspec.Raw:
        """The encoded result, also if it is an error; see `Context.call_tool`."""
        try:
            raw = encode_json(dict(arguments))
        except UNENCODABLE as error:
            raise ValueError(f"the arguments of tool {name!r} are not JSON: {error}") from None
        tool = self.tools.get(name)
        if tool is None:
            raise ProtocolError(INVALID_PARAMS, f"Unknown tool: {name}")
        request.connection.require(tool.scopes)
        calls = self._descend(request, name, raw)
        gather = None if tool.task is None else tool.task.gather
        child = None
        if tool.takes_context or gather is not None:
            # A child without a helper to report to still reads back its own values.
            child = Context(request, run, self.lifespan, calls, progress or ProgressReporter(None))
        try:
            if gather is not None:
                assert child is not None
                calls.gathered = await gather(child, tool.parameters.convert(raw))
            return _encode(await tool.call(child, raw, calls.limiter))
        except BaseException as error:  # noqa: ASYNC103  # a failure boundary: Cancelled is raised again below
            passing, failure = split_failure(error)
        if passing is None and failure is not None:
            return _encode(self.errors.showing(tool.shows_errors).describe(name, failure))
        for leaf in () if failure is None else leaves(failure):
            self.errors.log(name, leaf, "failed while being cancelled")
        assert passing is not None, "an exception passes on or is an answer"
        raise passing

    def _descend(self, request: ServerRequest, name: str, arguments: msgspec.Raw) -> ChildCalls:
        """The calls that the child may make; raises ToolError beyond MAX_DEPTH."""
        path = self.path
        if not path:  # a request for a prompt may call tools as well
            params = request.params
            path = (params.name if isinstance(params, CallToolParams) else request.method,)
        if len(path) > MAX_DEPTH:
            raise ToolError(f"tool {name!r} was called more than {MAX_DEPTH} calls deep, by {path[-1]!r}")
        # A sync tool waits in its thread for its child, which must not wait for that thread to be free.
        holds_thread = self.holds_thread
        if holds_thread is None:
            caller = self.tools.get(path[-1])
            holds_thread = caller is None or caller.holds_thread
        limiter = trio.CapacityLimiter(1) if holds_thread else self.limiter
        return ChildCalls(
            self.tools,
            limiter,
            self.lifespan,
            self.errors,
            self.rounds,
            self.server,
            path=(*path, name),
            arguments=arguments,
            parent=self,
            mounts=self.mounts,
        )


def _encode(result: Any) -> msgspec.Raw:
    try:
        return encode_value(result)
    except UNENCODABLE as error:
        raise ReturnError(f"the result cannot be sent as JSON: {error}") from None
