"""Resources, prompts, completions, subscriptions and log messages of a server behind a proxy of a proxy."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, FakeServer, error, result
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    CacheHint,
    Client,
    Completion,
    Context,
    LogMessage,
    PromptReference,
    ProtocolError,
    ResourceNotFound,
    ResourceTemplateReference,
    ResourceUpdated,
    Server,
    create_proxy,
    open_client,
    open_server,
)
from trio_mcp.testing import WireRecorder

ERAS = list(itertools.product((MODERN, LEGACY), repeat=2))


def make_origin() -> Server:
    origin = Server("origin")

    @origin.resource("x://plain", cache=CacheHint(30, "public"), mime_type="text/x", size=5, meta={"a/b": 1})
    async def plain(ctx: Context) -> str:
        await ctx.report_progress(1, 1, "read")
        return "hello"

    @origin.resource("y://{name}/{+rest}")
    async def found(name: str, rest: str) -> bytes:
        if name == "none":
            raise ResourceNotFound("nothing there")
        return f"{name} {rest}".encode()

    @found.complete("name")
    async def names(value: str, known: dict[str, str]) -> Completion:
        return Completion([f"{value}{key}" for key in known], total=50, has_more=True)

    @origin.prompt(title="Greet")
    async def greet(ctx: Context, who: str, loudly: bool = False) -> str:
        await ctx.report_progress(1, 1, "greeted")
        return f"HELLO {who}" if loudly else f"Hello {who}"

    @greet.complete("who")
    async def whom(value: str) -> list[str]:
        return [value + "da"]

    @origin.tool
    async def chat(ctx: Context) -> None:
        await ctx.log("warning", {"n": 1}, logger="deep")
        await ctx.debug("details")
        await ctx.info("more")

    return origin


def behind_two(origin: Any, up: str) -> Server:
    return create_proxy(create_proxy(origin, protocol=up), protocol=up)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_resources_are_listed_and_read_as_they_are(down: str, up: str) -> None:
    origin, seen = make_origin(), []
    async with (
        open_client(origin, protocol=down) as direct,
        open_client(behind_two(origin, up), protocol=down) as client,
    ):
        assert await client.list_resources() == await direct.list_resources()
        assert await client.list_resource_templates() == await direct.list_resource_templates()
        read = await client.read_resource("x://plain", progress_handler=lambda p, t, m: seen.append((p, m)))
        assert read.contents == (await direct.read_resource("x://plain")).contents
        assert seen == [(1, "read")]
        assert (await client.read_resource("y://a/b/c")).data == b"a b/c"
        for uri in ("y://none/x", "z://unknown"):
            with pytest.raises(ProtocolError) as expected:
                await direct.read_resource(uri)
            with pytest.raises(ProtocolError) as raised:
                await client.read_resource(uri)
            assert (raised.value.code, raised.value.message) == (expected.value.code, expected.value.message)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_prompts_and_completions_come_as_they_are(down: str, up: str) -> None:
    origin, seen = make_origin(), []
    async with (
        open_client(origin, protocol=down) as direct,
        open_client(behind_two(origin, up), protocol=down) as client,
    ):
        assert await client.list_prompts() == await direct.list_prompts()
        arguments = {"who": "Ada", "loudly": True}
        got = await client.get_prompt("greet", arguments, progress_handler=lambda p, t, m: seen.append(m))
        assert got.messages == (await direct.get_prompt("greet", arguments)).messages
        assert seen == ["greeted"]
        with pytest.raises(ProtocolError, match="who"):
            await client.get_prompt("greet")
        found = await client.complete(PromptReference(name="greet"), {"name": "who", "value": "A"})
        assert found.values == ["Ada"]
        reference = ResourceTemplateReference("y://{name}/{+rest}")
        found = await client.complete(reference, {"name": "name", "value": "A"}, {"rest": "x"})
        assert found == Completion(["Arest"], 50, True)


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_a_subscription_reaches_the_server_and_ends_there(down: str, up: str) -> None:
    origin = make_origin()
    async with (
        open_server(origin) as running,
        open_client(behind_two(running, up), protocol=down) as client,
    ):
        async with client.listen(uris=["x://plain", "y://a/b"]) as changes:
            await wait_updates(running, 2)
            for uri in ("x://plain", "y://a/b", "x://plain"):
                origin.notify_resource_updated(uri)
                with trio.fail_after(HANG_SECONDS):
                    assert await changes.receive() == ResourceUpdated(uri)
            async with client.subscribe("y://c/d"):
                await wait_updates(running, 3)
            await wait_updates(running, 2)
        await wait_updates(running, 0)


def count_updates(running: Any) -> int:
    """How many resources the server tells of."""
    audience = running.application.audience
    uris = ("x://plain", "y://a/b", "y://c/d")
    return sum(audience.has_subscribers(("notifications/resources/updated", uri)) for uri in uris)


async def wait_updates(running: Any, number: int) -> None:
    with trio.fail_after(HANG_SECONDS):
        while count_updates(running) != number:
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_log_messages_arrive_in_order_and_at_the_level_that_is_wanted(down: str, up: str) -> None:
    proxy = behind_two(make_origin(), up)
    for level, expected in (("debug", 3), ("info", 2), ("error", 0)):
        logged: list[LogMessage] = []
        async with open_client(
            proxy,
            protocol=down,
            log_handler=logged.append,
            log_level=level,  # type: ignore[arg-type]
        ) as client:
            await client.call_tool("chat")
        messages = [("warning", {"n": 1}, "deep"), ("debug", "details", None), ("info", "more", None)]
        wanted = {3: messages, 2: [messages[0], messages[2]], 0: []}[expected]
        assert [(one.level, one.data, one.logger) for one in logged] == wanted


@pytest.mark.parametrize(("down", "up"), ERAS)
async def test_log_messages_keep_their_place_among_the_progress(down: str, up: str) -> None:
    origin, seen = Server("origin"), []

    @origin.tool
    async def both(ctx: Context) -> None:
        for number in range(1, 6):
            await ctx.report_progress(number)
            await ctx.info(number)

    def note(message: Any) -> None:
        if "method" in message and message["method"].startswith("notifications/"):
            params = message["params"]
            seen.append(params.get("progress", params.get("data")))

    recorder = WireRecorder(behind_two(origin, up))
    async with open_client(recorder, protocol=down, log_handler=lambda message: None) as client:
        await client.call_tool("both", progress_handler=lambda p, t, m: None)
    for message in recorder.received_messages():
        note(message)
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


async def test_nobody_gets_the_log_messages_of_another_client() -> None:
    origin, both = Server("origin"), trio.Event()
    entered = 0

    @origin.tool
    async def chat(ctx: Context, secret: str) -> None:
        nonlocal entered
        entered += 1
        if entered == 2:
            both.set()
        await both.wait()
        await ctx.info(secret)

    logged: dict[str, list[Any]] = {"a": [], "b": []}

    async def call(running: Any, name: str) -> None:
        async with open_client(running, log_handler=lambda m: logged[name].append(m.data)) as client:
            await client.call_tool("chat", {"secret": name})

    async with open_server(create_proxy(origin)) as running, trio.open_nursery() as nursery:
        nursery.start_soon(call, running, "a")
        nursery.start_soon(call, running, "b")
    assert logged["a"] in ([], ["a"])
    assert logged["b"] in ([], ["b"])


async def test_a_server_that_lists_templates_which_cannot_be_read_here_is_passed_on() -> None:
    template = {"uriTemplate": "odd://{a}{b}{?c", "name": "odd"}
    capabilities = {**DISCOVERED, "capabilities": {"resources": {}}}
    server = FakeServer(
        {
            "server/discover": result(capabilities),
            "tools/list": error(-32601),
            "resources/list": result({"resultType": "complete", "resources": []}),
            "resources/templates/list": result({"resultType": "complete", "resourceTemplates": [template]}),
            "resources/read": result(
                {"resultType": "complete", "contents": [{"uri": "odd://1", "text": "t"}]}
            ),
        }
    )
    async with open_client(create_proxy(server)) as client:
        assert [one.uri_template for one in await client.list_resource_templates()] == ["odd://{a}{b}{?c"]
        assert (await client.read_resource("odd://1")).text == "t"


READ = {"uri": "odd://1", "text": "t"}


async def read_hint(client: Client) -> Any:
    import msgspec

    from trio_mcp.client.server_reader import link_of
    from trio_mcp.wire.messages import ReadResourceParams

    raw = await link_of(client).request("resources/read", ReadResourceParams(uri="x://plain"))
    read = msgspec.json.decode(raw)
    return read["ttlMs"], read["cacheScope"]


async def test_the_hint_for_caches_is_handed_on() -> None:
    async with open_client(behind_two(make_origin(), MODERN)) as client:
        assert await read_hint(client) == (30_000, "public")
