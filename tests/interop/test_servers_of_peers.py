"""Our client uses all of servers of other implementations, over stdio, HTTP and HTTP+SSE, in both eras.

The servers in `tests/peers` are twins of `our_full_server.py`. What one does not offer is in its `Peer`.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    ElicitRequest,
    ImageContent,
    PromptReference,
    ProtocolError,
    ResourceTemplateReference,
    ResourceUpdated,
    Root,
    TextContent,
    ToolError,
    ToolsListChanged,
    open_client,
)

PEERS = Path(__file__).parents[1] / "peers"
PLACE, USERS = "config://app", "users://{user_id}/profile"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32601, -32602, -32603
ANSWERS = {
    "What?": {"what": "tea", "size": "l"},
    "First name?": {"name": "Ada"},
    "Last name?": {"name": "Lovelace"},
}


@attrs.frozen(kw_only=True)
class Peer:
    """A server: where it is installed, the era that is spoken, and what it does otherwise than others."""

    environment: str
    protocol: str
    unknown_resource: int = INVALID_PARAMS
    """The code of its error for an unknown URI. None of them has that of the legacy eras, -32002."""
    missing_argument: int = INVALID_PARAMS
    """The code of its error if an argument of a prompt is missing."""
    tells_of_lists: bool = True
    tells_of_resources: bool = True
    transports: tuple[str, ...] = ("stdio", "http")
    keeps_sessions: bool = True
    """Over HTTP. Otherwise nothing can be told or asked: each request is on its own."""

    def command(self, path: Path) -> list[str]:
        if self.environment.startswith("ts"):
            return ["node", str(PEERS / "ts_full_server.mjs"), str(path)]
        if self.environment == "mcp1":
            return [str(path / "bin" / "python"), str(PEERS / "sdk1_full_server.py")]
        maker = "mcp" if self.environment.startswith("mcp") else "fastmcp"
        return [str(path / "bin" / "python"), str(PEERS / "full_server.py"), maker]


SERVERS = {
    "mcp1": Peer(
        environment="mcp1",
        protocol=LEGACY,
        unknown_resource=0,
        missing_argument=0,
        transports=("stdio", "http", "sse"),
    ),
    # In the legacy eras it has subscriptions in its lower layer only: see `lowlevel_server.py`.
    "mcp2-legacy": Peer(
        environment="mcp2",
        protocol=LEGACY,
        missing_argument=0,
        tells_of_resources=False,
        transports=("stdio", "http", "sse"),
    ),
    "mcp2-modern": Peer(environment="mcp2", protocol=MODERN, missing_argument=INTERNAL_ERROR),
    # It has neither resources/subscribe nor subscriptions/listen.
    "fastmcp42-legacy": Peer(environment="fastmcp42", protocol=LEGACY, tells_of_resources=False),
    "fastmcp42-modern": Peer(
        environment="fastmcp42", protocol=MODERN, tells_of_lists=False, tells_of_resources=False
    ),
    "ts1": Peer(environment="ts1", protocol=LEGACY),
    # Over HTTP its handler of both eras serves legacy clients without sessions.
    "ts2-legacy": Peer(environment="ts2", protocol=LEGACY, keeps_sessions=False),
    "ts2-modern": Peer(environment="ts2", protocol=MODERN),
}


@pytest.mark.parametrize(
    ("name", "transport"),
    [(name, transport) for name, peer in SERVERS.items() for transport in peer.transports],
)
async def test_our_client_uses_all_of_a_server(
    name: str,
    transport: str,
    environment: Callable[[str], Path],
    serve: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All in one connection, for starting a server takes long."""
    peer = SERVERS[name]
    if peer.environment.startswith("ts") and shutil.which("node") is None:
        pytest.skip("needs Node.js")
    command = peer.command(environment(peer.environment))
    pages: list[str | None] = []
    async with connected(
        command if transport == "stdio" else serve(*command, transport), peer.protocol, pages
    ) as client:
        await check_resources(client, peer)
        await check_prompts(client, peer)
        await check_completion(client)
        if transport == "stdio" or peer.keeps_sessions:
            await check_changes(client, peer)
            await check_questions(client, pages)
        else:
            await check_nothing_is_told(client)
            assert "has no stream for its own messages" in caplog.text
            await check_nothing_is_asked(client)


@asynccontextmanager
async def connected(target: str | list[str], protocol: str, pages: list[str | None]) -> AsyncIterator[Client]:
    def open_page(request: ElicitRequest) -> bool:
        pages.append(request.url)
        return True

    with trio.fail_after(HANG_SECONDS):
        async with open_client(
            target,
            protocol=protocol,
            elicitation_handler=lambda request: ANSWERS[request.message],
            elicitation_url_handler=open_page,
            sampling_handler=lambda request: "Ada",
            roots=[Root("file:///work", "Work")],
        ) as client:
            assert client.protocol_version == protocol
            yield client


async def check_resources(client: Client, peer: Peer) -> None:
    resources = await client.list_resources()
    assert [(resource.uri, resource.mime_type) for resource in resources] == [
        (PLACE, "application/json"),
        ("logo://app", "image/png"),
    ]
    (template,) = await client.list_resource_templates()
    assert template.uri_template == USERS
    assert json.loads((await client.read_resource(PLACE)).text) == {"level": 3}
    assert (await client.read_resource("logo://app")).data == b"\x89PNG\r\n"
    assert (await client.read_resource("users://7/profile")).text == "user 7"
    with pytest.raises(ProtocolError) as caught:
        await client.read_resource("nowhere://at/all")
    assert caught.value.code == peer.unknown_resource


async def check_prompts(client: Client, peer: Peer) -> None:
    review, look = await client.list_prompts()
    assert (review.name, review.description, look.name) == ("review", "Ask for a review.", "look")
    assert [(argument.name, argument.required) for argument in review.arguments or []] == [
        ("text", True),
        ("style", False),
    ]
    ask, answer = (await client.get_prompt("review", {"text": "Ishmael"})).messages
    assert (ask.role, ask.content) == ("user", TextContent(text="Review in dry style: Ishmael"))
    assert (answer.role, answer.content) == ("assistant", TextContent(text="My first remark:"))
    (picture,) = (await client.get_prompt("look")).messages
    assert picture.content == ImageContent(data=base64.b64encode(b"picture").decode(), mime_type="image/png")
    with pytest.raises(ProtocolError) as caught:
        await client.get_prompt("review")
    assert caught.value.code == peer.missing_argument


async def check_completion(client: Client) -> None:
    style = {"name": "style", "value": "d"}
    completion = await client.complete(PromptReference(name="review"), style, {"text": "x"})
    assert completion.values == ["dry x", "dramatic x"]
    assert completion.total in (2, None)
    user = {"name": "user_id", "value": "4"}
    completion = await client.complete(ResourceTemplateReference(USERS), user)
    assert completion.values == ["40", "41"]


async def check_changes(client: Client, peer: Peer) -> None:
    if not peer.tells_of_resources:
        await check_refused(client, uris=[PLACE])
    if not peer.tells_of_lists:
        await check_refused(client, tools=True)
        return
    uris = [PLACE] if peer.tells_of_resources else ()
    async with client.listen(tools=True, uris=uris) as changes, client.listen(prompts=True) as others:
        await client.call_tool("show")
        assert await changes.receive() == ToolsListChanged()
        if uris:
            assert changes.honoured.resource_subscriptions == uris
            await client.call_tool("touch")
            assert await changes.receive() == ResourceUpdated(PLACE)
        await client.ping()
        for channel in (changes, others):
            with pytest.raises(trio.WouldBlock):
                channel.receive_nowait()
    assert "hidden" in {tool.name for tool in await client.list_tools()}


async def check_refused(client: Client, **wanted: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        async with client.listen(**wanted):
            pass
    assert caught.value.code == METHOD_NOT_FOUND
    await client.ping()


async def check_questions(client: Client, pages: list[str | None]) -> None:
    seen: list[Any] = []
    assert (await client.call_tool("order")).text == "tea l accept Ada ['Work']"
    assert pages == ["https://example.com/pay"]
    introduced = await client.call_tool(
        "introduce", {"greeting": "Hello"}, progress_handler=lambda *update: seen.append(update)
    )
    assert introduced.text == "Hello, Ada Lovelace: Ada"
    assert seen == [(1, 4, "before all"), (2, 4, "one name"), (3, 4, "both names"), (4, 4, "done")]


async def check_nothing_is_told(client: Client) -> None:
    async with client.listen(tools=True, uris=[PLACE]) as changes:
        await client.call_tool("show")
        await client.call_tool("touch")
        with pytest.raises(trio.WouldBlock):
            changes.receive_nowait()


async def check_nothing_is_asked(client: Client) -> None:
    with pytest.raises(ToolError, match="per-request legacy serving cannot receive"):
        await client.call_tool("order")


async def test_our_client_subscribes_at_a_legacy_server_of_the_sdk(
    environment: Callable[[str], Path],
) -> None:
    command = [str(environment("mcp2") / "bin" / "python"), str(PEERS / "lowlevel_server.py")]
    async with connected(command, LEGACY, []) as client:
        async with client.listen(tools=True, uris=[PLACE]) as changes:
            assert (await client.call_tool("change")).text == f"['{PLACE}']"
            assert [await changes.receive(), await changes.receive()] == [
                ResourceUpdated(PLACE),
                ToolsListChanged(),
            ]
        assert (await client.call_tool("change")).text == "[]", "it was unsubscribed"
