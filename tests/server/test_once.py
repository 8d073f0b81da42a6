"""`Context.once`: what a handler has found out is remembered from run to run."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import MODERN, Wire
from trio_mcp import Context, LocalProtocolError, Server
from trio_mcp.concurrency.failures import leaves


@attrs.frozen
class Name:
    name: str


@dataclass
class Photo:
    title: str
    taken: datetime.date


async def test_a_function_is_called_once_and_its_result_comes_back_as_it_was(wire: Wire) -> None:
    server = Server("asks")
    calls: list[str] = []
    seen: list[Any] = []

    def number() -> int:
        calls.append("number")
        return 7

    async def photos() -> list[Photo]:
        calls.append("photos")
        await trio.lowlevel.checkpoint()
        return [Photo("sea", datetime.date(2026, 7, 28))]

    @server.tool
    async def work(ctx: Context) -> str:
        found = await ctx.once("photos", photos)
        values = [
            found,
            await ctx.once("number", number),
            await ctx.once("lambda", lambda: {"a": [1, None, 2.5]}),
            await ctx.once("pair", lambda: (1, "two"), result_type=tuple[int, str]),
        ]
        seen.append(values)
        await ctx.elicit(f"{found[0].title}?", Name)
        await ctx.once("number", number)
        await ctx.elicit("Sure?", Name)
        return "done"

    async with wire.open(server, elicitation_handler=lambda request: {"name": "Ada"}) as client:
        assert (await client.call_tool("work")).data == "done"
        assert calls == ["photos", "number"]
        await client.call_tool("work")
    assert calls == ["photos", "number"] * 2
    expected = [[Photo("sea", datetime.date(2026, 7, 28))], 7, {"a": [1, None, 2.5]}, (1, "two")]
    assert seen == [expected] * (6 if wire.protocol == MODERN else 2)


@pytest.mark.parametrize("is_task", [True, False])
async def test_in_a_task_it_is_called_once_as_well(wire: Wire, is_task: bool) -> None:
    server = Server("asks")
    calls: list[int] = []

    @server.tool(task=True)
    async def work(ctx: Context) -> list[int]:
        return [await ctx.once("count", lambda: calls.append(1) or len(calls)) for _ in range(3)]

    async with wire.open(server) as client:
        if is_task:
            task = await client.call_tool("work", task=True)
            assert (await task.result()).data == [1, 1, 1]
        else:
            assert (await client.call_tool("work")).data == [1, 1, 1]


async def test_tasks_of_a_handler_share_one_call_of_the_function(wire: Wire) -> None:
    server = Server("asks")
    calls: list[int] = []

    @server.tool
    async def work(ctx: Context) -> list[int]:
        found: list[int] = []

        async def count() -> int:
            for _ in range(50):
                await trio.lowlevel.checkpoint()
            calls.append(1)
            return len(calls)

        async def use() -> None:
            found.append(await ctx.once("count", count))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(use)
            await ctx.elicit("Who?", Name)  # asked while the function is at work: the run waits for it
        return found

    async with wire.open(server, elicitation_handler=lambda request: {"name": "Ada"}) as client:
        assert (await client.call_tool("work")).data == [1, 1, 1]
    assert calls == [1]


async def test_a_function_that_fails_is_called_again(wire: Wire) -> None:
    server = Server("asks")
    calls: list[int] = []

    def fail_first() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("away")
        return len(calls)

    @server.tool
    async def work(ctx: Context) -> int:
        try:
            return await ctx.once("value", fail_first)
        except OSError:
            return await ctx.once("value", fail_first)

    async with wire.open(server) as client:
        assert (await client.call_tool("work")).data == 2


async def test_a_tool_that_is_called_has_keys_of_its_own(wire: Wire) -> None:
    server = Server("asks")

    @server.tool
    async def inner(ctx: Context, value: int) -> int:
        return await ctx.once("value", lambda: value)

    @server.tool
    async def outer(ctx: Context) -> list[int]:
        own = await ctx.once("value", lambda: 0)
        results = [await ctx.call_tool("inner", {"value": value}) for value in (1, 2)]
        await ctx.elicit("Who?", Name)
        return [own, *(result.data for result in results)]

    async with wire.open(server, elicitation_handler=lambda request: {"name": "Ada"}) as client:
        assert (await client.call_tool("outer")).data == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([Photo("sea", datetime.date(2026, 7, 28))], "annotate what the function returns"),
        ((1, 2), "annotate what the function returns"),
        (object(), "cannot be kept as JSON"),
        (float("nan"), "cannot be kept as JSON"),
    ],
)
async def test_a_result_that_does_not_come_back_is_an_error_in_both_eras(
    wire: Wire, value: Any, words: str
) -> None:
    server = Server("asks")

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.once("value", lambda: value)
        return "never"

    async with wire.open(server) as client:
        result = await client.call_tool("work", raise_on_error=False)
    assert result.is_error
    assert words in result.text


async def test_a_result_that_is_not_of_its_type_is_an_error() -> None:
    server = Server("asks")

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.once("value", lambda: "text", result_type=int)
        return "never"

    async with Wire("memory", MODERN).open(server) as client:
        result = await client.call_tool("work", raise_on_error=False)
    assert "the result is no <class 'int'>" in result.text


async def test_a_function_cannot_ask_and_not_use_once(wire: Wire) -> None:
    server = Server("asks")
    told: list[str] = []

    @server.tool
    async def work(ctx: Context) -> None:
        async def ask() -> str:
            return (await ctx.elicit("Who?", Name)).action

        async def nest() -> int:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ctx.once, "inner", lambda: 1)
            return 1

        for function in (ask, nest):
            try:
                await ctx.once("value", function)
            except* LocalProtocolError as group:
                told.append(str(next(iter(leaves(group)))))

    async with wire.open(server, elicitation_handler=lambda request: {"name": "Ada"}) as client:
        await client.call_tool("work")
    assert told == [
        "a function of ctx.once cannot ask the client: do that before or after it",
        "a function of ctx.once cannot use ctx.once: do that before or after it",
    ]
