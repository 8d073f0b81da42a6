"""`trio-mcp call`: one call of a tool, with its progress on stderr and its result on stdout.

Owns how a result is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from rich.console import Console

from trio_mcp.cli.arguments import read_arguments, suggest
from trio_mcp.cli.bars import make_log_handler, open_display
from trio_mcp.cli.output import print_json, print_note, print_text
from trio_mcp.cli.status import SUCCEEDED, TOOL_FAILED, CommandError
from trio_mcp.cli.terminal import open_terminal, relay_stderr
from trio_mcp.client.call import ProgressHandler
from trio_mcp.client.client import Client, open_client
from trio_mcp.client.results import CallResult
from trio_mcp.wire.content import (
    AudioContent,
    ContentBlock,
    ImageContent,
    ResourceLink,
    TextContent,
)
from trio_mcp.wire.messages import LoggingLevel, Tool


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


async def call_tool(command: list[str], name: str, pairs: Sequence[str], options: CallOptions) -> int:
    """Connect, call and print; checkpoints.

    Raises CommandError, and what `open_client` and `Client.call_tool` raise.
    """
    with open_terminal() as console:
        if options.quiet or console is None:
            return await _connect_and_call(command, name, pairs, options, None, lambda: None)
        async with relay_stderr(console) as give_back:
            return await _connect_and_call(command, name, pairs, options, console, give_back)


async def _connect_and_call(
    command: list[str],
    name: str,
    pairs: Sequence[str],
    options: CallOptions,
    console: Console | None,
    on_start: Callable[[], None],
) -> int:
    async with open_client(
        command,
        log_handler=None if options.quiet else make_log_handler(console),
        log_level=options.log_level,
        protocol=options.protocol,
    ) as client:
        on_start()
        tool = await _find_tool(client, name)
        arguments = read_arguments(tool, pairs, options.json)
        if options.quiet:
            result = await _call(client, name, arguments, options, None)
        else:
            async with open_display(name, console) as display:
                result = await _call(client, name, arguments, options, display.update)
        return print_result(name, result, structured=options.structured)


async def _find_tool(client: Client, name: str) -> Tool:
    tools = {tool.name: tool for tool in await client.list_tools()}
    if name not in tools:
        raise CommandError(f"the server has no tool {name!r}: {suggest(name, list(tools))}")
    return tools[name]


async def _call(
    client: Client,
    name: str,
    arguments: Mapping[str, Any],
    options: CallOptions,
    progress_handler: ProgressHandler | None,
) -> CallResult:
    return await client.call_tool(
        name,
        arguments,
        progress_handler=progress_handler,
        idle_timeout=options.idle_timeout,
        max_timeout=options.max_timeout,
        raise_on_error=False,
    )


def print_result(name: str, result: CallResult, *, structured: bool) -> int:
    """Print a result to stdout, an error to stderr, and return the exit status.

    Raises CommandError where structured content is wanted and there is none.
    """
    if result.is_error:
        print_note(result.text or f"the tool {name!r} failed")
        return TOOL_FAILED
    if structured:
        if result.structured_content is None:
            raise CommandError(f"the tool {name!r} returned no structured content")
        print_json(result.structured_content)
    elif result.structured_content is not None and not result.text:
        print_json(result.structured_content)
    else:
        for block in result.content:
            print_text(_as_text(block))
    return SUCCEEDED


def _as_text(block: ContentBlock) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ResourceLink):
        return block.uri
    if isinstance(block, (ImageContent, AudioContent)):
        return f"[{block.mime_type}, {len(block.data) * 3 // 4:,} bytes]"
    return block.resource.text if block.resource.text is not None else f"[{block.resource.uri}]"
