"""What a server does not send to clients of revisions that do not have it."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import pytest

from tests.conftest import LEGACY, TRANSPORTS, Wire
from trio_mcp import (
    Audio,
    AudioContent,
    Context,
    EmbeddedResource,
    NotSupportedByEra,
    ResourceContents,
    ResourceLink,
    Server,
    TextContent,
    ToolError,
)

OLDEST, SECOND, THIRD = "2024-11-05", "2025-03-26", "2025-06-18"
LINK = ResourceLink(uri="x://notes", name="notes", description="of today")
SOUND = AudioContent(data="AAAA", mime_type="audio/wav")
SOUND_AS_FILE = EmbeddedResource(
    resource=ResourceContents(uri="attachment:audio", mime_type="audio/wav", blob="AAAA")
)
LINK_AS_TEXT = TextContent(text="notes (of today): x://notes")


@attrs.frozen
class Name:
    name: str


@attrs.frozen
class Choices:
    colours: list[Literal["red", "blue"]]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        (OLDEST, [SOUND_AS_FILE, LINK_AS_TEXT, TextContent(text="end")]),
        (SECOND, [SOUND, LINK_AS_TEXT, TextContent(text="end")]),
        (THIRD, [SOUND, LINK, TextContent(text="end")]),
        (LEGACY, [SOUND, LINK, TextContent(text="end")]),
    ],
)
async def test_content_arrives_in_blocks_that_the_revision_has(transport, revision, expected):
    server = Server("older")

    @server.tool
    async def tool() -> list[Any]:
        return [Audio(b"\0\0\0"), LINK, "end"]

    @server.prompt
    async def prompt() -> list[Any]:
        return [Audio(b"\0\0\0"), LINK, "end"]

    async with Wire(transport, revision).open(server) as client:
        for _ in range(2):
            assert (await client.call_tool("tool")).content == expected
            got = await client.get_prompt("prompt")
            assert [message.content for message in got.messages] == expected


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("revision", [OLDEST, SECOND])
async def test_nobody_is_asked_by_elicitation_before_it_existed(transport, revision):
    server = Server("older")

    @server.tool
    async def tool(ctx: Context) -> str:
        answer = await ctx.elicit("Who are you?", Name)
        return answer.action

    recorder = Wire(transport, revision).recorder(server)
    async with Wire(transport, revision).open(
        recorder, elicitation_handler=lambda request: {"name": "Trio"}
    ) as client:
        with pytest.raises(ToolError, match=f"protocol {revision} has no elicitation/create"):
            await client.call_tool("tool")
    assert recorder.received_messages("elicitation/create") == []


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("revision", "can"), [(THIRD, False), (LEGACY, True)])
async def test_forms_ask_for_lists_since_2025_11_25(transport, revision, can):
    server = Server("older")

    @server.tool
    async def tool(ctx: Context) -> list[str]:
        answer = await ctx.elicit("Which colours?", Choices)
        return [] if answer.data is None else list(answer.data.colours)

    async with Wire(transport, revision).open(
        server, elicitation_handler=lambda request: {"colours": ["red"]}
    ) as client:
        if can:
            assert (await client.call_tool("tool")).data == ["red"]
        else:
            with pytest.raises(ToolError, match=f"in protocol {revision} a form cannot ask for a list"):
                await client.call_tool("tool")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_asks_for_no_task_before_there_were_tasks(transport):
    recorder = Wire(transport, THIRD).recorder(Server("older"))
    async with Wire(transport, THIRD).open(recorder) as client:
        for ask in (client.fetch_task, client.cancel_task):
            with pytest.raises(NotSupportedByEra, match=f"protocol {THIRD} has no tasks"):
                await ask("any")
    assert recorder.sent_messages("tasks/get") == []
