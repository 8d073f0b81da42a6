"""`trio-mcp list`: the tools of a server, as a table or as JSON.

Owns the layout of both.
"""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from trio_mcp.cli.connection import open_plain_client
from trio_mcp.cli.output import print_json, print_rich
from trio_mcp.cli.schemas import Schema
from trio_mcp.cli.status import SUCCEEDED
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.client.client import Client
from trio_mcp.printable import one_line
from trio_mcp.wire.messages import Tool


async def list_tools(command: CommandTarget, *, protocol: str, as_json: bool) -> int:
    """Connect, list and print; checkpoints. Raises what `open_client` and `list_tools` raise."""
    async with open_plain_client(command, protocol=protocol) as client:
        tools = await client.list_tools()
        if as_json:
            print_json(as_object(client, tools))
        else:
            print_rich(make_heading(client), make_table(tools))
    return SUCCEEDED


def as_object(client: Client, tools: list[Tool]) -> dict[str, Any]:
    """The server's description of itself as JSON; tools as they came over the wire."""
    return {
        "server": client.server_info,
        "protocolVersion": client.protocol_version,
        "instructions": client.instructions,
        "tools": tools,
    }


def make_heading(client: Client) -> Text:
    """Name, version and protocol on one line."""
    info = client.server_info
    name = "a server without a name" if info is None else one_line(f"{info.name} {info.version}")
    return Text.assemble((name, "bold"), f", protocol {client.protocol_version}")


def make_table(tools: list[Tool]) -> Table | Text:
    """A row for each tool: name, parameters, and the first paragraph of the description."""
    if not tools:
        return Text("It has no tools.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="* required", caption_justify="left")
    table.add_column("Tool", style="bold", overflow="fold")
    table.add_column("Parameters", overflow="fold")
    table.add_column("Description", overflow="fold", ratio=1)
    for tool in tools:
        table.add_row(Text(one_line(tool.name)), _parameters(tool), Text(_summary(tool)))
    return table


def _parameters(tool: Tool) -> Text:
    schema = Schema.of(tool.input_schema, tool.input_schema)
    lines = []
    for name, parameter in schema.properties.items():
        mark = ("*", "bold red") if name in schema.required else ("", "")
        lines.append(Text.assemble(one_line(name), mark, (f": {one_line(parameter.describe())}", "dim")))
    return Text("\n").join(lines)


def _summary(tool: Tool) -> str:
    paragraphs = (tool.description or tool.title or "").strip().split("\n\n")
    return one_line(paragraphs[0])
