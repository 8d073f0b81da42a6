"""Tools of a server behind a proxy of a proxy."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, error, result
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    ConnectionLost,
    Context,
    Lossless,
    Progress,
    ProtocolError,
    Server,
    ServerSettings,
    ToolAnnotations,
    ToolError,
    ToolResult,
    create_proxy,
    detailed,
    open_client,
    open_server,
)
from trio_mcp.testing import HttpConnector

UPDATES = 10_000


def make_origin() -> Server:
    origin = Server(
        "origin", version="7", instructions="Count.", settings=ServerSettings(progress=Lossless())
    )

    @origin.tool(annotations=ToolAnnotations(read_only_hint=True), meta={"a/b": 1})
    async def count(ctx: Context, to: int) -> int:
        """Count to a number."""
        for number in range(1, to + 1):
            await ctx.report_progress(number, to, f"step {number}")
        return to

    @origin.tool
    async def say(text: str) -> ToolResult:
        if text == "refused":
            raise ProtocolError(-32099, "refused", {"why": ["because"]})
        return ToolResult(
            content=[text], structured_content={"text": text}, is_error=text == "bad", meta={"x/y": [1]}
        )

    @origin.tool
    async def stage(ctx: Context) -> None:
        async with ctx.progress().stage("load", 2, total=4) as load:
            await load.report_progress(2, 4, "half")
            await trio.testing.wait_all_tasks_blocked()  # so that it has left while the stage was open
            await load.report_progress(4, 4, "all")

    return origin


@pytest.fixture(params=[MODERN, LEGACY])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[MODERN, LEGACY], ids=lambda value: f"upstream-{value}")
def upstream(request: pytest.FixtureRequest) -> str:
    return request.param


def behind_two(origin: Any, protocol: str) -> Server:
    """A proxy of a proxy of `origin`, which is asked in one revision; both proxies use it between them."""
    return create_proxy(create_proxy(origin, protocol=protocol), protocol=protocol)


async def test_every_update_arrives_once_in_order_before_the_result(protocol: str, upstream: str) -> None:
    seen: list[Any] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        if progress == UPDATES:
            await trio.lowlevel.checkpoint()  # the result waits for the handler
        seen.append((progress, total, message))

    async with open_client(behind_two(make_origin(), upstream), protocol=protocol) as client:
        found = await client.call_tool("count", {"to": UPDATES}, progress_handler=note)
        assert len(seen) == UPDATES
    assert found.data == UPDATES
    assert seen == [(number, UPDATES, f"step {number}") for number in range(1, UPDATES + 1)]


async def test_a_cancelled_call_cancels_the_innermost_handler(protocol: str, upstream: str) -> None:
    origin, started, cancelled = Server("origin"), trio.Event(), trio.Event()

    @origin.tool
    async def hang() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with (
        open_client(behind_two(origin, upstream), protocol=protocol) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.call_tool, "hang")
        await started.wait()
        nursery.cancel_scope.cancel()
        with trio.fail_after(HANG_SECONDS), trio.CancelScope(shield=True):
            await cancelled.wait()


async def test_results_and_errors_come_as_they_are(protocol: str, upstream: str) -> None:
    async with open_client(behind_two(make_origin(), upstream), protocol=protocol) as client:
        good = await client.call_tool("say", {"text": "good"})
        assert (good.text, good.structured_content, good.is_error) == ("good", {"text": "good"}, False)
        assert good.meta["x/y"] == [1]
        bad = await client.call_tool("say", {"text": "bad"}, raise_on_error=False)
        assert (bad.text, bad.structured_content, bad.is_error) == ("bad", {"text": "bad"}, True)
        with pytest.raises(ProtocolError) as refused:
            await client.call_tool("say", {"text": "refused"})
        assert (refused.value.code, refused.value.message, refused.value.data) == (
            -32099,
            "refused",
            {"why": ["because"]},
        )
        with pytest.raises(ToolError, match="text"):
            await client.call_tool("say", {"text": 5})
        with pytest.raises(ProtocolError, match="nothing"):
            await client.call_tool("nothing")


async def test_a_proxy_shows_the_server_that_it_stands_for(protocol: str, upstream: str) -> None:
    origin = make_origin()
    async with (
        open_client(origin, protocol=protocol) as direct,
        open_client(behind_two(origin, upstream), protocol=protocol) as proxied,
    ):
        assert await proxied.list_tools() == await direct.list_tools()
        assert proxied.instructions == direct.instructions == "Count."
        assert proxied.server_info == direct.server_info
        assert proxied.server_capabilities == direct.server_capabilities


async def test_open_stages_are_seen_through_proxies(protocol: str, upstream: str) -> None:
    async def call(server: Server) -> list[Any]:
        seen: list[Progress] = []
        async with open_client(server, protocol=protocol) as client:
            await client.call_tool("stage", progress_handler=detailed(seen.append))
        return [(update.progress, update.message, update.stages) for update in seen]

    direct = await call(make_origin())
    assert any(stages for _, _, stages in direct)
    assert await call(behind_two(make_origin(), upstream)) == direct


LISTED = {
    "name": "odd name!",
    "title": "Odd",
    "inputSchema": {"type": "object", "x-odd": {"deep": [1, 2.5]}, "properties": {"a": {"type": "integer"}}},
    "annotations": {"readOnlyHint": True, "vendor": {"hint": 1}},
    "icons": [{"src": "data:,", "vendor": True}],
    "_meta": {"vendor/key": None},
    "vendorMember": {"x": [None]},
}
ANSWERED = {
    "content": [
        {"type": "text", "text": "hi", "vendor": 1, "annotations": {"audience": ["user"], "vendor": 2}},
        {"type": "hologram", "depth": 3},
        {"type": "resource", "resource": {"uri": "x:/y", "text": "t", "vendor": 3}},
    ],
    "structuredContent": {"n": 1.0},
    "_meta": {"vendor/key": 4},
    "vendorMember": 5,
}


@pytest.fixture
def odd(upstream: str) -> FakeServer:
    return FakeServer(
        {
            "initialize": result(INITIALIZED) if upstream == LEGACY else error(-32601),
            "server/discover": result(DISCOVERED) if upstream == MODERN else error(-32601),
            "tools/list": result({"resultType": "complete", "tools": [LISTED]}),
            "tools/call": result({"resultType": "complete", **ANSWERED}),
            "ping": result({}),
        }
    )


async def test_members_that_nobody_here_knows_are_handed_on(odd: FakeServer, protocol: str) -> None:
    seen = {}

    def note(method: str) -> Any:
        def read(raw: msgspec.Raw) -> Any:
            seen[method] = msgspec.json.decode(raw)
            return [], None

        return read

    from trio_mcp.client.server_reader import link_of
    from trio_mcp.wire.messages import CallToolParams

    async with open_client(create_proxy(create_proxy(odd)), protocol=protocol) as client:
        link = link_of(client)
        await link.list_pages("tools/list", "tools", note("list"))
        called = msgspec.json.decode(await link.request("tools/call", CallToolParams(name="odd name!")))
    assert seen["list"]["tools"] == [LISTED]
    assert {key: called[key] for key in ANSWERED if key != "_meta"} == {
        key: value for key, value in ANSWERED.items() if key != "_meta"
    }
    assert called["_meta"]["vendor/key"] == 4


async def test_a_task_may_have_content_that_nobody_here_knows(protocol: str) -> None:
    listed = {**LISTED, "execution": {"taskSupport": "optional"}}
    capabilities = {"tools": {}, "tasks": {"requests": {"tools": {"call": {}}}}}
    server = FakeServer(
        {
            "initialize": result({**INITIALIZED, "capabilities": capabilities}),
            "tools/list": result({"tools": [listed]}),
            "tools/call": result(ANSWERED),
        }
    )
    async with open_client(create_proxy(server, protocol=LEGACY), protocol=protocol) as client:
        handle = await client.call_tool("odd name!", task=True)
        assert handle.id is not None
        found = await handle.result()
    assert found.text == "hi"
    assert found.structured_content == {"n": 1}


async def test_what_a_client_says_of_itself_stays_with_the_proxy_but_foreign_meta_is_handed_on(
    protocol: str, upstream: str
) -> None:
    origin, metas = Server("origin"), []

    @origin.tool
    async def look(ctx: Context) -> None:
        metas.append(dict(ctx.request_meta))

    from trio_mcp.client.server_reader import link_of
    from trio_mcp.wire.messages import CallToolParams

    async with open_client(behind_two(origin, upstream), protocol=protocol) as client:
        link = link_of(client)
        link.meta["vendor/trace"] = "abc"
        await link.request("tools/call", CallToolParams(name="look"))
    (meta,) = metas
    assert meta["vendor/trace"] == "abc"
    assert "progressToken" not in meta


async def test_a_server_that_cannot_be_connected_to_ends_the_start_of_its_proxy() -> None:
    closed = FakeServer({"server/discover": lambda request: "close", "initialize": lambda request: "close"})
    with pytest.raises(ConnectionLost, match="closed"):
        async with open_server(create_proxy(closed)):
            pass


async def test_over_http_on_both_sides_updates_are_lossless() -> None:
    seen: list[float] = []
    proxy = create_proxy(HttpConnector(make_origin()))
    async with open_client(HttpConnector(proxy)) as client:
        await client.call_tool("count", {"to": 2000}, progress_handler=lambda p, t, m: seen.append(p))
    assert seen == list(range(1, 2001))


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(TypeError, match="elicitation_handler"):
        create_proxy(make_origin(), elicitation_handler=lambda request: None)
    with pytest.raises(TypeError, match="nonsense"):
        create_proxy(make_origin(), nonsense=1)
