"""Handlers that ask their client within a call that is answered directly, in both eras."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from tests.conftest import MODERN, Wire
from trio_mcp import Context, Server


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
