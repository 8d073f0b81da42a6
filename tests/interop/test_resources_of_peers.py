"""Our client with resources, prompts, completions and changes of servers of the official SDK and FastMCP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    PromptReference,
    ProtocolError,
    ResourceTemplateReference,
    ResourceUpdated,
    TextContent,
    ToolsListChanged,
    open_client,
)

PEERS = Path(__file__).parents[1] / "peers"
PLACE = "config://app"
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@pytest.fixture(scope="module")
def commands(environment: Callable[[str], Path]) -> dict[str, list[str]]:
    peers = {"sdk": "mcp2", "lowlevel": "mcp2", "fastmcp": "fastmcp4"}
    return {
        maker: [str(environment(peer) / "bin" / "python"), str(PEERS / "resource_servers.py"), maker]
        for maker, peer in peers.items()
    }


@pytest.mark.parametrize("protocol", [LEGACY, MODERN])
@pytest.mark.parametrize("maker", ["sdk", "fastmcp"])
async def test_our_client_reads_lists_and_completes(
    commands: dict[str, list[str]], maker: str, protocol: str
) -> None:
    with trio.fail_after(HANG_SECONDS):
        async with open_client(commands[maker], protocol=protocol) as client:
            resources = {resource.uri: resource for resource in await client.list_resources()}
            assert resources.keys() == {PLACE, "logo://app"}
            assert resources[PLACE].mime_type == "application/json"
            (template,) = await client.list_resource_templates()
            assert template.uri_template == "users://{name}/profile"
            assert (await client.read_resource(PLACE)).text == '{"reads": 1}'
            assert (await client.read_resource("logo://app")).data == b"\x89PNG\r\n"
            assert (await client.read_resource("users://ada/profile")).text == "profile of ada"
            with pytest.raises(ProtocolError):
                await client.read_resource("nowhere://at/all")
            (prompt,) = await client.list_prompts()
            assert (prompt.name, prompt.description) == ("greet", "Say hello.")
            (message,) = (await client.get_prompt("greet", {"name": "Ada"})).messages
            assert message.content == TextContent(text="Greet Ada")
            for ref in (PromptReference(name="greet"), ResourceTemplateReference("users://{name}/profile")):
                completion = await client.complete(ref, {"name": "name", "value": "a"})
                assert completion.values == ["ada", "alan"]


async def test_our_client_listens_to_a_modern_server_of_the_sdk(commands: dict[str, list[str]]) -> None:
    with trio.fail_after(HANG_SECONDS):
        async with (
            open_client(commands["sdk"], protocol=MODERN) as client,
            client.listen(tools=True, uris=[PLACE]) as changes,
            client.listen(prompts=True) as others,
        ):
            assert changes.honoured.resource_subscriptions == [PLACE]
            await client.call_tool("change")
            assert [await changes.receive(), await changes.receive()] == [
                ResourceUpdated(PLACE),
                ToolsListChanged(),
            ]
            assert {tool.name for tool in await client.list_tools()} == {"change", "new"}
            with pytest.raises(trio.WouldBlock):
                others.receive_nowait()


async def test_our_client_subscribes_at_a_legacy_server_of_the_sdk(commands: dict[str, list[str]]) -> None:
    with trio.fail_after(HANG_SECONDS):
        async with open_client(commands["lowlevel"], protocol=LEGACY) as client:
            async with client.listen(tools=True, uris=[PLACE]) as changes:
                assert (await client.call_tool("change")).text == f"['{PLACE}']"
                assert [await changes.receive(), await changes.receive()] == [
                    ResourceUpdated(PLACE),
                    ToolsListChanged(),
                ]
            assert (await client.call_tool("change")).text == "[]", "it was unsubscribed"


@pytest.mark.parametrize("protocol", [LEGACY, MODERN])
async def test_a_server_without_subscriptions_says_so(commands: dict[str, list[str]], protocol: str) -> None:
    with trio.fail_after(HANG_SECONDS):
        async with open_client(commands["fastmcp"], protocol=protocol) as client:
            with pytest.raises(ProtocolError) as caught:
                await client.subscribe(PLACE).__aenter__()
            assert caught.value.code == -32601
            await client.ping()
