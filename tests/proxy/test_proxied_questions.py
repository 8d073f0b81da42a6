"""Questions of a server behind a proxy of a proxy, in both eras on either side."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import attrs
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    Context,
    ElicitAnswer,
    ElicitRequest,
    ElicitUrlRequest,
    ProtocolError,
    RunningServer,
    Server,
    TaskConfig,
    create_proxy,
    open_client,
    open_server,
)

ROUTES = list(itertools.product((MODERN, LEGACY), repeat=3))


@attrs.define
class Origin:
    """The innermost server; `counted` is what its handlers did once, `runs` how often they were begun."""

    server: Server = attrs.field(factory=lambda: Server("origin"))
    counted: list[str] = attrs.field(factory=list)
    runs: int = 0

    def __attrs_post_init__(self) -> None:
        @self.server.tool
        async def order(ctx: Context, dish: str) -> list[Any]:
            self.runs += 1
            await ctx.report_progress(1, 4, "begun")
            number = await ctx.once("number", self.count)
            first = await ctx.elicit(f"Who eats {dish}?", str)
            await ctx.report_progress(2, 4, "asked")
            second = await ctx.elicit("How many?", int)
            await ctx.report_progress(3, 4, "asked twice")
            return [number, first.data, second.data]

        @self.server.tool(task=TaskConfig(mode="optional"))
        async def cook(ctx: Context) -> list[Any]:
            answer = await ctx.elicit("How hot?", int)
            await ctx.report_progress(answer.data or 0, 100)
            return [answer.action, answer.data]

        @self.server.tool
        async def think(ctx: Context) -> str:
            sampled = await ctx.sample("What now?", max_tokens=10)
            roots = await ctx.list_roots()
            return f"{sampled.text} in {roots[0].uri}"

        @self.server.tool
        async def open_page(ctx: Context) -> str:
            answer = await ctx.elicit_url("Please pay", "https://pay.example/1")
            return answer.action

        @self.server.prompt
        async def greet(ctx: Context) -> str:
            return f"Hello {(await ctx.elicit('Who?', str)).data}"

        @self.server.resource("x://asked")
        async def asked(ctx: Context) -> str:
            return f"for {(await ctx.elicit('Who?', str)).data}"

    def count(self) -> int:
        self.counted.append("number")
        return len(self.counted)


def behind_two(origin: Any, middle: str, up: str) -> Server:
    return create_proxy(create_proxy(origin, protocol=up), protocol=middle)


async def fill_in(request: ElicitRequest) -> Any:
    if "value" not in request.schema["properties"]:
        return {}
    return {"value": 7 if request.schema["properties"]["value"]["type"] == "integer" else "Ada"}


@pytest.mark.parametrize(("down", "middle", "up"), ROUTES)
async def test_two_questions_of_a_call_reach_the_client(down: str, middle: str, up: str) -> None:
    origin, asked, seen = Origin(), [], []

    async def answer(request: ElicitRequest) -> Any:
        asked.append(request.message)
        return await fill_in(request)

    proxy = behind_two(origin.server, middle, up)
    async with open_client(proxy, protocol=down, elicitation_handler=answer) as client:
        with trio.fail_after(HANG_SECONDS):
            result = await client.call_tool(
                "order", {"dish": "soup"}, progress_handler=lambda p, t, m: seen.append((p, m))
            )
    assert result.data == [1, "Ada", 7]
    assert asked == ["Who eats soup?", "How many?"]
    assert seen == [(1, "begun"), (2, "asked"), (3, "asked twice")]
    assert origin.counted == ["number"]
    assert origin.runs == (3 if up == MODERN else 1)


@pytest.mark.parametrize(("down", "middle", "up"), ROUTES)
async def test_what_is_declined_is_declined(down: str, middle: str, up: str) -> None:
    proxy = behind_two(Origin().server, middle, up)
    async with open_client(proxy, protocol=down, elicitation_handler=lambda request: None) as client:
        assert (await client.call_tool("cook")).data == ["decline", None]


@pytest.mark.parametrize(("down", "middle", "up"), ROUTES)
async def test_models_and_roots_are_asked(down: str, middle: str, up: str) -> None:
    proxy = behind_two(Origin().server, middle, up)
    async with open_client(
        proxy, protocol=down, sampling_handler=lambda request: "Eat", roots=["file:///kitchen"]
    ) as client:
        assert (await client.call_tool("think")).data == "Eat in file:///kitchen"


@pytest.mark.parametrize(("down", "middle", "up"), ROUTES)
async def test_pages_prompts_and_resources_ask(down: str, middle: str, up: str) -> None:
    pages: list[ElicitUrlRequest] = []

    def open_page(request: ElicitUrlRequest) -> bool:
        pages.append(request)
        return True

    proxy = behind_two(Origin().server, middle, up)
    async with open_client(
        proxy, protocol=down, elicitation_url_handler=open_page, elicitation_handler=fill_in
    ) as client:
        assert (await client.call_tool("open_page")).text == "accept"
        assert (await client.get_prompt("greet")).messages[0].content.text == "Hello Ada"
        assert (await client.read_resource("x://asked")).text == "for Ada"
    (page,) = pages
    assert page.url == "https://pay.example/1"
    assert (page.elicitation_id is not None) == (down == LEGACY)


@pytest.mark.parametrize(("down", "middle", "up"), ROUTES)
async def test_a_client_that_cannot_be_asked_is_not(down: str, middle: str, up: str) -> None:
    async with open_client(behind_two(Origin().server, middle, up), protocol=down) as client:
        with pytest.raises(ProtocolError, match="elicitation"):
            await client.call_tool("order", {"dish": "soup"})


@pytest.mark.parametrize(("down", "middle", "up"), ROUTES)
async def test_each_client_is_asked_its_own_questions(down: str, middle: str, up: str) -> None:
    asked: dict[str, list[str]] = {"soup": [], "fish": []}

    async def order(running: Any, dish: str) -> None:
        async def answer(request: ElicitRequest) -> Any:
            asked[dish].append(request.message)
            await trio.testing.wait_all_tasks_blocked()  # so that both are asked at the same time
            return await fill_in(request)

        async with open_client(running, protocol=down, elicitation_handler=answer) as client:
            await client.call_tool("order", {"dish": dish})

    async with (
        open_server(behind_two(Origin().server, middle, up)) as running,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(order, running, "soup")
        nursery.start_soon(order, running, "fish")
    assert asked == {dish: [f"Who eats {dish}?", "How many?"] for dish in asked}


@pytest.mark.parametrize(("down", "middle", "up"), ROUTES)
async def test_a_call_that_is_cancelled_while_its_client_is_asked_ends_everywhere(
    down: str, middle: str, up: str
) -> None:
    ended, origin, asked = trio.Event(), Server("origin"), trio.Event()

    @origin.tool
    async def wait(ctx: Context) -> None:
        try:
            await ctx.elicit("Well?", str)
        finally:
            ended.set()

    async def answer(request: ElicitRequest) -> Any:
        asked.set()
        await trio.sleep_forever()

    async def call(client: Client) -> None:
        await client.call_tool("wait")

    proxy = behind_two(origin, middle, up)
    async with (
        open_server(proxy) as running,
        open_client(running, protocol=down, elicitation_handler=answer) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(call, client)
        with trio.fail_after(HANG_SECONDS):
            await asked.wait()
            nursery.cancel_scope.cancel()
            # Where a modern client is asked by a legacy server, the call waits for an answer for `state_ttl`.
            if (MODERN, LEGACY) not in ((down, middle), (middle, up)):
                with trio.CancelScope(shield=True):
                    await ended.wait()


async def test_a_call_waits_no_longer_for_an_answer_than_the_state_lasts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ended, origin = trio.Event(), Server("origin")

    @origin.tool
    async def wait(ctx: Context) -> None:
        try:
            await ctx.elicit("Well?", str)
        finally:
            ended.set()

    async def answer(request: ElicitRequest) -> Any:
        await trio.sleep(4000)
        return {"value": "late"}

    async with open_client(create_proxy(origin, protocol=LEGACY), elicitation_handler=answer) as client:
        with pytest.raises(ProtocolError, match=r"make it again|expired"):
            await client.call_tool("wait")
        assert ended.is_set()


TASKS = [(down, up) for down in (MODERN, LEGACY) for up in (MODERN, LEGACY)]


@pytest.mark.parametrize(("down", "up"), TASKS)
async def test_a_task_asks_through_proxies(down: str, up: str) -> None:
    seen: list[float] = []
    proxy = behind_two(Origin().server, up, up)
    async with open_client(proxy, protocol=down, elicitation_handler=fill_in) as client:
        handle = await client.call_tool("cook", task=True, progress_handler=lambda p, t, m: seen.append(p))
        assert handle.id is not None
        with trio.fail_after(HANG_SECONDS):
            assert (await handle.result()).data == ["accept", 7]
    assert seen == [7]


async def test_an_answer_is_handed_on_as_it_is() -> None:
    answers = [ElicitAnswer("cancel"), ElicitAnswer("decline")]
    proxy = behind_two(Origin().server, MODERN, MODERN)
    async with open_client(proxy, elicitation_handler=lambda request: answers.pop()) as client:
        assert (await client.call_tool("cook")).data == ["decline", None]
        assert (await client.call_tool("cook")).data == ["cancel", None]


@pytest.mark.parametrize(("down", "up"), TASKS)
async def test_each_principal_is_asked_its_own_questions_and_has_connections_of_its_own(
    down: str, up: str
) -> None:
    origin, sessions = Server("origin"), {}

    @origin.tool
    async def order(ctx: Context, dish: str) -> list[Any]:
        answer = await ctx.elicit(f"Who eats {dish}?", str)
        if up == LEGACY:  # a session belongs to one principal
            sessions.setdefault(dish, []).append(ctx.session_state.setdefault("dish", dish))
        return [dish, answer.data]

    async def call(running: RunningServer, name: str) -> None:
        async def answer(request: ElicitRequest) -> Any:
            await trio.testing.wait_all_tasks_blocked()
            return {"value": name if name in request.message else "somebody else"}

        target = running.authenticated(name)
        for _ in range(2):
            async with open_client(target, protocol=down, elicitation_handler=answer) as client:
                assert (await client.call_tool("order", {"dish": name})).data == [name, name]

    async with (
        open_server(create_proxy(origin, protocol=up)) as running,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(call, running, "ada")
        nursery.start_soon(call, running, "bob")
    assert all(set(found) == {dish} for dish, found in sessions.items())


async def test_a_form_asks_older_clients_for_no_list() -> None:
    origin = Server("origin")

    @origin.tool
    async def choose(ctx: Context) -> str:
        return (await ctx.elicit("Which?", list[Literal["a", "b"]])).action

    proxy = create_proxy(origin, protocol=LEGACY)
    async with open_client(proxy, protocol="2025-06-18", elicitation_handler=fill_in) as client:
        with pytest.raises(ProtocolError, match="cannot ask for a list"):
            await client.call_tool("choose")


async def test_a_legacy_client_is_told_that_a_page_is_done_with() -> None:
    origin = Server("origin")

    @origin.tool
    async def pay(ctx: Context) -> str:
        opened = await ctx.elicit_url("Please pay", "https://pay.example/1", elicitation_id="pay-1")
        await ctx.complete_elicitation("pay-1")
        return opened.action

    pages: list[ElicitUrlRequest] = []

    def open_page(request: ElicitUrlRequest) -> bool:
        pages.append(request)
        return True

    proxy = behind_two(origin, LEGACY, LEGACY)
    async with open_client(proxy, protocol=LEGACY, elicitation_url_handler=open_page) as client:
        assert (await client.call_tool("pay")).text == "accept"
        with trio.fail_after(HANG_SECONDS):
            await client.wait_elicitation("pay-1")
    assert [page.elicitation_id for page in pages] == ["pay-1"]
