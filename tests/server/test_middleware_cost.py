"""What is not used of middleware costs a call nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import LEGACY, MODERN
from tests.progress.test_reporting_cost import Executed, executed
from trio_mcp import Server, open_client

MIDDLEWARE = {
    "layers",
    "middleware",
    "request_middleware",
    "tool_middleware",
    "resource_middleware",
    "prompt_middleware",
}


def make_server() -> Server:
    server = Server("costs", version="1")

    @server.tool
    async def echo(text: str) -> str:
        return text

    return server


async def pass_on(ctx: Any, call_next: Any) -> Any:
    return await call_next(ctx)


async def trace_echo(server: Server, protocol: str) -> Executed:
    async with open_client(server, protocol=protocol) as client:
        for _ in range(2):  # the first call does work that later ones do not
            with executed():
                await client.call_tool("echo", {"text": "hi"})
        with executed() as seen:
            await client.call_tool("echo", {"text": "hi"})
    return seen


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_call_of_a_server_without_middleware_executes_no_code_of_it(protocol):
    seen = await trace_echo(make_server(), protocol)
    assert {"tool_methods", "server_session"} <= seen.modules
    assert not seen.modules & MIDDLEWARE


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_middleware_around_something_else_adds_no_instruction_to_a_call(protocol):
    plain = await trace_echo(make_server(), protocol)
    server = make_server()
    server.add_resource_middleware(pass_on)
    server.add_prompt_middleware(pass_on)
    other = await trace_echo(server, protocol)
    assert other.instructions == plain.instructions
    assert plain.instructions.total() > 500


async def test_the_trace_sees_middleware_if_there_is_some():
    server = make_server()
    server.add_middleware(pass_on)
    server.add_tool_middleware(pass_on)
    seen = await trace_echo(server, MODERN)
    assert {"layers", "request_middleware", "tool_middleware"} <= seen.modules


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
@pytest.mark.parametrize("kind", ["requests", "tools"])
async def test_one_middleware_adds_a_tenth_to_a_call_at_most(protocol, kind):
    """Of the code of this package, client and server in memory; in time it is less."""
    plain = await trace_echo(make_server(), protocol)
    server = make_server()
    if kind == "requests":
        server.add_middleware(pass_on)
    else:
        server.add_tool_middleware(pass_on)
    layered = await trace_echo(server, protocol)
    assert layered.instructions.total() < 1.11 * plain.instructions.total()
