"""The server that the official conformance suite is run against.

Written as any user of trio_mcp would write it: each tool does what the suite's
scenarios ask of a tool of that name.
"""

import base64
import sys
from functools import partial
from typing import Annotated, Any

import msgspec
import trio

from tests.conformance.asking_tools import (
    REQUIRED,
    TASK,
    add_asking_task_tools,
    add_asking_tools,
    add_round_tools,
)
from tests.support.mount import mount_in_another
from trio_mcp import (
    Audio,
    Context,
    EmbeddedResource,
    Image,
    ProtocolError,
    ResourceContents,
    Server,
    ToolError,
    create_proxy,
    serve_http,
)

# One red pixel, and a WAV file of no samples.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=")

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def make_server() -> Server:
    server = Server("trio-mcp-conformance", version="1.0")
    add_content_tools(server)
    add_reporting_tools(server)
    add_asking_tools(server)
    add_round_tools(server)
    add_prompts(server)
    add_task_tools(server)
    add_asking_task_tools(server)
    add_resources(server)
    add_lists(server)
    return server


def add_content_tools(server: Server) -> None:
    @server.tool
    async def test_simple_text() -> str:
        """Return text."""
        return "This is a simple text response for testing."

    @server.tool
    async def test_image_content() -> Image:
        """Return an image."""
        return Image(PNG)

    @server.tool
    async def test_audio_content() -> Audio:
        """Return a sound."""
        return Audio(WAV)

    @server.tool
    async def test_embedded_resource() -> EmbeddedResource:
        """Return a resource in place."""
        return EmbeddedResource(
            resource=ResourceContents(
                uri="test://embedded-resource",
                mime_type="text/plain",
                text="This is an embedded resource content.",
            )
        )

    @server.tool
    async def test_multiple_content_types() -> list[str | Image | EmbeddedResource]:
        """Return content of several kinds."""
        resource = ResourceContents(
            uri="test://mixed-content-resource",
            mime_type="application/json",
            text='{"test":"data","value":123}',
        )
        return ["Multiple content types test:", Image(PNG), EmbeddedResource(resource=resource)]

    @server.tool
    async def test_error_handling() -> None:
        """Fail."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool
    async def test_header_parameter(
        region: Annotated[str, msgspec.Meta(extra_json_schema={"x-mcp-header": "Region"})],
    ) -> str:
        """Return an argument that HTTP clients repeat in a header."""
        return region


def add_reporting_tools(server: Server) -> None:
    @server.tool
    async def test_tool_with_progress(ctx: Context) -> str:
        """Report progress three times."""
        await ctx.report_progress(0, 100)
        await trio.sleep(0.05)
        await ctx.report_progress(50, 100)
        await trio.sleep(0.05)
        await ctx.report_progress(100, 100)
        return "Reported 0, 50 and 100 of 100."

    @server.tool
    async def test_tool_with_logging(ctx: Context) -> str:
        """Log three messages."""
        await ctx.info("Tool execution started")
        await trio.sleep(0.05)
        await ctx.info("Tool processing data")
        await trio.sleep(0.05)
        await ctx.info("Tool execution completed")
        return "Logged three messages."

    @server.tool
    async def test_logging_tool(ctx: Context) -> str:
        """Log one message."""
        await ctx.info("This reaches only clients that asked for it")
        return "Logged one message."

    @server.tool
    async def test_streaming_elicitation(ctx: Context) -> str:
        """Report progress on a stream that must carry no request."""
        await ctx.report_progress(1, 1)
        return "Nothing was asked."

    @server.tool
    async def test_reconnection(ctx: Context) -> str:
        """Let the client come back for the answer."""
        await ctx.close_stream(retry=0.5)
        await trio.sleep(0.1)
        return "Reconnection test completed successfully."


def add_prompts(server: Server) -> None:
    @server.prompt
    async def test_simple_prompt() -> str:
        """Say one thing."""
        return "This is a simple prompt for testing."

    @server.prompt
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Say what the arguments are."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @test_prompt_with_arguments.complete("arg1")
    async def complete_arg1(value: str) -> list[str]:
        return [word for word in ("paris", "park", "party") if word.startswith(value)]

    @server.prompt
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[str | EmbeddedResource]:  # noqa: N803  # the suite names it so
        """Show a resource."""
        contents = ResourceContents(
            uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
        )
        return [EmbeddedResource(resource=contents), "Please process the embedded resource above."]

    @server.prompt
    async def test_prompt_with_image() -> list[str | Image]:
        """Show a picture."""
        return [Image(PNG, "png"), "Please analyze the image above."]


def add_task_tools(server: Server) -> None:
    @server.tool
    async def greet(name: str) -> str:
        """Greet somebody, at once."""
        return f"Hello, {name}!"

    @server.tool(task=TASK)
    async def slow_compute(seconds: float, label: str = "") -> str:
        """Compute for some seconds."""
        await trio.sleep(seconds)
        return f"Computed {label!r} in {seconds:g} seconds."

    @server.tool(task=REQUIRED)
    async def failing_job() -> None:
        """Fail after a second."""
        await trio.sleep(1)
        raise ToolError("This job always fails")

    @server.tool(task=REQUIRED)
    async def protocol_error_job() -> None:
        """End with an error of the protocol."""
        raise ProtocolError(-32603, "This job ends with a protocol error")


def add_resources(server: Server) -> None:
    @server.resource("test://static-text", name="Static text")
    async def static_text() -> str:
        """Text that never changes."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="Static binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """A picture that never changes."""
        return PNG

    @server.resource("test://watched-resource", name="Watched")
    async def watched() -> str:
        """What clients subscribe to."""
        return "Watched resource content"

    @server.resource("test://template/{key}/data", name="Template")
    async def template(key: str) -> dict[str, Any]:
        """Data of one key."""
        return {"id": key, "templateTest": True, "data": f"Data for ID: {key}"}


def add_lists(server: Server) -> None:
    """What the suite asks of lists: that they change, and that a schema is listed as it is given."""

    @server.tool
    async def test_trigger_tool_change(ctx: Context) -> str:
        """Change the list of tools."""
        ctx.server.add_tool(lambda: "never called", name="test_triggered_tool")
        ctx.server.remove_tool("test_triggered_tool")
        return "the list of tools has changed"

    @server.tool
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """Change the list of prompts."""
        ctx.server.add_prompt(lambda: "never asked for", name="test_triggered_prompt")
        ctx.server.remove_prompt("test_triggered_prompt")
        return "the list of prompts has changed"

    @server.tool(input_schema=SCHEMA)
    async def json_schema_2020_12_tool(arguments: dict[str, Any]) -> dict[str, Any]:
        """Tool with JSON Schema 2020-12 features"""
        return arguments


async def main(is_mounted: bool, is_proxied: bool) -> None:
    server = make_server()
    if is_mounted:
        server = mount_in_another(server)
    if is_proxied:
        server = create_proxy(create_proxy(server))
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        print(url, flush=True)


if __name__ == "__main__":
    trio.run(main, "--mounted" in sys.argv, "--proxied" in sys.argv)
