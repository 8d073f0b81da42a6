"""RateLimit, ConcurrencyLimit and ResponseSizeLimit: what is let in, what waits, what a client is told."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.asgi_host import finish, open_host
from trio_mcp import Context, ProtocolError, Server, TaskConfig, ToolError, asgi_app, open_client, open_server
from trio_mcp.middleware import ConcurrencyLimit, RateLimit, ResponseSizeLimit


def make_server(**options: Any) -> Server:
    server = Server("limited", version="1", **options)

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def work(seconds: float) -> str:
        await trio.sleep(seconds)
        return "done"

    @server.resource("config://app")
    async def config() -> str:
        return "x" * 1000

    return server


async def call(client: Any) -> bool:
    """Whether a call is let in."""
    try:
        await client.call_tool("echo", {"text": "hi"})
    except ProtocolError as error:
        if (error.code, error.data["status"]) != (-32000, 429):
            raise
        return False
    return True


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_client_may_make_a_burst_and_then_a_rate_of_requests(autojump_clock, protocol):
    server = make_server()
    server.add_middleware(RateLimit(2, burst=3))
    async with open_client(server, protocol=protocol) as client:
        assert [await call(client) for _ in range(5)] == [True, True, True, False, False]
        await trio.sleep(0.5)
        assert [await call(client) for _ in range(2)] == [True, False]
        await trio.sleep(100)
        assert [await call(client) for _ in range(4)] == [True, True, True, False]
        await client.ping()


async def test_a_refusal_says_when_to_come_again(autojump_clock):
    server = make_server()
    server.add_middleware(RateLimit(0.1))
    async with open_client(server) as client:
        assert await call(client)
        await trio.sleep(4)
        with pytest.raises(ProtocolError, match=r"too many requests: 0\.1 per second") as caught:
            await client.call_tool("echo", {"text": "hi"})
        assert caught.value.data == {"status": 429, "retryAfter": 6.0}
        await trio.sleep(caught.value.data["retryAfter"])
        assert await call(client)


async def test_each_principal_and_each_anonymous_connection_has_a_bucket_of_its_own(autojump_clock):
    server = make_server()
    server.add_middleware(RateLimit(1))
    async with open_server(server) as running:
        let_in = []
        for target in (running.authenticated("ada"), running.authenticated("ada"), running, running):
            async with open_client(target) as client:
                let_in.append(await call(client))
    assert let_in == [True, False, True, True]


async def test_a_key_of_the_program_chooses_who_is_limited(autojump_clock):
    server = make_server()
    server.add_middleware(RateLimit(1, key=lambda ctx: None if ctx.principal else "anybody else"))
    async with open_server(server) as running:
        let_in = []
        for target in (running.authenticated("ada"), running.authenticated("ada"), running, running):
            async with open_client(target) as client:
                let_in.append(await call(client))
    assert let_in == [True, True, True, False]


async def test_a_request_may_wait_for_its_turn(autojump_clock):
    server = make_server()
    server.add_middleware(RateLimit(1, max_wait=2))
    async with open_client(server) as client:
        begun = trio.current_time()
        let_in: list[tuple[bool, float]] = []

        async def ask() -> None:
            answer = await call(client)
            let_in.append((answer, round(trio.current_time() - begun)))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
    assert sorted(let_in) == [(False, 0), (False, 0), (True, 0), (True, 1), (True, 2)]


async def test_only_some_methods_may_count(autojump_clock):
    server = make_server()
    server.add_middleware(RateLimit(1, methods={"resources/read"}))
    async with open_client(server) as client:
        assert [await call(client) for _ in range(3)] == [True, True, True]
        await client.read_resource("config://app")
        with pytest.raises(ProtocolError, match="too many requests"):
            await client.read_resource("config://app")


async def test_of_too_many_clients_the_one_that_asked_longest_ago_is_forgotten(autojump_clock):
    server = make_server()
    limit = RateLimit(1, max_clients=2)
    server.add_middleware(limit)
    async with open_server(server) as running:
        let_in = []
        for name in ("ada", "bob", "eve", "bob", "ada"):
            async with open_client(running.authenticated(name)) as client:
                let_in.append(await call(client))
    assert let_in == [True, True, True, False, True]


async def test_a_limit_may_be_around_the_runs_of_tools(autojump_clock):
    server = make_server()
    server.add_tool_middleware(RateLimit(1))
    async with open_client(server) as client:
        assert [await call(client) for _ in range(2)] == [True, False]
        await client.list_tools()


async def test_over_modern_http_a_refusal_is_429_and_says_when_to_come_again(autojump_clock):
    server = make_server()
    server.add_middleware(RateLimit(0.4))
    async with open_host(asgi_app(server)) as host:
        first, second = await finish(host.call("echo", text="a")), await finish(host.call("echo", text="b"))
        assert (first.status, second.status) == (200, 429)
        assert "retry-after" not in first.headers
        assert second.headers["retry-after"] == "3"  # of 2.5 seconds
        assert second.json["error"]["data"] == {"status": 429, "retryAfter": 2.5}
        host.peer = "10.0.0.7"
        other = await finish(host.call("echo", text="c"))
        assert other.status == 200


async def test_over_legacy_http_a_refusal_is_an_answer_as_clients_read_no_other(autojump_clock):
    server = make_server()
    server.add_middleware(RateLimit(0.5))
    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        await finish(client.call("echo", text="a"))
        second = await finish(client.call("echo", ident=2, text="b"))
        assert second.status == 200
        assert second.json["error"]["data"] == {"status": 429, "retryAfter": 2.0}


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_our_client_reads_the_refusal_over_http(protocol):
    server = make_server()
    server.add_middleware(RateLimit(0.001))
    async with Wire("http", protocol).open(server) as client:
        assert await call(client)
        with pytest.raises(ProtocolError, match="too many requests") as caught:
            await client.call_tool("echo", {"text": "hi"})
    assert caught.value.data["retryAfter"] > 900


@pytest.mark.parametrize(
    "data", [{"status": 418, "retryAfter": 1}, {"status": 429, "retryAfter": -1}, {"retryAfter": "x"}, 3]
)
async def test_what_a_tool_makes_of_that_error_breaks_no_response(data):
    server = make_server()

    @server.tool
    async def own() -> str:
        raise ProtocolError(-32000, "own", data)

    async with open_host(asgi_app(server)) as host:
        answer = await finish(host.call("own"))
    assert answer.status in (200, 429)
    assert "retry-after" not in answer.headers or answer.headers["retry-after"] == "1"
    assert answer.json["error"]["data"] == data


async def gather(client: Any, seconds: list[float]) -> list[tuple[str, float]]:
    """Call at once; returns what came of each call, and when."""
    begun, ends = trio.current_time(), []

    async def ask(duration: float) -> None:
        try:
            await client.call_tool("work", {"seconds": duration})
            answer = "done"
        except ProtocolError as error:
            answer = "refused" if error.data == {"status": 503, "retryAfter": 1.0} else str(error)
        ends.append((answer, round(trio.current_time() - begun)))

    async with trio.open_nursery() as nursery:
        for duration in seconds:
            nursery.start_soon(ask, duration)
            await trio.testing.wait_all_tasks_blocked()
    return ends


async def test_more_than_the_limit_are_refused_at_once(autojump_clock):
    server = make_server()
    server.add_middleware(ConcurrencyLimit(2))
    async with open_client(server) as client:
        assert await gather(client, [5, 5, 5]) == [("refused", 0), ("done", 5), ("done", 5)]
        assert await gather(client, [1]) == [("done", 1)]


async def test_some_may_wait_in_the_order_in_which_they_came_and_not_for_ever(autojump_clock):
    server = make_server()
    server.add_middleware(ConcurrencyLimit(1, queue=2, max_wait=7))
    async with open_client(server) as client:
        assert await gather(client, [5, 4, 3, 1]) == [
            ("refused", 0),  # the queue is full
            ("done", 5),
            ("refused", 7),  # it has waited for long enough
            ("done", 9),
        ]


async def test_who_is_cancelled_in_the_queue_leaves_it(autojump_clock):
    server = make_server()
    server.add_middleware(ConcurrencyLimit(1, queue=1))
    async with open_client(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(partial(client.call_tool, "work", {"seconds": 10}))
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await client.call_tool("work", {"seconds": 1})
        begun = trio.current_time()
        await client.call_tool("work", {"seconds": 1})
        assert trio.current_time() - begun == pytest.approx(10)
        await client.call_tool("work", {"seconds": 1})


async def test_a_limit_for_each_client_leaves_the_others_alone(autojump_clock):
    server = make_server()
    server.add_middleware(ConcurrencyLimit(1, key=lambda ctx: ctx.caller))
    ends: dict[str, list[tuple[str, float]]] = {}

    async def run(target: Any, name: str) -> None:
        async with open_client(target) as client:
            ends[name] = await gather(client, [5, 5])

    async with open_server(server) as running, trio.open_nursery() as nursery:
        nursery.start_soon(run, running.authenticated("ada"), "ada")
        nursery.start_soon(run, running.authenticated("bob"), "bob")
    assert ends == {name: [("refused", 0), ("done", 5)] for name in ("ada", "bob")}


async def test_around_tools_it_counts_what_runs_in_the_background_and_no_tool_twice(autojump_clock):
    server = Server("limited", default_task=TaskConfig(promote_after=0))

    @server.tool
    async def inner() -> str:
        await trio.sleep(5)
        return "inner"

    @server.tool
    async def outer(ctx: Context) -> str:
        return (await ctx.call_tool("inner")).data

    server.add_tool_middleware(ConcurrencyLimit(1))
    async with open_client(server) as client:
        task = await client.call_tool("outer", task=True)
        await trio.sleep(1)
        other = await client.call_tool("inner", task=True)
        with pytest.raises(ProtocolError, match="overloaded: 1 requests run already"):
            await other.result()
        assert (await task.result()).data == "inner"


async def test_lists_and_subscriptions_need_no_place(autojump_clock):
    server = make_server()
    server.add_middleware(ConcurrencyLimit(1))
    async with open_client(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(partial(client.call_tool, "work", {"seconds": 10}))
        await trio.testing.wait_all_tasks_blocked()
        assert len(await client.list_tools()) == 2
        nursery.cancel_scope.cancel()


async def test_over_modern_http_an_overload_is_503(autojump_clock):
    server = make_server()
    server.add_middleware(ConcurrencyLimit(1, retry_after=4.2))
    async with open_host(asgi_app(server)) as host:
        running = host.call("work", seconds=10)
        await trio.testing.wait_all_tasks_blocked()
        refused = await finish(host.call("work", seconds=1))
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert (await finish(running)).status == 200


@pytest.mark.parametrize("around", ["requests", "tools"])
async def test_a_result_that_is_too_large_is_an_error_that_names_the_limit(around):
    server = make_server()
    limit = ResponseSizeLimit(200)
    if around == "requests":
        server.add_middleware(limit)
    else:
        server.add_tool_middleware(limit)
    async with open_client(server) as client:
        assert (await client.call_tool("echo", {"text": "x" * 100})).data == "x" * 100
        with pytest.raises(ToolError, match="The result of tool 'echo' has 439 bytes, and 200 are allowed"):
            await client.call_tool("echo", {"text": "x" * 400})


async def test_text_may_be_cut_and_says_so():
    server = make_server()
    server.add_tool_middleware(ResponseSizeLimit(300, truncate=True))

    @server.tool
    async def rows() -> dict[str, str]:
        return {"row": "x" * 1000}

    async with open_client(server) as client:
        for text in ("x" * 1000, "ä\n" * 1000, '"' * 1000):
            result = await client.call_tool("echo", {"text": text})
            assert result.text.startswith(text[:50])
            assert result.text.endswith("are more than the 300 that are allowed]")
            size = len(b'{"content":[{"type":"text","text":""}]}')
            assert 290 < size + len(msgspec.json.encode(result.text)) - 2 <= 300
        with pytest.raises(
            ToolError, match="are allowed"
        ):  # a client would refuse a part of what has a schema
            await client.call_tool("rows")


async def test_a_resource_that_is_too_large_cannot_be_read():
    server = make_server()
    server.add_resource_middleware(ResponseSizeLimit(500))
    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match=r"the result of resource config://app has 1,0\d\d bytes"):
            await client.read_resource("config://app")


@pytest.mark.parametrize(
    "make",
    [
        lambda: RateLimit(0),
        lambda: RateLimit(1, burst=0.5),
        lambda: RateLimit(1, max_wait=-1),
        lambda: RateLimit(1, max_clients=0),
        lambda: ConcurrencyLimit(0),
        lambda: ConcurrencyLimit(1, queue=-1),
        lambda: ConcurrencyLimit(1, max_wait=0),
        lambda: ResponseSizeLimit(0),
    ],
)
def test_numbers_that_make_no_limit_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_a_text_is_no_collection_of_methods():
    with pytest.raises(TypeError, match="must be a collection of names"):
        RateLimit(1, methods="tools/call")
