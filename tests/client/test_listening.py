"""Listening for changes: what is asked of a server in each era, and what a reader of the channel sees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, error, result, silence
from trio_mcp import (
    CallTimeout,
    ChangeChannel,
    Client,
    ClientSettings,
    ConnectionLost,
    PromptsListChanged,
    ProtocolError,
    RemoteProtocolError,
    ResourcesListChanged,
    ResourceUpdated,
    SubscriptionRefused,
    ToolsListChanged,
    open_client,
)
from trio_mcp.client.changes import MAX_PENDING

CAPABILITIES = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
}
SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"
PLACE = "config://app"


def acknowledge(request: Any, **honoured: Any) -> dict[str, Any]:
    meta = {SUBSCRIPTION_ID: request.id}
    return {
        "method": "notifications/subscriptions/acknowledged",
        "params": {"_meta": meta, "notifications": honoured},
    }


def read_params(request: Any) -> Any:
    return msgspec.json.decode(request.params)


@attrs.define
class ChangingServer:
    """A server of either era that has subscriptions, and tells of changes when a test wants it."""

    protocol: str
    fake: FakeServer = attrs.field(init=False)
    listens: list[Any] = attrs.field(factory=list)
    """The identifiers of the subscriptions/listen, in order."""
    filters: list[Any] = attrs.field(factory=list)
    resources: list[tuple[str, str]] = attrs.field(factory=list)
    """What was subscribed to and unsubscribed, in order."""

    def __attrs_post_init__(self) -> None:
        self.fake = FakeServer(
            {
                "initialize": result({**INITIALIZED, "capabilities": CAPABILITIES}),
                "server/discover": result({**DISCOVERED, "capabilities": CAPABILITIES}),
                "ping": result({}),
                "subscriptions/listen": self.listen,
                "resources/subscribe": self.note_resource("subscribe"),
                "resources/unsubscribe": self.note_resource("unsubscribe"),
            }
        )

    def listen(self, request: Any) -> dict[str, Any]:
        self.listens.append(request.id)
        self.filters.append(read_params(request)["notifications"])
        return acknowledge(request, **self.filters[-1])

    def note_resource(self, what: str) -> Callable[[Any], dict[str, Any]]:
        def note(request: Any) -> dict[str, Any]:
            self.resources.append((what, read_params(request)["uri"]))
            return result({})(request)

        return note

    def connect(self, **options: Any) -> AbstractAsyncContextManager[Client]:
        return open_client(self.fake, protocol=self.protocol, **options)

    async def tell(self, what: str, listener: int = -1, **params: Any) -> None:
        """Tell of a change, in the modern era the subscription of that number."""
        message: dict[str, Any] = {"method": f"notifications/{what}"}
        if self.protocol == MODERN:
            params["_meta"] = {SUBSCRIPTION_ID: self.listens[listener]}
        if params:
            message["params"] = params
        await self.fake.send(message)


@pytest.fixture(params=[MODERN, LEGACY])
def server(request: pytest.FixtureRequest) -> ChangingServer:
    return ChangingServer(request.param)


@pytest.fixture
def modern() -> ChangingServer:
    return ChangingServer(MODERN)


@pytest.fixture
def legacy() -> ChangingServer:
    return ChangingServer(LEGACY)


def drain(changes: ChangeChannel) -> list[Any]:
    """All that is pending now."""
    found: list[Any] = []
    while True:
        try:
            found.append(changes.receive_nowait())
        except trio.WouldBlock:
            return found


async def test_every_kind_of_change_is_read_in_order(server: ChangingServer) -> None:
    async with (
        server.connect() as client,
        client.listen(tools=True, prompts=True, resources=True, uris=[PLACE]) as changes,
    ):
        await server.tell("prompts/list_changed")
        await server.tell("resources/updated", uri=PLACE)
        await server.tell("tools/list_changed")
        await server.tell("resources/list_changed")
        seen = [await changes.receive() for _ in range(4)]
    assert seen == [PromptsListChanged(), ResourceUpdated(PLACE), ToolsListChanged(), ResourcesListChanged()]


async def test_a_change_that_is_pending_is_told_once_and_after_it_was_read_again(
    server: ChangingServer,
) -> None:
    async with server.connect() as client, client.listen(tools=True, uris=[PLACE, "b:"]) as changes:
        for _ in range(5):
            await server.tell("resources/updated", uri=PLACE)
            await server.tell("tools/list_changed")
            await server.tell("resources/updated", uri="b:")
        assert drain(changes) == [ResourceUpdated(PLACE), ToolsListChanged(), ResourceUpdated("b:")]
        await server.tell("resources/updated", uri=PLACE)
        assert drain(changes) == [ResourceUpdated(PLACE)]


async def test_what_was_not_asked_for_is_not_told(server: ChangingServer) -> None:
    async with server.connect() as client, client.listen(tools=True) as changes:
        await server.tell("prompts/list_changed")
        await server.tell("resources/updated", uri=PLACE)
        await server.tell("resources/updated")  # malformed
        await server.tell("tools/list_changed")
        assert drain(changes) == [ToolsListChanged()]


async def test_two_listeners_each_hear_what_is_theirs(server: ChangingServer) -> None:
    async with (
        server.connect() as client,
        client.subscribe("a://one") as ones,
        client.subscribe("a://two") as twos,
    ):
        await server.tell("resources/updated", 0, uri="a://one")
        await server.tell("resources/updated", 1, uri="a://two")
        await server.tell("resources/updated", 1, uri="a://two/part")
        assert drain(ones) == [ResourceUpdated("a://one")]
        assert drain(twos) == [ResourceUpdated("a://two"), ResourceUpdated("a://two/part")]


async def test_very_many_parts_of_a_resource_are_told_as_the_resource(server: ChangingServer) -> None:
    async with server.connect() as client, client.listen(tools=True, uris=[PLACE]) as changes:
        await server.tell("tools/list_changed")
        for number in range(MAX_PENDING + 1):
            await server.tell("resources/updated", uri=f"{PLACE}/{number}")
        assert drain(changes) == [ToolsListChanged(), ResourceUpdated(PLACE)]


async def test_a_lost_connection_is_raised_behind_what_was_told(server: ChangingServer) -> None:
    async with server.connect() as client, client.subscribe(PLACE) as changes:
        await server.tell("resources/updated", uri=PLACE)
        await server.fake.close()
        assert await changes.receive() == ResourceUpdated(PLACE)
        with pytest.raises(ConnectionLost, match="closed the connection"):
            await changes.receive()


async def test_listening_for_nothing_is_refused(server: ChangingServer) -> None:
    async with server.connect() as client:
        with pytest.raises(ValueError, match="listen for lists"):
            await client.listen().__aenter__()
        with pytest.raises(TypeError, match="a sequence of URIs"):
            await client.listen(uris="config://app").__aenter__()
    assert server.listens == server.resources == []


async def test_an_exception_of_the_block_comes_out_alone(server: ChangingServer) -> None:
    async with server.connect() as client:
        with pytest.raises(KeyError):
            async with client.subscribe(PLACE):
                raise KeyError
        with trio.move_on_after(0) as scope:
            async with client.subscribe(PLACE):
                pass
        assert scope.cancelled_caught
        await client.ping()


async def test_a_closed_channel_says_so(server: ChangingServer) -> None:
    async with server.connect() as client:
        async with client.subscribe(PLACE) as changes:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await changes.receive()


async def test_a_modern_server_is_asked_once_and_told_of_the_end(modern: ChangingServer) -> None:
    async with modern.connect() as client:
        async with client.listen(tools=True, uris=[PLACE, PLACE]) as changes:
            assert changes.honoured.tools_list_changed is True
        await client.ping()
    assert modern.filters == [{"toolsListChanged": True, "resourceSubscriptions": [PLACE]}]
    assert modern.fake.asked[-2:] == ["notifications/cancelled", "server/discover"]


async def test_a_subscription_that_the_server_ends_well_ends_the_channel(modern: ChangingServer) -> None:
    async with modern.connect() as client, client.subscribe(PLACE) as changes:
        await modern.tell("resources/updated", uri=PLACE)
        await modern.fake.send({"id": modern.listens[0], "result": {"resultType": "complete"}})
        assert [change async for change in changes] == [ResourceUpdated(PLACE)]
        await client.ping()
    assert len(modern.listens) == 1


async def test_entering_waits_for_the_acknowledgement(modern: ChangingServer, autojump_clock: Any) -> None:
    waiting: list[Any] = []
    modern.fake.rules["subscriptions/listen"] = waiting.append
    entered = trio.Event()

    async def enter(client: Client) -> None:
        async with client.listen(tools=True):
            entered.set()

    async with modern.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(enter, client)
        await trio.sleep(30)
        assert not entered.is_set()
        await modern.fake.send(acknowledge(waiting[0], toolsListChanged=True))
        await entered.wait()


async def test_a_server_that_never_acknowledges_is_not_waited_for_ever(
    modern: ChangingServer, autojump_clock: Any
) -> None:
    modern.fake.rules["subscriptions/listen"] = silence
    async with modern.connect(settings=ClientSettings(handshake_timeout=7)) as client:
        began = trio.current_time()
        with pytest.raises(CallTimeout, match="not acknowledged within 7 s"):
            await client.listen(tools=True).__aenter__()
        assert trio.current_time() - began == pytest.approx(7)


async def test_a_refusal_of_the_server_is_raised(modern: ChangingServer, legacy: ChangingServer) -> None:
    modern.fake.rules["subscriptions/listen"] = error(-32601)
    legacy.fake.rules["resources/subscribe"] = error(-32601)
    for server in (modern, legacy):
        async with server.connect() as client:
            with pytest.raises(ProtocolError) as caught:
                await client.subscribe(PLACE).__aenter__()
            assert caught.value.code == -32601


async def test_a_subscription_that_ends_unacknowledged_is_an_error(modern: ChangingServer) -> None:
    modern.fake.rules["subscriptions/listen"] = result({})
    async with modern.connect() as client:
        with pytest.raises(RemoteProtocolError, match="unacknowledged"):
            await client.subscribe(PLACE).__aenter__()


@pytest.mark.parametrize("honoured", [{}, {"toolsListChanged": "yes"}, {"resourceSubscriptions": []}])
async def test_a_subscription_of_which_nothing_is_honoured_is_an_error(
    modern: ChangingServer, honoured: dict[str, Any]
) -> None:
    modern.fake.rules["subscriptions/listen"] = lambda request: acknowledge(request, **honoured)
    async with modern.connect() as client:
        with pytest.raises(SubscriptionRefused, match="the list of tools, config://app"):
            await client.listen(tools=True, uris=[PLACE]).__aenter__()


async def test_what_is_not_honoured_is_named(modern: ChangingServer, caplog: Any) -> None:
    modern.fake.rules["subscriptions/listen"] = lambda request: acknowledge(request, promptsListChanged=True)
    async with modern.connect() as client, client.listen(tools=True, prompts=True) as changes:
        assert changes.honoured.prompts_list_changed is True
        assert changes.honoured.tools_list_changed is None
    assert "does not tell of changes of the list of tools" in caplog.text


async def test_a_legacy_server_that_declares_no_changes_is_listened_to_all_the_same(
    legacy: ChangingServer, caplog: Any
) -> None:
    legacy.fake.rules["initialize"] = result({**INITIALIZED, "capabilities": {"tools": {}}})
    async with legacy.connect() as client, client.listen(tools=True) as changes:
        assert changes.honoured.tools_list_changed is None
        await legacy.tell("tools/list_changed")
        assert drain(changes) == [ToolsListChanged()]
    assert "does not tell of changes of the list of tools" in caplog.text


async def test_a_resource_is_unsubscribed_behind_its_last_listener(legacy: ChangingServer) -> None:
    async with legacy.connect() as client:
        async with client.subscribe("a:"), client.subscribe("b:"):
            async with client.subscribe("a:"):
                pass
            assert legacy.resources == [("subscribe", "a:"), ("subscribe", "b:")]
        assert sorted(legacy.resources[2:]) == [("unsubscribe", "a:"), ("unsubscribe", "b:")]
        async with client.subscribe("a:") as changes:
            await legacy.tell("resources/updated", uri="a:")
            assert drain(changes) == [ResourceUpdated("a:")]


async def test_a_cancelled_block_unsubscribes_without_waiting(
    legacy: ChangingServer, autojump_clock: Any
) -> None:
    legacy.fake.rules["resources/unsubscribe"] = silence
    async with legacy.connect() as client:
        with trio.move_on_after(1):
            async with client.subscribe(PLACE):
                await trio.sleep_forever()
        assert trio.current_time() == pytest.approx(1)
        await client.ping()
    assert legacy.fake.asked[-2:] == ["resources/unsubscribe", "ping"]


async def test_an_error_without_an_id_ends_the_call_and_not_the_subscription(modern: ChangingServer) -> None:
    modern.fake.rules["tools/call"] = lambda request: {"id": None, "error": {"code": -32700, "message": "no"}}
    async with modern.connect() as client, client.subscribe(PLACE) as changes:
        with pytest.raises(ProtocolError):
            await client.call_tool("any")
        await modern.tell("resources/updated", uri=PLACE)
        assert drain(changes) == [ResourceUpdated(PLACE)]


async def test_a_change_that_names_no_subscription_is_told_to_all(modern: ChangingServer) -> None:
    async with (
        modern.connect() as client,
        client.listen(tools=True) as ones,
        client.listen(tools=True) as twos,
    ):
        await modern.fake.send({"method": "notifications/tools/list_changed"})
        assert drain(ones) == drain(twos) == [ToolsListChanged()]


async def test_a_broken_stream_is_opened_again_and_all_is_told_as_changed(
    modern: ChangingServer, autojump_clock: Any
) -> None:
    async with modern.connect() as client, client.listen(tools=True, uris=[PLACE]) as changes:
        await modern.fake.send({"id": modern.listens[0], "result": 5, "error": "neither"})  # unreadable
        assert await changes.receive() == ToolsListChanged()
        assert await changes.receive() == ResourceUpdated(PLACE)
        assert len(modern.listens) == 2
        await modern.tell("resources/updated", uri=PLACE)
        assert await changes.receive() == ResourceUpdated(PLACE)


async def test_a_stream_that_breaks_again_and_again_is_given_up(
    modern: ChangingServer, autojump_clock: Any
) -> None:
    def break_off(request: Any) -> list[dict[str, Any]]:
        modern.listens.append(request.id)
        gone = {"id": request.id, "error": {"code": -32603, "message": "away", "data": {"status": 503}}}
        return [acknowledge(request, toolsListChanged=True), gone]

    modern.fake.rules["subscriptions/listen"] = break_off
    async with modern.connect() as client, client.listen(tools=True) as changes:
        for _ in range(8):
            assert await changes.receive() == ToolsListChanged()
        with pytest.raises(ProtocolError, match="away"):
            await changes.receive()
        assert len(modern.listens) == 9
        assert trio.current_time() > 60


async def test_the_change_handler_gets_each_change_of_a_list(server: ChangingServer) -> None:
    handled: list[Any] = []
    entered, may_return = trio.Event(), trio.Event()

    async def handle(change: Any) -> None:
        handled.append(change)
        if len(handled) == 1:
            entered.set()
            await may_return.wait()

    async with server.connect(change_handler=handle) as client:
        await server.tell("prompts/list_changed")
        await entered.wait()
        for _ in range(3):
            await server.tell("tools/list_changed")
        assert handled == [PromptsListChanged()], "never twice at once"
        may_return.set()
        await trio.testing.wait_all_tasks_blocked()
        assert handled == [PromptsListChanged(), ToolsListChanged()], "told once, as it was pending"
        await client.ping()
    if server.protocol == MODERN:
        assert server.filters == [
            {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}
        ]


async def test_a_failing_change_handler_is_logged_and_gets_the_next(
    server: ChangingServer, caplog: Any
) -> None:
    handled: list[Any] = []

    def handle(change: Any) -> None:
        handled.append(change)
        raise KeyError

    async with server.connect(change_handler=handle):
        for what in ("prompts", "tools"):
            await server.tell(f"{what}/list_changed")
            await trio.testing.wait_all_tasks_blocked()
    assert handled == [PromptsListChanged(), ToolsListChanged()]
    assert caplog.text.count("a change handler failed") == 1, "the same failure is told once"


async def test_a_server_without_changes_is_not_asked_for_the_handler(
    modern: ChangingServer, caplog: Any
) -> None:
    modern.fake.rules["server/discover"] = result(DISCOVERED)
    async with modern.connect(change_handler=print) as client:
        await client.ping()
    assert modern.listens == []
    assert caplog.text == ""


async def test_a_server_that_refuses_the_handler_can_be_used(modern: ChangingServer, caplog: Any) -> None:
    modern.fake.rules["subscriptions/listen"] = error(-32601)
    async with modern.connect(change_handler=print) as client:
        await client.ping()
    assert "was asked to tell of its changes, and does not" in caplog.text
