"""Clients are told of changes, in the way of their era, over every transport (MCP subscriptions)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.change_listener import ALL_LISTS, SUBSCRIPTION_ID, ChangeListener, open_listener
from tests.support.limits import HANG_SECONDS
from tests.tasks.task_server import raw_peer
from trio_mcp import (
    Context,
    ProtocolError,
    ResourceUpdated,
    Server,
    ServerSettings,
    TaskConfig,
    ToolsListChanged,
    open_server,
)
from trio_mcp.server.changes import ListKind
from trio_mcp.server.resource_table import ResourceTable
from trio_mcp.wire.messages import ListenParams, SubscribeParams, SubscriptionFilter

UPDATED = "notifications/resources/updated"


def make_server(**settings: Any) -> Server:
    server = Server("changing", settings=ServerSettings(**settings))

    @server.tool
    async def touch(uri: str) -> str:
        """Change a resource."""
        server.notify_resource_updated(uri)
        return "touched"

    @server.tool
    def touch_in_thread(uri: str) -> str:
        """Change a resource, from a worker thread."""
        server.notify_resource_updated(uri)
        return "touched"

    @server.tool
    async def change_list(kind: ListKind, ctx: Context) -> str:
        """Change a list, as whatever adds to it does."""
        server.definition.changes.tell(kind)
        await ctx.report_progress(1)
        return "changed"

    @server.prompt
    async def greet() -> str:
        """Say hello."""
        return "Hello"

    @server.resource("config://app")
    async def config() -> str:
        return "debug = true"

    @server.resource("users://{name}/profile")
    async def profile(name: str) -> str:
        return name

    return server


def without_own(message: Any) -> Any:
    """What a notification says in both eras."""
    params = {key: value for key, value in message.get("params", {}).items() if key != "_meta"}
    return message["method"], params


async def touch(listener: ChangeListener, uri: str, tool: str = "touch") -> None:
    assert (await listener.client.call_tool(tool, {"uri": uri})).text == "touched"


@pytest.mark.parametrize("kind", ["tools", "prompts", "resources"])
async def test_a_running_handler_changes_a_list_and_the_client_is_told(wire: Wire, kind: ListKind) -> None:
    async with open_listener(wire, make_server()) as listener:
        await listener.watch_lists()
        await listener.client.call_tool("change_list", {"kind": kind})
        message = await listener.receive(method=f"notifications/{kind}/list_changed")
    assert without_own(message) == (f"notifications/{kind}/list_changed", {})
    assert (SUBSCRIPTION_ID in message.get("params", {}).get("_meta", {})) == (wire.protocol == MODERN)


@pytest.mark.parametrize("tool", ["touch", "touch_in_thread"])
@pytest.mark.parametrize("uri", ["config://app", "users://ada/profile"])
async def test_a_subscriber_is_told_of_updates_of_its_resource_alone(wire: Wire, uri: str, tool: str) -> None:
    async with open_listener(wire, make_server()) as listener:
        await listener.subscribe(uri)
        await touch(listener, "users://other/profile", tool)
        await touch(listener, uri, tool)
        message = await listener.receive(method=UPDATED)
    assert without_own(message) == (UPDATED, {"uri": uri})


async def test_every_connection_of_a_server_is_told_and_a_client_that_leaves_leaves_nothing(
    wire: Wire,
) -> None:
    server = make_server()
    async with open_server(server) as running:
        audience = running.application.audience
        async with open_listener(wire, running) as first:
            await first.subscribe("config://app")
            async with open_listener(wire, running) as second:
                await second.subscribe("config://app")
                await second.watch_lists()
                server.notify_resource_updated("config://app")
                server.definition.changes.tell("tools")
                for listener in (first, second):
                    await listener.receive(method=UPDATED)
                await second.receive(method="notifications/tools/list_changed")
            await wait_for(lambda: len(audience.subscribers) <= 2)  # of a legacy server, one is for the lists
            await touch(first, "config://app")
            await first.receive(method=UPDATED)
        await wait_for(lambda: len(audience) == 0)
        assert "0 sessions, 0 URIs of 0 clients" in repr(running.application._find_subscriptions())


async def wait_for(condition: Any) -> None:
    """Wait until the server has noticed what happened at the other end."""
    with trio.fail_after(HANG_SECONDS):
        while not condition():  # noqa: ASYNC110  # the server has no event for it
            await trio.lowlevel.checkpoint()


async def test_what_both_eras_announce(wire: Wire) -> None:
    async with open_listener(wire, make_server()) as listener:
        capabilities = listener.client.server_capabilities
    assert capabilities["tools"] == {"listChanged": True}
    assert capabilities["prompts"] == {"listChanged": True}
    assert capabilities["resources"] == {"subscribe": True, "listChanged": True}


class TestModern:
    """subscriptions/listen."""

    @pytest.fixture(autouse=True)
    def modern(self, wire: Wire) -> None:
        if wire.protocol != MODERN:
            pytest.skip("the legacy eras have other methods")

    async def test_nothing_is_sent_that_was_not_asked_for(self, wire: Wire) -> None:
        server = make_server()
        async with open_listener(wire, server) as listener:
            _, honoured = await listener.listen(prompts_list_changed=True, tools_list_changed=False)
            assert honoured == {"promptsListChanged": True}
            for kind in ("tools", "resources", "prompts"):
                await listener.client.call_tool("change_list", {"kind": kind})
            await touch(listener, "config://app")
            await listener.receive(method="notifications/prompts/list_changed")
            await listener.client.list_tools()
        methods = {message["method"] for message in listener.messages if "method" in message}
        assert not methods & {
            UPDATED,
            "notifications/tools/list_changed",
            "notifications/resources/list_changed",
        }

    async def test_the_acknowledgement_omits_what_the_server_does_not_have(self, wire: Wire) -> None:
        wanted = {**ALL_LISTS, "resource_subscriptions": ["config://app", "nothing://here", "config://app"]}
        async with open_listener(wire, make_server()) as listener:
            _, honoured = await listener.listen(**wanted)
        assert honoured == {
            "toolsListChanged": True,
            "promptsListChanged": True,
            "resourcesListChanged": True,
            "resourceSubscriptions": ["config://app"],
        }
        async with open_listener(wire, Server("bare")) as listener:
            _, honoured = await listener.listen(**wanted)
        assert honoured == {"toolsListChanged": True}

    async def test_a_client_has_several_subscriptions_and_ends_each_alone(self, wire: Wire) -> None:
        async with open_server(make_server()) as running, open_listener(wire, running) as listener:
            session = listener.client._link.session
            first, _ = await listener.listen(resource_subscriptions=["config://app"], tools_list_changed=True)
            second, _ = await listener.listen(resource_subscriptions=["config://app"])
            await touch(listener, "config://app")
            told = [await listener.receive(method=UPDATED) for _ in range(2)]
            assert {message["params"]["_meta"][SUBSCRIPTION_ID] for message in told} == {first.id, second.id}
            session.end(first)
            await wait_for(lambda: len(running.application.audience) == 1)
            await touch(listener, "config://app")
            message = await listener.receive(method=UPDATED)
            assert message["params"]["_meta"][SUBSCRIPTION_ID] == second.id
            session.end(second)
            await wait_for(lambda: len(running.application.audience) == 0)

    async def test_one_subscription_may_have_lists_and_tasks(self, wire: Wire) -> None:
        server = make_server()
        release = trio.Event()

        @server.tool(task=TaskConfig(promote_after=0))
        async def work() -> str:
            await release.wait()
            return "done"

        async with open_listener(wire, server) as listener:
            task = await listener.client.call_tool("work", task=True)
            link = listener.client._link
            link.meta = {
                **link.meta,
                "io.modelcontextprotocol/clientCapabilities": {
                    "extensions": {"io.modelcontextprotocol/tasks": {}}
                },
            }
            _, honoured = await listener.listen(task_ids=[task.id, "unknown"], tools_list_changed=True)
            assert honoured == {"taskIds": [task.id], "toolsListChanged": True}
            server.disable(tools="touch")
            await listener.receive(method="notifications/tools/list_changed")
            release.set()
            statuses = []
            while "completed" not in statuses:
                message = await listener.receive(method="notifications/tasks")
                statuses.append(message["params"]["status"])

    async def test_too_many_uris_are_refused_and_the_places_come_back(self, wire: Wire) -> None:
        server = make_server(max_subscribed_uris=2)
        uris = [f"users://{name}/profile" for name in ("ada", "bob", "cyd")]
        async with open_server(server) as running, open_listener(wire, running) as listener:
            session = listener.client._link.session
            call, _ = await listener.listen(resource_subscriptions=uris[:2])
            with pytest.raises(ProtocolError, match="max_subscribed_uris is 2"):
                await refused(listener, uris[2:])
            session.end(call)
            await wait_for(lambda: len(running.application.audience) == 0)
            await listener.listen(resource_subscriptions=uris[1:])
            with pytest.raises(ProtocolError, match="characters is too long"):
                await refused(listener, [f"users://{'x' * 9000}/profile"])

    async def test_too_many_uris_are_refused_before_any_is_looked_for(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = make_server(max_subscribed_uris=2)
        assert server.definition.resources is not None
        monkeypatch.setattr(ResourceTable, "find", lambda table, uri: pytest.fail(f"{uri} was looked for"))
        async with open_listener(wire, server) as listener:
            with pytest.raises(ProtocolError, match="max_subscribed_uris is 2"):
                await refused(listener, ["nothing://1", "nothing://2", "nothing://3"])


class TestLegacy:
    """resources/subscribe and resources/unsubscribe; changes of lists need no subscription."""

    @pytest.fixture(autouse=True)
    def legacy(self, wire: Wire) -> None:
        if wire.protocol != LEGACY:
            pytest.skip("the modern era has subscriptions/listen")

    async def test_after_unsubscribing_nothing_is_told(self, wire: Wire) -> None:
        async with open_listener(wire, make_server()) as listener:
            link = listener.client._link
            for uri in ("config://app", "users://ada/profile"):
                await listener.subscribe(uri)
                await listener.subscribe(uri)  # once more changes nothing
            for _ in range(2):
                await link.request("resources/unsubscribe", SubscribeParams(uri="config://app"))
            await touch(listener, "config://app")
            await touch(listener, "users://ada/profile")
            message = await listener.receive(method=UPDATED)
        assert message["params"] == {"uri": "users://ada/profile"}

    async def test_what_cannot_be_subscribed_to_gets_an_error(self, wire: Wire) -> None:
        async with open_listener(wire, make_server(max_subscribed_uris=1)) as listener:
            with pytest.raises(ProtocolError) as unknown:
                await listener.subscribe("nothing://here")
            assert (unknown.value.code, unknown.value.data) == (-32002, {"uri": "nothing://here"})
            await listener.subscribe("config://app")
            await listener.subscribe("config://app")
            with pytest.raises(ProtocolError, match="max_subscribed_uris is 1"):
                await listener.subscribe("users://ada/profile")
            await listener.client._link.request("resources/unsubscribe", SubscribeParams(uri="config://app"))
            await listener.subscribe("users://ada/profile")
        async with open_listener(wire, Server("bare")) as listener:
            for method in ("resources/subscribe", "resources/unsubscribe"):
                with pytest.raises(ProtocolError) as missing:
                    await listener.client._link.request(method, SubscribeParams(uri="config://app"))
                assert missing.value.code == -32601

    async def test_a_session_is_told_only_of_lists_that_it_was_offered(self, wire: Wire) -> None:
        server = Server("bare")
        async with open_listener(wire, server) as listener:
            await listener.client.list_tools()
            server.definition.changes.tell("prompts")
            server.definition.changes.tell("tools")
            await listener.receive(method="notifications/tools/list_changed")
        methods = [message.get("method") for message in listener.messages]
        assert "notifications/prompts/list_changed" not in methods


async def refused(listener: ChangeListener, uris: list[str]) -> None:
    """Ask for a subscription that is answered with an error, which is raised."""
    params = ListenParams(notifications=SubscriptionFilter(resource_subscriptions=uris))
    await listener.client._link.request("subscriptions/listen", params)


async def test_our_client_is_told_by_one_code_in_both_eras(wire: Wire) -> None:
    server = make_server()
    async with open_server(server) as running, wire.open_running(running) as client:
        async with client.listen(tools=True, uris=["config://app"]) as changes:
            await client.call_tool("touch", {"uri": "config://app"})
            assert await changes.receive() == ResourceUpdated("config://app")
            server.disable(tools="touch_in_thread")
            assert await changes.receive() == ToolsListChanged()
        await client.call_tool("touch", {"uri": "config://app"})
        # Of a legacy session the application stays, which tells it of lists.
        await wait_for(lambda: len(running.application.audience) == (0 if wire.protocol == MODERN else 3))


async def test_a_client_that_begins_a_new_session_on_its_wire_begins_without_subscriptions() -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        await peer.initialize(LEGACY)
        subscribe = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe"}
        assert (await peer.ask({**subscribe, "params": {"uri": "config://app"}}))["result"] == {}
        assert len(running.application.audience) == 4
        await peer.initialize(LEGACY)
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await peer.ask(ping))["result"] == {}
        assert len(running.application.audience) == 3, "the lists"


async def test_lists_are_told_only_once_the_handshake_has_ended() -> None:
    server = make_server()
    async with open_server(server) as running, raw_peer(running) as peer:
        params = {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        await peer.ask({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        server.disable(tools="touch")
        await peer.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert (await peer.ask({"jsonrpc": "2.0", "id": 2, "method": "ping"}))["id"] == 2
        server.enable(tools="touch")
        assert (await peer.receive())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("protocol", [LEGACY, MODERN])
def test_a_server_to_which_nobody_subscribes_imports_nothing_for_it(protocol: str) -> None:
    code = f"""if True:
        import sys, trio
        from trio_mcp import Server, open_client

        server = Server("tools")
        server.add_tool(lambda: "done", name="work")

        async def main():
            async with open_client(server, protocol={protocol!r}) as client:
                await client.call_tool("work")
                server.notify_resource_updated("config://app")

        trio.run(main)
        print([name for name in sys.modules if name.endswith(("subscription_methods", "change_feed"))])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
