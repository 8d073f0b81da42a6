"""`trio-mcp bench`: how fast, and how correctly, a server reports progress under load.

Owns the choice of the tool, and the connection. Calls are counted in `load.py`, updates in
`wire_count.py`; the verdicts are in `report.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from trio_mcp.cli.access import find_access
from trio_mcp.cli.arguments import read_arguments, suggest
from trio_mcp.cli.bench.counting_connector import CountingConnector
from trio_mcp.cli.bench.gauge import open_gauge
from trio_mcp.cli.bench.load import Load, LoadRun, run_load
from trio_mcp.cli.bench.report import LoadReport, Subject
from trio_mcp.cli.bench.wire_count import WireCount
from trio_mcp.cli.output import print_json, print_rich
from trio_mcp.cli.running import Interrupt
from trio_mcp.cli.schemas import Schema
from trio_mcp.cli.status import SUCCEEDED, TOOL_FAILED, CommandError
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.cli.terminal import open_terminal, relay_stderr
from trio_mcp.client.client import Client, open_client
from trio_mcp.client.negotiation import find_era
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Target, UrlOptions
from trio_mcp.outgoing.policy import Lossless
from trio_mcp.printable import one_line
from trio_mcp.wire.messages import Tool

MAX_NAMED: Final = 20
"""How many tools are listed if none was named."""


@attrs.frozen(kw_only=True)
class BenchOptions:
    """The options of `trio-mcp bench`."""

    load: Load
    expect: int | None
    json: bool
    protocol: str
    quiet: bool
    interrupt: Interrupt


async def run_bench(
    command: CommandTarget, name: str | None, pairs: Sequence[str], options: BenchOptions
) -> int:
    """Connect, call under load, and print the report; checkpoints.

    Raises CommandError, and what `open_client` and `Client.list_tools` raise.
    """
    target, url_options = find_access(command)
    wire = WireCount(options.expect)
    run = LoadRun(options.load)
    with open_terminal() as terminal:
        console = None if options.quiet else terminal
        async with (
            relay_stderr(terminal) as restore_stderr,
            open_client(
                CountingConnector(target, wire, UrlOptions(**url_options)),
                protocol=options.protocol,
                settings=ClientSettings(progress=Lossless()),
            ) as client,
        ):
            restore_stderr()
            tool = choose_tool(await client.list_tools(), name)
            arguments = read_arguments(tool, pairs)
            # Confined, so that Ctrl-C stops the load but not the report.
            async with open_gauge(tool.name, run, console, quiet=options.quiet):
                with options.interrupt.confined():
                    await run_load(client, tool.name, arguments, run)
            report = LoadReport(_describe(client, target, tool), run, wire)
            if options.json:
                print_json(report.as_object())
            else:
                print_rich(*report.render())
            if run.stop == "interrupted":
                await options.interrupt.pass_on()
    return TOOL_FAILED if report.faults else SUCCEEDED


def choose_tool(tools: Sequence[Tool], name: str | None) -> Tool:
    """The tool called `name`, or the only one there is; raises CommandError."""
    by_name = {tool.name: tool for tool in tools}
    if name is not None:
        if name not in by_name:
            raise CommandError(f"the server has no tool {name!r}: {suggest(name, list(by_name))}")
        return by_name[name]
    if not tools:
        raise CommandError("the server has no tools")
    if len(tools) == 1 and not _required(tools[0]):
        return tools[0]
    # It never guesses: a tool may do anything, and only its user knows what.
    named = "; ".join(
        " ".join([one_line(tool.name), *(f"{key}=..." for key in _required(tool))])
        for tool in tools[:MAX_NAMED]
    )
    more = f"; and {len(tools) - MAX_NAMED} more" if len(tools) > MAX_NAMED else ""
    raise CommandError(f"say which tool to call: {named}{more}")


def _required(tool: Tool) -> list[str]:
    schema = Schema.of(tool.input_schema, tool.input_schema)
    return [one_line(key) for key in schema.properties if key in schema.required]


def _describe(client: Client, target: Target, tool: Tool) -> Subject:
    info = client.server_info
    era = find_era(client.protocol_version)
    transport = "stdio"
    if isinstance(target, str):
        transport = "HTTP" if target.startswith("http") else "WebSocket"
    return Subject(
        server="a server without a name" if info is None else f"{info.name} {info.version}",
        protocol=client.protocol_version,
        transport=transport,
        tool=tool.name,
        # Our client leaves the stream of a modern call over HTTP at its answer.
        sees_late=not (transport == "HTTP" and era is not None and era.modern),
    )
