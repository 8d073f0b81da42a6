"""`trio-mcp call`: calls a tool, with its progress on stderr and its result on stdout.

Owns how a result is printed, and that Ctrl-C cancels a task at the server. Refuses to know how
progress is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import attrs
import trio

from trio_mcp.call_result import CallResult
from trio_mcp.cli.arguments import read_arguments, suggest
from trio_mcp.cli.blocks import as_text
from trio_mcp.cli.connection import open_connection
from trio_mcp.cli.display import Display
from trio_mcp.cli.output import print_json, print_note, print_text
from trio_mcp.cli.running import Interrupt
from trio_mcp.cli.status import SUCCEEDED, TOOL_FAILED, CommandError
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.client.client import Client
from trio_mcp.client.task_handle import TaskHandle
from trio_mcp.errors import MCPError
from trio_mcp.handlers.sink import detailed
from trio_mcp.wire.messages import LoggingLevel, Tool

CANCEL_SECONDS: Final = 1.0
"""How long the command waits for the server's answer when it cancels a task."""


@attrs.frozen(kw_only=True)
class CallOptions:
    """The options of `trio-mcp call`; times in seconds."""

    json: str | None
    structured: bool
    idle_timeout: float | None
    max_timeout: float | None
    protocol: str
    log_level: LoggingLevel
    quiet: bool
    task: bool
    ttl: float | None
    interrupt: Interrupt


async def call_tool(command: CommandTarget, name: str, pairs: Sequence[str], options: CallOptions) -> int:
    """Connect, call and print; checkpoints.

    Raises CommandError, and what `open_client` and `Client.call_tool` raise.
    """
    if options.ttl is not None and not options.task:
        raise CommandError("--ttl says how long a task is kept: it needs --task")
    async with open_connection(
        command, protocol=options.protocol, log_level=options.log_level, quiet=options.quiet
    ) as connection:
        tool = await _find_tool(connection.client, name)
        arguments = read_arguments(tool, pairs, options.json)
        async with connection.open_display(name) as display:
            call = _call_as_task if options.task else _call
            result = await call(connection.client, name, arguments, options, display)
        return print_result(f"the tool {name!r}", result, structured=options.structured)


async def _find_tool(client: Client, name: str) -> Tool:
    tools = {tool.name: tool for tool in await client.list_tools()}
    if name not in tools:
        raise CommandError(f"the server has no tool {name!r}: {suggest(name, list(tools))}")
    return tools[name]


async def _call(
    client: Client, name: str, arguments: Mapping[str, Any], options: CallOptions, display: Display
) -> CallResult:
    return await client.call_tool(
        name,
        arguments,
        progress_handler=None if options.quiet else detailed(display.receive),
        idle_timeout=options.idle_timeout,
        max_timeout=options.max_timeout,
        raise_on_error=False,
    )


async def _call_as_task(
    client: Client, name: str, arguments: Mapping[str, Any], options: CallOptions, display: Display
) -> CallResult:
    started = trio.current_time()
    task = await client.call_tool(
        name,
        arguments,
        progress_handler=None if options.quiet else detailed(display.receive),
        idle_timeout=options.idle_timeout,
        max_timeout=options.max_timeout,
        task=True,
        ttl=options.ttl,
    )
    display.note(f"task {task.id}" if task.id else "The server answered at once, without a task.")
    left = options.max_timeout
    if left is not None:
        left = max(left - (trio.current_time() - started), sys.float_info.min)
    async with cancelling(task, options.interrupt):
        return await task.result(idle_timeout=options.idle_timeout, max_timeout=left, raise_on_error=False)


@asynccontextmanager
async def cancelling(task: TaskHandle, interrupt: Interrupt) -> AsyncIterator[None]:
    """Cancel the task if the block raises or Ctrl-C ends it; checkpoints only then."""
    ended = False
    try:
        # Confined, so that the server can answer before the connection is closed: it may not get round
        # to a request that arrives just before its end.
        with interrupt.confined():
            yield
            ended = True
    finally:
        if not ended:
            # Shielded for the same reason; the deadline is for a server that never answers.
            with trio.move_on_after(CANCEL_SECONDS, shield=True), suppress(MCPError):
                await task.cancel()
    if not ended:
        await interrupt.pass_on()


def print_result(what: str, result: CallResult, *, structured: bool) -> int:
    """Print the result of `what` to stdout, an error to stderr, and return the exit status.

    Raises CommandError if structured content is wanted and there is none.
    """
    if result.is_error:
        print_note(result.text or f"{what} failed")
        return TOOL_FAILED
    if structured:
        if result.structured_content is None:
            raise CommandError(f"{what} returned no structured content")
        print_json(result.structured_content)
    elif result.structured_content is not None and not result.text:
        print_json(result.structured_content)
    else:
        for block in result.content:
            print_text(as_text(block))
    return SUCCEEDED
