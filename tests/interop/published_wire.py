"""Everything that travels while a client of ours drives the conformance fixture.

Owns what is asked of the fixture, and how the messages are recorded: over pipes the very lines, over other
wires the frames.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, TypeAlias

import attrs
import msgspec
import trio

from tests.conformance.server import make_server
from tests.conftest import Wire
from trio_mcp import (
    Client,
    ClientSettings,
    ElicitRequest,
    Heartbeat,
    MCPError,
    PromptReference,
    Server,
    ServerSettings,
    open_client,
)
from trio_mcp.client.target import open_served
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.testing import WireRecorder
from trio_mcp.testing.connectors import pipe_streams
from trio_mcp.transports.newline_stream import StreamTransport

Side: TypeAlias = Literal["client", "server"]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "test_header_parameter": {"region": "eu"},
    "test_sampling": {"prompt": "Hello"},
    "test_elicitation": {"message": "Who are you?"},
    "greet": {"name": "Trio"},
    "slow_compute": {"seconds": 0.01},
    "confirm_delete": {"filename": "a.txt"},
}


@attrs.frozen
class Message:
    """A message, and who sent it."""

    side: Side
    json: Any


@attrs.define
class RecordedPipes:
    """A connector over pipes that keeps every line of both directions."""

    server: Server
    messages: list[Message] = attrs.field(factory=list)

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        """Serve and connect during the block."""
        (to_server, from_client), (to_client, from_server) = pipe_streams(), pipe_streams()
        limit = settings.max_frame_bytes
        ours = StreamTransport(_Lines(to_server, "client", self.messages), from_server, max_frame_bytes=limit)
        theirs = StreamTransport(
            _Lines(to_client, "server", self.messages), from_client, max_frame_bytes=limit
        )
        async with open_served(self.server, ours, theirs) as transport:
            yield transport


class _Lines(trio.abc.SendStream):
    """A stream that notes the lines that are sent on it."""

    def __init__(self, stream: trio.lowlevel.FdStream, side: Side, messages: list[Message]) -> None:
        self._stream = stream
        self._side = side
        self._messages = messages
        self._rest = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        *lines, self._rest = (self._rest + bytes(data)).split(b"\n")
        self._messages.extend(Message(self._side, msgspec.json.decode(line)) for line in lines)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def record(wire: Wire, protocol: str) -> list[Message]:
    """Drive the fixture over a wire, in one revision, and return all that travelled."""
    server = make_server()
    server.definition.settings = ServerSettings(progress=Heartbeat(every=0.02))
    recorder = RecordedPipes(server) if wire.transport == "stdio" else WireRecorder(wire.target(server))
    async with open_client(
        recorder,
        protocol=protocol,
        elicitation_handler=fill_in,
        sampling_handler=lambda request: "A model's answer.",
        log_handler=lambda message: None,
        log_level="debug",
    ) as client:
        await drive(client)
    if isinstance(recorder, RecordedPipes):
        return recorder.messages
    return [
        *(Message("client", message) for message in recorder.sent_messages()),
        *(Message("server", message) for message in recorder.received_messages()),
    ]


def fill_in(request: ElicitRequest) -> dict[str, Any]:
    """Fill in a form: what it proposes, else the first choice, else a text."""
    return {name: _value(schema) for name, schema in request.schema["properties"].items()}


def _value(schema: Any) -> Any:
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    for choices in ("oneOf", "anyOf"):
        if choices in schema:
            return schema[choices][0]["const"]
    match schema["type"]:
        case "array":
            return [_value(schema["items"])]
        case "boolean":
            return True
        case "number" | "integer":
            return 1
    return "Trio"


async def drive(client: Client) -> None:
    """Ask for everything that the fixture has, and for some things that it does not have."""
    for tool in await client.list_tools():
        with suppress(MCPError):
            await client.call_tool(tool.name, ARGUMENTS.get(tool.name), progress_handler=_ignore)
    await _drive_prompts(client)
    await _drive_resources(client)
    await _drive_tasks(client)
    for name, arguments in (("no such tool", {}), ("greet", {}), ("greet", {"name": 1})):
        with suppress(MCPError):
            await client.call_tool(name, arguments)
    async with client.start_call("slow_compute", {"seconds": 60}):  # whose end sends a cancellation
        await client.list_tools()
    with suppress(MCPError):  # only legacy revisions have it
        await client.ping()


async def _drive_prompts(client: Client) -> None:
    for prompt in await client.list_prompts():
        arguments = {argument.name: "test://word" for argument in prompt.arguments or ()}
        with suppress(MCPError):  # one of them asks its client, for which old revisions have no form
            await client.get_prompt(prompt.name, arguments, progress_handler=_ignore)
    for name in ("no such prompt", "test_prompt_with_arguments"):
        with suppress(MCPError):
            await client.get_prompt(name)
    reference = PromptReference(name="test_prompt_with_arguments")
    for argument in ("arg1", "arg2", "no such argument"):
        with suppress(MCPError):
            await client.complete(
                reference, {"name": argument, "value": "pa"}, {"arg2": "x"}, progress_handler=_ignore
            )


async def _drive_resources(client: Client) -> None:
    for resource in await client.list_resources():
        await client.read_resource(resource.uri, progress_handler=_ignore)
    for template in await client.list_resource_templates():
        await client.read_resource(template.uri_template.replace("{key}", "1"), progress_handler=_ignore)
    with suppress(MCPError):
        await client.read_resource("test://no-such-resource")
    async with client.listen(tools=True, prompts=True, resources=True, uris=["test://watched-resource"]):
        await client.call_tool("test_trigger_tool_change")
        await client.call_tool("test_trigger_prompt_change")


async def _drive_tasks(client: Client) -> None:
    for name in ("slow_compute", "confirm_delete", "failing_job", "protocol_error_job", "greet"):
        with suppress(MCPError):
            task = await client.call_tool(name, ARGUMENTS.get(name), task=True, progress_handler=_ignore)
            if task.id is not None:  # the call was not answered directly
                await client.fetch_task(task.id)
            await task.result()
    with suppress(MCPError):
        task = await client.call_tool("slow_compute", {"seconds": 60}, task=True)
        await client.cancel_task(task.id)
    for ask in (client.list_tasks, lambda: client.fetch_task("no such task")):
        with suppress(MCPError):
            await ask()


def _ignore(progress: float, total: float | None, message: str | None) -> None:
    pass
