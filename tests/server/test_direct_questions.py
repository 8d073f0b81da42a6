"""A tool that asks where its era cannot: the client reads why."""

from __future__ import annotations

import logging

import attrs
import pytest

from tests.conftest import MODERN, Wire
from trio_mcp import Context, ElicitRequest, SampleRequest, Server

server = Server("asks")


@attrs.frozen
class Name:
    name: str


@server.tool
async def ask(ctx: Context) -> str:
    return (await ctx.elicit("Who?", Name)).action


@server.tool
async def think(ctx: Context) -> str:
    return (await ctx.sample("Why?", max_tokens=5)).text


@server.tool
async def remember(ctx: Context) -> str:
    return str(ctx.session_state)


@pytest.mark.parametrize(
    ("tool", "words"),
    [("ask", "cannot ask its client"), ("think", "cannot ask its client"), ("remember", "has no sessions")],
)
async def test_a_direct_modern_call_says_why_it_cannot(
    wire: Wire, tool: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    if wire.protocol != MODERN:
        pytest.skip("legacy eras have sessions and questions")

    async def answer(request: ElicitRequest) -> dict[str, str]:
        raise AssertionError("nobody is asked")

    async def sample(request: SampleRequest) -> str:
        raise AssertionError("nobody is asked")

    with caplog.at_level(logging.WARNING, "trio_mcp"):
        async with wire.open(server, elicitation_handler=answer, sampling_handler=sample) as client:
            result = await client.call_tool(tool, raise_on_error=False)
    assert result.is_error
    assert words in result.text
    (record,) = [record for record in caplog.records if tool in record.getMessage()]
    assert words in record.getMessage()
    assert record.exc_info is None
