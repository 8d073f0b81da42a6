"""What a handler gets from its context has the type that it asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, assert_type

import trio

from trio_mcp import (
    Context,
    Elicited,
    ElicitRequest,
    Principal,
    ProgressHelper,
    Root,
    Sampled,
    SampleRequest,
    Server,
    open_client,
)

server = Server("travel")


@dataclass
class Booking:
    city: str
    nights: int = 1


def draw_number() -> int:
    return 7


async def draw_text() -> str:
    return "seven"


@server.tool
async def book(ctx: Context) -> str:
    number = await ctx.once("number", draw_number)
    assert_type(number, int)
    text = await ctx.once("text", draw_text)
    assert_type(text, str)

    answer = await ctx.elicit("Where to?", Booking)
    assert_type(answer, Elicited[Booking])
    if answer.data is None:
        assert_type(answer.action, Literal["accept", "decline", "cancel"])
        return "nothing was booked"
    booking = answer.data
    assert_type(booking.nights, int)

    insured = await ctx.elicit("Insured?", bool, key="insured")
    assert_type(insured, Elicited[bool])
    confirmed = await ctx.elicit("Sure?")
    assert_type(confirmed, Elicited[Any])

    advice = await ctx.sample("What to see there?", max_tokens=100)
    assert_type(advice, Sampled)
    roots = await ctx.list_roots()
    assert_type(roots, list[Root])
    return f"{number} {text} {booking.city} {insured.data} {confirmed.accepted} {advice.text} {len(roots)}"


@server.tool
async def walk(ctx: Context) -> str:
    progress = ctx.progress()
    assert_type(progress, ProgressHelper)
    progress.set_total(3)
    async for city in progress.track(["Rome", "Bern", "Oslo"]):
        assert_type(city, str)
    async with progress.stage("rest", total=2) as stage:
        assert_type(stage, ProgressHelper)
        stage.increment()
    await ctx.info({"walked": 3}, logger="walk")
    if ctx.principal is not None:
        assert_type(ctx.principal, Principal)
    assert_type(ctx.headers.get("user-agent"), str | None)
    return "home"


@server.tool
def wait(ctx: Context, seconds: float) -> None:
    """A sync tool runs in a thread, where the same methods need no await."""
    ctx.report_progress(seconds, seconds)
    ctx.check_cancelled()


def fill_in(request: ElicitRequest) -> dict[str, Any]:
    return {"city": "Rome"} if "city" in request.schema["properties"] else {"value": True}


def advise(request: SampleRequest) -> str:
    return "the fountain"


async def main() -> None:
    async with open_client(
        server, elicitation_handler=fill_in, sampling_handler=advise, roots=["file:///home"]
    ) as client:
        assert (await client.call_tool("walk")).data == "home"
        await client.call_tool("wait", {"seconds": 0})
        said = (await client.call_tool("book", result_type=str)).data
        assert said.startswith("7 seven Rome True True"), said


if __name__ == "__main__":
    trio.run(main)
