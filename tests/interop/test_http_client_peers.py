"""Our client over Streamable HTTP and the official SDK's server, in both protocol eras."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_mcp import ConnectionLost, ToolError, open_client

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests" / "peers" / "sdk_http_server.py"
DEADLINE = 30
TOOLS = ["loop", "slow", "wait_cancelled", "echo", "fail", "log", "detached"]
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@pytest.fixture(scope="module")
def sdk_python() -> str:
    """The interpreter of the environment that holds the SDK; never this one's."""
    python = Path(os.environ.get("TRIO_MCP_PEER_MCP2") or ROOT / ".envs" / "mcp2" / "bin" / "python")
    if not python.exists():
        pytest.fail(f"{python} does not exist: run `make peers` first, or set TRIO_MCP_PEER_MCP2")
    return str(python)


@pytest.fixture(params=[LEGACY, MODERN, "auto"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def serving(python: str, *options: str) -> AsyncIterator[tuple[str, trio.Process]]:
    """A server process; its URL is what it says first."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
            process = await nursery.start(partial(run, [python, str(SERVER), *options]))
            url = b""
            while not url.endswith(b"\n"):
                url += await process.stdout.receive_some()
            yield url.decode().strip(), process
            nursery.cancel_scope.cancel()


@pytest.fixture(params=["sse", "json"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_our_client_uses_the_sdk_server(sdk_python: str, protocol: str, form: str) -> None:
    async with serving(sdk_python, form) as (url, _), open_client(url, protocol=protocol) as client:
        assert client.protocol_version == (MODERN if protocol == "auto" else protocol)
        assert client.server_info.name == "sdk-server"
        assert [tool.name for tool in await client.list_tools()] == TOOLS
        assert (await client.call_tool("echo", {"text": "hello"})).text == "hello"
        with pytest.raises(ToolError, match="failed on purpose"):
            await client.call_tool("fail")
        await client.ping()


async def test_our_client_delivers_every_update_in_order_before_the_result(
    sdk_python: str, protocol: str
) -> None:
    seen: list[float] = []

    def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with serving(sdk_python) as (url, _), open_client(url, protocol=protocol) as client:
        result = await client.call_tool("loop", {"n": 200}, progress_handler=on_progress)
        assert result.text == "looped 200"
        assert seen == list(range(1, 201))


async def test_our_client_cancels_one_call_and_makes_the_next(sdk_python: str, protocol: str) -> None:
    async with serving(sdk_python) as (url, _), open_client(url, protocol=protocol) as client:
        with trio.CancelScope() as scope:

            def on_started(progress: float, total: float | None, message: str | None) -> None:
                scope.cancel()

            await client.call_tool("slow", {"seconds": 3600}, progress_handler=on_started)
        assert scope.cancelled_caught
        assert (await client.call_tool("wait_cancelled")).text == "cancelled"
        assert (await client.call_tool("echo", {"text": "still here"})).text == "still here"


async def test_our_client_resumes_a_stream_that_the_sdk_server_closed(sdk_python: str) -> None:
    seen: list[Any] = []
    async with serving(sdk_python) as (url, _), open_client(url, protocol=LEGACY) as client:
        result = await client.call_tool("detached", progress_handler=lambda p, t, m: seen.append(p))
        assert result.text == "resumed"
        assert seen == [1, 2]


async def test_our_client_says_at_once_that_the_sdk_server_was_killed(sdk_python: str, protocol: str) -> None:
    async with serving(sdk_python) as (url, process), open_client(url, protocol=protocol) as client:
        async with trio.open_nursery() as nursery:

            async def call_slow() -> None:
                with pytest.raises(ConnectionLost, match=url):
                    await client.call_tool("slow", {"seconds": 3600}, progress_handler=on_started)

            def on_started(progress: float, total: float | None, message: str | None) -> None:
                process.kill()

            nursery.start_soon(call_slow)
        with pytest.raises(ConnectionLost, match=url):
            await client.call_tool("echo", {"text": "anybody?"})
