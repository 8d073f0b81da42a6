"""Our client and the servers of other implementations, over Streamable HTTP in both eras and HTTP+SSE."""

import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import Client, ConnectionLost, ToolError, open_client

PEERS = Path(__file__).parents[1] / "peers"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
TOOLS = ["loop", "slow", "wait_cancelled", "echo", "fail"]
UPDATES = [[i, 200, f"update {i}"] for i in range(1, 201)]
SERVERS = {
    "mcp2": ("mcp2", "sdk_http_server.py"),
    "mcp2-json": ("mcp2", "sdk_http_server.py", "json"),
    "mcp1-sse": ("mcp1", "sdk1_sse_server.py"),
    "mcp2-sse": ("mcp2", "sdk_http_server.py", "sse"),
    "fastmcp42": ("fastmcp42", "fastmcp_http_server.py"),
}


@pytest.fixture(scope="session")
def open_peer(environment: Callable[[str], Path], serve: Callable[..., str]) -> Callable[[str], str]:
    """Gives the URL of one of the servers, which runs from then on."""

    def find(name: str) -> str:
        peer, script, *options = SERVERS[name]
        return serve(environment(peer) / "bin" / "python", PEERS / script, *options)

    return find


@pytest.fixture(params=["mcp2", "fastmcp42"])
def url(request: pytest.FixtureRequest, open_peer: Callable[[str], str]) -> str:
    return open_peer(request.param)


@pytest.fixture(params=["mcp1-sse", "mcp2-sse"])
def sse_url(request: pytest.FixtureRequest, open_peer: Callable[[str], str]) -> str:
    return open_peer(request.param)


@pytest.fixture(params=[LEGACY, MODERN, "auto"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def connected(url: str, protocol: str) -> AsyncIterator[Client]:
    with trio.fail_after(HANG_SECONDS):
        async with open_client(url, protocol=protocol) as client:
            yield client


@pytest.mark.parametrize("server", [server for server in SERVERS if not server.endswith("sse")])
async def test_our_client_lists_and_calls(
    server: str, open_peer: Callable[[str], str], protocol: str
) -> None:
    async with connected(open_peer(server), protocol) as client:
        assert client.protocol_version == (MODERN if protocol == "auto" else protocol)
        assert client.server_info.name in ("sdk-server", "fastmcp-server")
        assert [tool.name for tool in await client.list_tools()][: len(TOOLS)] == TOOLS
        assert (await client.call_tool("echo", {"text": "hello"})).text == "hello"
        with pytest.raises(ToolError, match="failed on purpose"):
            await client.call_tool("fail")
        await client.ping()


async def test_our_client_delivers_every_update_in_order_before_the_result(url: str, protocol: str) -> None:
    seen: list[list[Any]] = []

    def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append([progress, total, message])

    async with connected(url, protocol) as client:
        result = await client.call_tool("loop", {"n": len(UPDATES)}, progress_handler=on_progress)
        assert result.text == "looped 200"
        assert seen == UPDATES
        await client.call_tool("echo", {"text": "after"})
        assert seen == UPDATES


@pytest.mark.parametrize("options", [{}, {"transport": "sse"}], ids=["fall-back", "chosen"])
async def test_our_client_speaks_the_older_transport(sse_url: str, options: dict[str, Any]) -> None:
    seen: list[list[Any]] = []

    def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append([progress, total, message])

    with trio.fail_after(HANG_SECONDS):
        async with open_client(sse_url, **options) as client:
            assert client.protocol_version == LEGACY
            assert [tool.name for tool in await client.list_tools()][: len(TOOLS)] == TOOLS
            with pytest.raises(ToolError, match="failed on purpose"):
                await client.call_tool("fail")
            result = await client.call_tool("loop", {"n": len(UPDATES)}, progress_handler=on_progress)
            assert (result.text, seen) == ("looped 200", UPDATES)
            key = str(uuid.uuid4())
            with trio.CancelScope() as scope:
                started = lambda progress, total, message: scope.cancel()  # noqa: E731  # a handler of one line
                await client.call_tool("slow", {"seconds": 3600, "key": key}, progress_handler=started)
            assert (await client.call_tool("wait_cancelled", {"key": key})).text == "cancelled"
            await client.ping()


async def test_our_client_cancels_one_call_and_makes_the_next(url: str, protocol: str) -> None:
    key = str(uuid.uuid4())
    async with connected(url, protocol) as client:
        with trio.CancelScope() as scope:

            def on_started(progress: float, total: float | None, message: str | None) -> None:
                scope.cancel()

            await client.call_tool("slow", {"seconds": 3600, "key": key}, progress_handler=on_started)
        assert scope.cancelled_caught
        assert (await client.call_tool("wait_cancelled", {"key": key})).text == "cancelled"
        assert (await client.call_tool("echo", {"text": "still here"})).text == "still here"


async def test_our_client_resumes_a_stream_that_the_server_closed(open_peer: Callable[[str], str]) -> None:
    seen: list[float] = []
    async with connected(open_peer("mcp2"), LEGACY) as client:
        result = await client.call_tool("detached", progress_handler=lambda p, t, m: seen.append(p))
        assert result.text == "resumed"
        assert seen == [1, 2]


@pytest.mark.parametrize("protocol", [LEGACY, MODERN])
async def test_our_client_reports_at_once_that_the_server_was_killed(
    environment: Callable[[str], Path], protocol: str
) -> None:
    command = [environment("mcp2") / "bin" / "python", PEERS / "sdk_http_server.py"]
    run = partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(HANG_SECONDS):
            process = await nursery.start(run, command)
            url = ""
            while not url.endswith("\n"):
                url += (await process.stdout.receive_some()).decode()
            url = url.strip()

            def on_started(progress: float, total: float | None, message: str | None) -> None:
                process.kill()

            async with connected(url, protocol) as client:
                with pytest.raises(ConnectionLost, match=url):
                    await client.call_tool("slow", {"seconds": 3600}, progress_handler=on_started)
                with pytest.raises(ConnectionLost, match=url):
                    await client.call_tool("echo", {"text": "anybody?"})
