"""Handlers that ask their client within a call that is answered directly, in both eras."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import MODERN, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Context,
    MemoryTaskStore,
    PromptReference,
    ProtocolError,
    RemoteProtocolError,
    RequestCancelled,
    Server,
    ServerSettings,
    ToolError,
    open_client,
)


@attrs.frozen
class Name:
    name: str


async def test_a_handler_asks_within_a_call(wire: Wire) -> None:
    server = Server("asks")
    runs: list[str] = []

    @server.tool
    async def greet(ctx: Context, greeting: str) -> str:
        runs.append(greeting)
        first = await ctx.elicit("First name?", Name)
        last = await ctx.elicit("Last name?", Name, key="last")
        opinion = await ctx.sample("Is that a good name?", max_tokens=5)
        assert first.data is not None
        assert last.data is not None
        return f"{greeting} {first.data.name} {last.data.name}: {opinion.text}"

    def answer(request: Any) -> dict[str, str]:
        return {"name": {"First name?": "Ada", "Last name?": "Lovelace"}[request.message]}

    async with wire.open(
        server, elicitation_handler=answer, sampling_handler=lambda request: "yes"
    ) as client:
        result = await client.call_tool("greet", {"greeting": "Hello"})
    assert result.data == "Hello Ada Lovelace: yes"
    assert len(runs) == (4 if wire.protocol == MODERN else 1)


async def test_tasks_of_a_handler_ask_in_one_round(wire: Wire) -> None:
    server = Server("asks")
    runs: list[int] = []

    @server.tool
    async def collect(ctx: Context) -> list[str]:
        runs.append(1)
        found: dict[int, str] = {}

        async def ask(number: int) -> None:
            for _ in range(number):
                await trio.lowlevel.checkpoint()
            answer = await ctx.elicit(f"Name {number}?", Name)
            assert answer.data is not None
            found[number] = answer.data.name

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(ask, number)
        return [found[number] for number in range(5)]

    async with wire.open(server, elicitation_handler=lambda request: {"name": request.message}) as client:
        result = await client.call_tool("collect")
    assert result.data == [f"Name {number}?" for number in range(5)]
    assert len(runs) == (2 if wire.protocol == MODERN else 1)


async def test_a_run_that_asks_unwinds_as_if_cancelled(wire: Wire) -> None:
    """`except Exception` does not see it, `finally` runs, and so do the other tasks of the handler end."""
    server = Server("asks")
    seen: list[str] = []

    @server.tool
    async def work(ctx: Context) -> str:
        async def wait() -> None:
            try:
                await trio.sleep_forever()
            finally:
                seen.append("other task ended")

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.lowlevel.checkpoint()
                try:
                    answer = await ctx.elicit("Who?", Name)
                except Exception as error:
                    seen.append(f"caught {error!r}")
                    raise
                nursery.cancel_scope.cancel()
        finally:
            seen.append("cleaned up")
        assert answer.data is not None
        return answer.data.name

    async with wire.open(server, elicitation_handler=lambda request: {"name": "Ada"}) as client:
        assert (await client.call_tool("work")).data == "Ada"
    runs = 2 if wire.protocol == MODERN else 1
    assert seen == ["other task ended", "cleaned up"] * runs


async def test_what_is_raised_while_a_run_unwinds_is_the_result(wire: Wire) -> None:
    server = Server("asks")

    @server.tool
    async def work(ctx: Context) -> str:
        try:
            await ctx.elicit("Who?", Name)
        finally:
            raise ToolError("no")

    async with wire.open(server, elicitation_handler=lambda request: {"name": "Ada"}) as client:
        result = await client.call_tool("work", raise_on_error=False)
    assert result.is_error
    assert result.text == "no"


async def test_a_question_that_the_handler_gives_up_is_not_asked(wire: Wire) -> None:
    server = Server("asks")
    asked: list[str] = []

    @server.tool
    async def race(ctx: Context) -> str:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ctx.elicit("Given up?", Name)
        answer = await ctx.elicit("Who?", Name)
        assert answer.data is not None
        return answer.data.name

    def answer(request: Any) -> dict[str, str]:
        asked.append(request.message)
        return {"name": "Ada"}

    async with wire.open(server, elicitation_handler=answer) as client:
        assert (await client.call_tool("race")).data == "Ada"
    assert "Who?" in asked
    if wire.protocol == MODERN:
        assert asked == ["Who?"]


async def test_a_task_that_shields_itself_cannot_go_on(wire: Wire) -> None:
    server = Server("asks")

    @server.tool
    async def work(ctx: Context) -> str:
        with trio.CancelScope(shield=True):
            answer = await ctx.elicit("Who?", Name)
        assert answer.data is not None
        return answer.data.name

    async with wire.open(server, elicitation_handler=lambda request: {"name": "Ada"}) as client:
        with trio.fail_after(HANG_SECONDS):
            assert (await client.call_tool("work")).data == "Ada"


async def test_a_service_that_asks_for_a_handler_goes_on_when_the_run_has_ended() -> None:
    send, receive = trio.open_memory_channel[tuple[Context, trio.Event, list[str]]](1)
    told: list[str] = []

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async for ctx, done, answers in receive:
            try:
                answers.append((await ctx.elicit("Who?", Name)).action)
            except RequestCancelled as error:
                told.append(str(error))
            done.set()

    server = Server("asks")

    @server.lifespan
    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            yield
            nursery.cancel_scope.cancel()

    @server.tool
    async def work(ctx: Context) -> str:
        done, answers = trio.Event(), list[str]()
        await send.send((ctx, done, answers))
        await done.wait()
        return answers[0]

    async with open_client(
        server, protocol=MODERN, elicitation_handler=lambda request: {"name": "Ada"}
    ) as client:
        for _ in range(2):
            assert (await client.call_tool("work")).data == "accept"
    assert len(told) == 2
    assert "is run again with the answers" in told[0]


async def test_a_sync_handler_asks_from_its_thread(wire: Wire) -> None:
    server = Server("asks")
    token = trio.lowlevel.current_trio_token()
    send, receive = trio.open_memory_channel[str](10)

    @server.tool
    def greet(ctx: Context) -> str:
        try:
            first = trio.from_thread.run(ctx.elicit, "First name?", Name)
            last = trio.from_thread.run(ctx.elicit, "Last name?", Name)
        except Exception as error:
            token.run_sync_soon(send.send_nowait, f"caught {error!r}")
            raise
        except BaseException as error:
            token.run_sync_soon(send.send_nowait, type(error).__name__)
            raise
        assert first.data is not None
        assert last.data is not None
        return f"{first.data.name} {last.data.name}"

    async with wire.open(server, elicitation_handler=lambda request: {"name": request.message}) as client:
        with trio.fail_after(HANG_SECONDS):
            assert (await client.call_tool("greet")).data == "First name? Last name?"
            if wire.protocol == MODERN:  # a thread that was left ends by itself
                assert [await receive.receive() for _ in range(2)] == ["Cancelled", "Cancelled"]


async def test_prompts_and_resources_ask_as_tools_do(wire: Wire) -> None:
    server = Server("asks")

    @server.prompt
    async def review(ctx: Context, language: str) -> str:
        answer = await ctx.elicit("Which style?", Name)
        assert answer.data is not None
        return f"{language} in {answer.data.name} style"

    @server.resource("user://{user}/profile")
    async def profile(ctx: Context, user: str) -> str:
        answer = await ctx.elicit(f"May {user} be shown?", Name)
        return f"{user}: {answer.action}"

    async with wire.open(server, elicitation_handler=lambda request: {"name": "plain"}) as client:
        prompt = await client.get_prompt("review", {"language": "Python"})
        read = await client.read_resource("user://ada/profile")
    assert prompt.messages[0].content.text == "Python in plain style"  # type: ignore[union-attr]  # it is text
    assert read.text == "ada: accept"


async def test_tools_that_a_handler_calls_ask_under_keys_of_their_own(wire: Wire) -> None:
    server = Server("asks")

    @server.tool
    async def inner(ctx: Context, what: str) -> str:
        answer = await ctx.elicit(f"{what}?", Name, key="same")
        assert answer.data is not None
        return answer.data.name

    @server.tool
    async def outer(ctx: Context) -> list[str]:
        own = await ctx.elicit("own?", Name, key="same")
        assert own.data is not None
        results = [await ctx.call_tool("inner", {"what": what}) for what in ("a", "b", "b")]
        return [own.data.name, *(result.data for result in results)]

    asked: list[str] = []

    def answer(request: Any) -> dict[str, str]:
        asked.append(request.message)
        return {"name": f"{request.message} {len(asked)}"}

    async with wire.open(server, elicitation_handler=answer) as client:
        result = await client.call_tool("outer")
    assert asked == ["own?", "a?", "b?", "b?"]
    assert result.data == ["own? 1", "a? 2", "b? 3", "b? 4"]


async def test_two_questions_of_one_key_are_an_error_that_names_it() -> None:
    server = Server("asks", settings=ServerSettings(show_errors=True))

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.elicit("First?", Name, key="name")
        await ctx.elicit("Second?", Name, key="name")
        return "never"

    async with open_client(
        server, protocol=MODERN, elicitation_handler=lambda request: {"name": "Ada"}
    ) as client:
        result = await client.call_tool("work", raise_on_error=False)
    assert "two questions of this call have the key 'name'" in result.text


@pytest.mark.parametrize("key", [None, "who"])
async def test_the_same_question_twice_gets_two_answers(wire: Wire, key: str | None) -> None:
    """So a handler may ask until it likes the answer."""
    server = Server("asks")
    count = 0

    @server.tool
    async def work(ctx: Context) -> list[str]:
        answers = [await ctx.elicit("Who?", Name, key=key) for _ in range(2)]
        return [answer.data.name for answer in answers if answer.data is not None]

    def answer(request: Any) -> dict[str, str]:
        nonlocal count
        count += 1
        return {"name": f"name {count}"}

    async with wire.open(server, elicitation_handler=answer) as client:
        assert (await client.call_tool("work")).data == ["name 1", "name 2"]


async def test_a_key_with_a_number_is_not_mistaken_for_a_question_that_is_asked_again(wire: Wire) -> None:
    server = Server("asks")

    @server.tool
    async def work(ctx: Context) -> list[str]:
        asked = [("a?", "name-2"), ("b?", "name"), ("b?", "name")]
        answers = [await ctx.elicit(question, Name, key=key) for question, key in asked]
        return [answer.data.name for answer in answers if answer.data is not None]

    count = itertools.count(1)

    async with wire.open(
        server, elicitation_handler=lambda request: {"name": f"{request.message} {next(count)}"}
    ) as client:
        assert (await client.call_tool("work")).data == ["a? 1", "b? 2", "b? 3"]


async def test_a_question_that_changes_from_run_to_run_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server("asks")
    numbers = itertools.count(1)

    @server.tool
    async def unsteady(ctx: Context) -> str:
        return (await ctx.elicit(f"It is {next(numbers)} o'clock. Go on?", Name)).action

    @server.tool
    async def steady(ctx: Context) -> str:
        return (await ctx.elicit(f"It is {next(numbers)} o'clock. Go on?", Name, key="go on")).action

    async with open_client(
        server, protocol=MODERN, elicitation_handler=lambda request: {"name": "Ada"}
    ) as client:
        with pytest.raises(RemoteProtocolError, match="asked more than"):
            await client.call_tool("unsteady")
        assert "needs a key=" in caplog.text
        caplog.clear()
        assert (await client.call_tool("steady")).data == "accept"
    assert not caplog.records


async def test_a_client_without_the_capability_is_not_asked(wire: Wire) -> None:
    server = Server("asks")

    @server.tool
    async def ask(ctx: Context) -> str:
        return (await ctx.elicit("Who?", Name)).action

    async with wire.open(server) as client:
        with pytest.raises(ProtocolError) as refused:
            await client.call_tool("ask")
    assert refused.value.code == -32021
    assert refused.value.data == {"requiredCapabilities": {"elicitation": {}}}


async def test_a_call_that_cannot_become_a_task_asks_in_rounds() -> None:
    """A tool that may be a task is one as soon as it asks; if there is no place, it asks as a call does."""
    server = Server("asks", task_store=MemoryTaskStore(max_records=1))
    runs: list[str | None] = []
    ended: list[int] = []

    @server.tool(task=True)
    async def wait(ctx: Context) -> None:
        await trio.sleep_forever()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        runs.append(ctx.task_id)
        try:
            answer = await ctx.elicit("Who?", Name)
        finally:
            ended.append(1)
        assert answer.data is not None
        return answer.data.name

    async with open_client(
        server, protocol=MODERN, elicitation_handler=lambda request: {"name": "Ada"}
    ) as client:
        await client.call_tool("wait", task=True)
        assert (await client.call_tool("greet")).data == "Ada"
    assert runs == [None, None]
    assert ended == [1, 1]


async def test_completion_cannot_ask_on_the_modern_wire() -> None:
    server = Server("asks")

    @server.prompt
    async def review(language: str) -> str:
        return language

    @review.complete("language")
    async def complete(ctx: Context, value: str) -> list[str]:
        await ctx.elicit("Who?", Name)
        return []

    async with open_client(
        server, protocol=MODERN, elicitation_handler=lambda request: {"name": "Ada"}
    ) as client:
        with pytest.raises(ProtocolError, match="cannot ask within 'completion/complete'"):
            await client.complete(PromptReference(name="review"), {"name": "language", "value": ""})


async def test_questions_of_one_round_are_answered_at_the_same_time(wire: Wire) -> None:
    server = Server("asks")
    both = trio.Event()
    asked: list[str] = []

    @server.tool
    async def collect(ctx: Context) -> list[str]:
        found: list[str] = []

        async def ask(question: str) -> None:
            found.append((await ctx.elicit(question, Name)).action)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "First?")
            nursery.start_soon(ask, "Second?")
        return found

    async def answer(request: Any) -> dict[str, str]:
        asked.append(request.message)
        if len(asked) == 2:
            both.set()
        await both.wait()
        return {"name": "Ada"}

    async with wire.open(server, elicitation_handler=answer) as client:
        with trio.fail_after(HANG_SECONDS):
            assert (await client.call_tool("collect")).data == ["accept", "accept"]
    assert sorted(asked) == ["First?", "Second?"]


async def test_a_call_that_is_cancelled_closes_its_open_question(wire: Wire) -> None:
    server = Server("asks")
    opened, closed = trio.Event(), trio.Event()

    @server.tool
    async def ask(ctx: Context) -> str:
        return (await ctx.elicit("Who?", Name)).action

    async def answer(request: Any) -> dict[str, str]:
        opened.set()
        try:
            await trio.sleep_forever()
        finally:
            closed.set()
        raise AssertionError

    async with wire.open(server, elicitation_handler=answer) as client:
        with trio.fail_after(HANG_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call_tool, "ask")
                await opened.wait()
                nursery.cancel_scope.cancel()
            await closed.wait()


async def test_a_failing_handler_of_the_client_ends_as_in_the_other_era(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server("asks")

    @server.tool
    async def think(ctx: Context) -> str:
        return (await ctx.sample("Why?", max_tokens=5)).text

    def fail(request: Any) -> str:
        raise KeyError("a detail")

    async with wire.open(server, sampling_handler=fail) as client:
        with pytest.raises(ProtocolError, match="sampling/createMessage failed"):
            await client.call_tool("think")
    assert "the handler of sampling/createMessage failed" in caplog.text
