"""What a client keeps of a modern server's results, for how long, and what makes it ask again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, error, result
from trio_mcp import Client, ClientSettings, ElicitAnswer, ProtocolError, RemoteProtocolError, open_client

TTL = 300_000
ITEMS = {
    "tools": {"name": "t", "inputSchema": {"type": "object"}},
    "prompts": {"name": "p"},
    "resources": {"name": "r", "uri": "r:"},
    "resourceTemplates": {"name": "v", "uriTemplate": "v:{x}"},
}
LISTS: dict[str, tuple[str, Callable[[Client], Awaitable[list[Any]]]]] = {
    "tools": ("tools/list", Client.list_tools),
    "prompts": ("prompts/list", Client.list_prompts),
    "resources": ("resources/list", Client.list_resources),
    "resourceTemplates": ("resources/templates/list", Client.list_resource_templates),
}


@attrs.define
class CachingServer:
    """A server whose lists have pages and whose results may be kept for `ttl` milliseconds."""

    ttl: Any = TTL
    pages: int = 1
    protocol: str = MODERN
    reads: list[str] = attrs.field(factory=list)
    fake: FakeServer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        lists = {method: self.make_list(kind) for kind, (method, _) in LISTS.items()}
        self.fake = FakeServer(
            {
                "server/discover": result(DISCOVERED),
                "initialize": result(INITIALIZED),
                "ping": result({}),
                "resources/read": self.read,
                **lists,
            }
        )

    def make_list(self, kind: str) -> Callable[[Any], Any]:
        def list_page(request: Any) -> Any:
            page = int(msgspec.json.decode(request.params).get("cursor", "0"))
            more = {} if page + 1 >= self.pages else {"nextCursor": str(page + 1)}
            return result({kind: [ITEMS[kind]], "ttlMs": self.ttl, "cacheScope": "private", **more})(request)

        return list_page

    def read(self, request: Any) -> Any:
        uri = msgspec.json.decode(request.params)["uri"]
        self.reads.append(uri)
        contents = [{"uri": uri, "text": f"read {len(self.reads)}"}]
        return result({"contents": contents, "ttlMs": self.ttl, "cacheScope": "public"})(request)

    def count(self, method: str) -> int:
        return self.fake.asked.count(method)

    def connect(self, **options: Any) -> AbstractAsyncContextManager[Client]:
        return open_client(self.fake, protocol=self.protocol, **options)

    async def tell(self, what: str, **params: Any) -> None:
        await self.fake.send({"method": f"notifications/{what}", "params": params})


@pytest.mark.parametrize("kind", LISTS)
async def test_a_list_is_asked_for_again_when_its_time_is_over(kind: str, autojump_clock: Any) -> None:
    server = CachingServer(pages=3)
    method, read = LISTS[kind]
    async with server.connect() as client:
        first = await read(client)
        await trio.sleep(TTL / 1000 - 1)
        assert await read(client) == first
        assert (len(first), server.count(method)) == (3, 3)
        await trio.sleep(1)
        assert await read(client) == first
        assert server.count(method) == 6


@pytest.mark.parametrize("kind", LISTS)
async def test_a_list_can_be_asked_for_at_once(kind: str) -> None:
    server = CachingServer()
    method, read = LISTS[kind]
    async with server.connect() as client:
        await read(client)
        await read(client, refresh=True)  # type: ignore[call-arg]  # one of several methods that all take it
        await read(client)
    assert server.count(method) == 2


async def test_each_resource_is_kept_for_itself() -> None:
    server = CachingServer()
    async with server.connect() as client:
        assert (await client.read_resource("a:")).text == "read 1"
        assert (await client.read_resource("b:")).text == "read 2"
        assert (await client.read_resource("a:")).text == "read 1"
        assert (await client.read_resource("a:", refresh=True)).text == "read 3"
        assert (await client.read_resource("a:")).text == "read 3"


@pytest.mark.parametrize("ttl", [0, -5, None, "long", True])
async def test_what_has_no_time_is_not_kept(ttl: Any, caplog: Any) -> None:
    server = CachingServer(ttl)
    async with server.connect() as client:
        await client.list_prompts()
        await client.list_prompts()
    assert server.count("prompts/list") == 2


async def test_a_legacy_server_has_no_say_in_it() -> None:
    server = CachingServer(protocol=LEGACY)
    async with server.connect() as client:
        await client.list_prompts()
        await client.list_prompts()
    assert server.count("prompts/list") == 2


async def test_nothing_is_kept_if_the_client_does_not_want_it() -> None:
    server = CachingServer()
    async with server.connect(settings=ClientSettings(cache_bytes=0)) as client:
        await client.list_tools()
        await client.list_tools()
    assert server.count("tools/list") == 2


async def test_what_a_caller_does_to_a_result_changes_no_other() -> None:
    async with CachingServer().connect() as client:
        (tool,) = await client.list_tools()
        tool.name = "changed"
        tool.input_schema.clear()
        (tool,) = await client.list_tools()
    assert (tool.name, tool.input_schema) == ("t", {"type": "object"})


@pytest.mark.parametrize(
    ("what", "stale"),
    [
        ("tools/list_changed", {"tools"}),
        ("prompts/list_changed", {"prompts"}),
        ("resources/list_changed", {"resources", "resourceTemplates"}),
    ],
)
async def test_a_change_makes_its_lists_stale_and_no_others(what: str, stale: set[str]) -> None:
    server = CachingServer()
    async with server.connect() as client:
        for _, read in LISTS.values():
            await read(client)
        await server.tell(what)
        for _, read in LISTS.values():
            await read(client)
    assert {kind for kind, (method, _) in LISTS.items() if server.count(method) == 2} == stale


async def test_an_update_makes_the_resource_stale_and_those_that_it_is_part_of() -> None:
    server = CachingServer()
    async with server.connect() as client:
        for uri in ("a://one", "a://one/part", "a://other"):
            await client.read_resource(uri)
        await server.tell("resources/updated", uri="a://one/part")
        for uri in ("a://one", "a://one/part", "a://other"):
            await client.read_resource(uri)
    assert server.reads[3:] == ["a://one", "a://one/part"]


async def test_a_result_that_a_change_has_overtaken_is_not_kept() -> None:
    server = CachingServer()

    def list_and_change(request: Any) -> list[dict[str, Any]]:
        change = {"method": "notifications/prompts/list_changed"}
        return [change, result({"prompts": [], "ttlMs": TTL})(request)]

    server.fake.rules["prompts/list"] = list_and_change
    async with server.connect() as client:
        await client.list_prompts()
        await client.list_prompts()
    assert server.count("prompts/list") == 2


async def test_a_result_that_depends_on_answers_is_not_kept() -> None:
    form = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}
    server = CachingServer()

    def read(request: Any) -> Any:
        if "inputResponses" not in msgspec.json.decode(request.params):
            return result({"resultType": "input_required", "inputRequests": {"a": form}})(request)
        return server.read(request)

    server.fake.rules["resources/read"] = read
    async with server.connect(elicitation_handler=lambda form: ElicitAnswer("decline")) as client:
        await client.read_resource("a:")
        await client.read_resource("a:")
    assert server.reads == ["a:", "a:"]


async def test_the_least_used_results_give_way() -> None:
    server = CachingServer()
    async with server.connect(settings=ClientSettings(cache_bytes=300)) as client:
        for uri in ("a:", "b:", "c:", "a:", "d:", "a:", "b:"):
            await client.read_resource(uri)
    assert server.reads == ["a:", "b:", "c:", "d:", "b:"]


async def test_a_result_larger_than_the_cache_is_not_kept() -> None:
    server = CachingServer()
    async with server.connect(settings=ClientSettings(cache_bytes=50)) as client:
        await client.read_resource("a:")
        await client.read_resource("a:")
    assert server.reads == ["a:", "a:"]


async def test_a_cached_cursor_that_is_refused_starts_the_list_anew(autojump_clock: Any) -> None:
    server = CachingServer(pages=2)
    list_page = server.fake.rules["prompts/list"]
    cursors: list[Any] = []

    def list_once(request: Any) -> Any:
        cursor = msgspec.json.decode(request.params).get("cursor")
        cursors.append(cursor)
        if cursor and len(cursors) == 3:
            return error(-32602)(request)
        server.ttl = 1000 if cursor else TTL
        return list_page(request)

    server.fake.rules["prompts/list"] = list_once
    async with server.connect() as client:
        await client.list_prompts()
        await trio.sleep(2)
        assert len(await client.list_prompts()) == 2
    assert cursors == [None, "1", "1", None, "1"]


async def test_a_list_that_fails_without_the_cache_is_not_asked_for_twice() -> None:
    server = CachingServer()
    server.fake.rules["prompts/list"] = error(-32603)
    async with server.connect() as client:
        with pytest.raises(ProtocolError):
            await client.list_prompts()
    assert server.count("prompts/list") == 1


@pytest.mark.parametrize("kind", LISTS)
async def test_an_endless_list_is_given_up(kind: str) -> None:
    server = CachingServer(pages=1_000_000)
    method, read = LISTS[kind]
    async with server.connect(settings=ClientSettings(max_pages=5)) as client:
        with pytest.raises(RemoteProtocolError, match="has more than 5 pages"):
            await read(client)
    assert server.count(method) == 5


async def test_a_ping_always_asks() -> None:
    server = CachingServer()
    server.fake.rules["server/discover"] = result({**DISCOVERED, "ttlMs": TTL})
    async with server.connect() as client:
        await client.ping()
        await client.ping()
    assert server.count("server/discover") == 3
