"""`trio-mcp list`: what a server offers, as tables or as JSON.

Owns the layout of both, and which lists a server is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trio_mcp.cli.connection import open_plain_client
from trio_mcp.cli.output import print_json, print_rich
from trio_mcp.cli.schemas import Schema
from trio_mcp.cli.status import SUCCEEDED
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.client.client import Client
from trio_mcp.errors import ProtocolError
from trio_mcp.printable import one_line
from trio_mcp.wire.errors import METHOD_NOT_FOUND
from trio_mcp.wire.messages import Tool
from trio_mcp.wire.prompts import Prompt
from trio_mcp.wire.resources import Resource, ResourceTemplate


@attrs.frozen(kw_only=True)
class Offers:
    """What a server lists."""

    tools: Sequence[Tool] = ()
    resources: Sequence[Resource] = ()
    templates: Sequence[ResourceTemplate] = ()
    prompts: Sequence[Prompt] = ()


async def list_offers(command: CommandTarget, *, protocol: str, as_json: bool) -> int:
    """Connect, list and print; checkpoints. Raises what `open_client` and the lists of `Client` raise."""
    async with open_plain_client(command, protocol=protocol) as client:
        offers = await fetch_offers(client)
        if as_json:
            print_json(as_object(client, offers))
        else:
            print_rich(make_heading(client), *make_tables(offers))
    return SUCCEEDED


async def fetch_offers(client: Client) -> Offers:
    """Ask for every list that the server declares; checkpoints. Raises what the lists of `Client` raise."""
    declared = client.server_capabilities
    has_resources = "resources" in declared
    return Offers(
        tools=await _list_tools(client, is_declared="tools" in declared),
        resources=await client.list_resources() if has_resources else (),
        templates=await client.list_resource_templates() if has_resources else (),
        prompts=await client.list_prompts() if "prompts" in declared else (),
    )


async def _list_tools(client: Client, *, is_declared: bool) -> Sequence[Tool]:
    try:
        return await client.list_tools()
    except ProtocolError as error:
        # Some servers have tools and do not declare them, so it is asked before it is known.
        if is_declared or error.code != METHOD_NOT_FOUND:
            raise
        return ()


def as_object(client: Client, offers: Offers) -> dict[str, Any]:
    """The server's description of itself as JSON; what it lists is as it came over the wire."""
    return {
        "server": client.server_info,
        "protocolVersion": client.protocol_version,
        "instructions": client.instructions,
        "tools": offers.tools,
        "resources": offers.resources,
        "resourceTemplates": offers.templates,
        "prompts": offers.prompts,
    }


def make_heading(client: Client) -> Text:
    """Name, version and protocol on one line."""
    info = client.server_info
    name = "a server without a name" if info is None else one_line(f"{info.name} {info.version}")
    return Text.assemble((name, "bold"), f", protocol {client.protocol_version}")


def make_tables(offers: Offers) -> list[RenderableType]:
    """A table for each kind of thing that the server has, or a sentence if it has nothing."""
    tables: list[RenderableType] = []
    if offers.tools:
        tables.append(_make_tool_table(offers.tools))
    if offers.resources:
        tables.append(_make_resource_table("Resource", offers.resources))
    if offers.templates:
        tables.append(_make_resource_table("Template", offers.templates))
    if offers.prompts:
        tables.append(_make_prompt_table(offers.prompts))
    return tables or [Text("It has no tools, resources or prompts.")]


def _open_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    first, *middle, last = columns
    table.add_column(first, style="bold", overflow="fold")
    for column in middle:
        table.add_column(column, overflow="fold")
    table.add_column(last, overflow="fold", ratio=1)
    return table


def _make_tool_table(tools: Sequence[Tool]) -> Table:
    table = _open_table("Tool", "Parameters", "Description")
    table.caption = "* required"
    for tool in tools:
        table.add_row(Text(one_line(tool.name)), _parameters(tool), _summarize(tool.description, tool.title))
    return table


def _make_resource_table(kind: str, listed: Sequence[Resource] | Sequence[ResourceTemplate]) -> Table:
    table = _open_table(kind, "Type", "Description")
    for item in listed:
        uri = item.uri if isinstance(item, Resource) else item.uri_template
        summary = _summarize(item.description, item.title, item.name)
        table.add_row(Text(one_line(uri)), Text(one_line(item.mime_type or "")), summary)
    return table


def _make_prompt_table(prompts: Sequence[Prompt]) -> Table:
    table = _open_table("Prompt", "Arguments", "Description")
    for prompt in prompts:
        lines = [
            Text.assemble(one_line(argument.name), ("*", "bold red") if argument.required else "")
            for argument in prompt.arguments or ()
        ]
        summary = _summarize(prompt.description, prompt.title)
        table.add_row(Text(one_line(prompt.name)), Text("\n").join(lines), summary)
    if any(argument.required for prompt in prompts for argument in prompt.arguments or ()):
        table.caption = "* required"
    return table


def _parameters(tool: Tool) -> Text:
    schema = Schema.of(tool.input_schema, tool.input_schema)
    lines = []
    for name, parameter in schema.properties.items():
        mark = ("*", "bold red") if name in schema.required else ("", "")
        lines.append(Text.assemble(one_line(name), mark, (f": {one_line(parameter.describe())}", "dim")))
    return Text("\n").join(lines)


def _summarize(*texts: str | None) -> Text:
    """The first paragraph of the first text that there is."""
    text = next((text for text in texts if text), "")
    return Text(one_line(text.strip().split("\n\n")[0]))
