"""A server on a real loopback socket: many clients, and clients that leave, stall or lose it."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from tests.support.asgi_host import META, MODERN
from tests.support.limits import HANG_SECONDS
from tests.support.memory import traced_memory
from trio_mcp import (
    ConnectionLost,
    Context,
    Lossless,
    RunningServer,
    Server,
    ServerSettings,
    open_client,
    open_server,
    serve_http,
)

LEGACY = "2025-11-25"


def make_server(**settings: Any) -> Server:
    server = Server("network", version="1", settings=ServerSettings(**settings))
    server.ended = trio.Event()

    @server.tool
    async def loop(ctx: Context, n: int) -> str:
        for i in range(n):
            await ctx.report_progress(i + 1, n)
        return "done"

    @server.tool
    async def hold(ctx: Context) -> None:
        try:
            await ctx.report_progress(1, 2)
            await trio.sleep_forever()
        finally:
            server.ended.set()

    @server.tool
    async def flood(ctx: Context) -> None:
        try:
            for i in range(10**9):
                await ctx.report_progress(i, None, "x" * 1000)
        finally:
            server.ended.set()

    return server


@asynccontextmanager
async def serving(target: Server | RunningServer, **options: Any) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, target, bind="127.0.0.1:0", **options))
        yield url
        nursery.cancel_scope.cancel()


def request(tool: str, session_id: str | None = None) -> bytes:
    """Return a call as bytes: for a legacy session, or else modern."""
    meta = META if session_id is None else {}
    params = {"name": tool, "_meta": {**meta, "progressToken": 1}}
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    era = [f"mcp-protocol-version: {MODERN}", "mcp-method: tools/call", f"mcp-name: {tool}"]
    head = (
        "POST /mcp HTTP/1.1",
        "host: localhost",
        "accept: application/json, text/event-stream",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(era if session_id is None else [f"mcp-session-id: {session_id}"]),
    )
    return "\r\n".join((*head, "", "")).encode() + body


async def connect(url: str, *, small: bool = False) -> trio.SocketStream:
    host, port = url.partition("://")[2].partition("/")[0].rsplit(":", 1)
    plain = socket.socket()
    if small:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    trio_socket = trio.socket.from_stdlib_socket(plain)
    await trio_socket.connect((host, int(port)))
    return trio.SocketStream(trio_socket)


async def wait_for(stream: trio.SocketStream, part: bytes) -> None:
    seen = b""
    with trio.fail_after(HANG_SECONDS):
        while part not in seen:
            data = await stream.receive_some(65_536)
            assert data, seen
            seen += data


@pytest.mark.parametrize("tool", ["hold", "flood"])
async def test_a_disconnect_stops_a_modern_handler(tool):
    server = make_server()
    async with serving(server) as url:
        stream = await connect(url)
        await stream.send_all(request(tool))
        await wait_for(stream, b"notifications/progress")
        await stream.aclose()
        with trio.fail_after(HANG_SECONDS):
            await server.ended.wait()


async def test_a_disconnect_leaves_a_legacy_handler_running():
    server = make_server()
    release = trio.Event()
    states: list[str] = []

    @server.tool
    async def wait(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        try:
            await release.wait()
            states.append("finished")
        except trio.Cancelled:
            states.append("cancelled")
            raise
        return "released"

    async def post(http: httpx2.AsyncClient, url: str, method: str, **params: Any) -> httpx2.Response:
        message = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
        return await http.post(url, json=message)

    info = {"name": "raw", "version": "1"}
    async with serving(server) as url, httpx2.AsyncClient(timeout=HANG_SECONDS) as http:
        began = await post(http, url, "initialize", protocolVersion=LEGACY, capabilities={}, clientInfo=info)
        http.headers["mcp-session-id"] = session_id = began.headers["mcp-session-id"]
        stream = await connect(url)
        await stream.send_all(request("wait", session_id))
        await wait_for(stream, b"notifications/progress")
        await stream.aclose()
        assert (await post(http, url, "ping")).status_code == 200
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert states == []
        release.set()
        assert (await post(http, url, "ping")).status_code == 200
        assert states == ["finished"]


@pytest.mark.parametrize("policy", [None, Lossless()], ids=["conflate", "lossless"])
async def test_a_reader_that_stops_reading_holds_up_no_shutdown(policy):
    server = make_server(**({} if policy is None else {"progress": policy}))
    stream = None
    with trio.fail_after(HANG_SECONDS):
        async with serving(server, shutdown_grace=0.2) as url:
            stream = await connect(url, small=True)
            await stream.send_all(request("flood"))
            await wait_for(stream, b"notifications/progress")
            # From here on nobody reads it; other clients are served meanwhile.
            async with open_client(url) as client:
                assert (await client.call_tool("loop", {"n": 10})).data == "done"
    assert server.ended.is_set()
    await stream.aclose()


async def test_a_stalled_reader_of_a_long_call_needs_little_memory():
    """Law 5 over a real socket: 100,000 reports need less than 1 MB."""
    server = make_server()
    reported = trio.Event()

    @server.tool
    async def chatter(ctx: Context) -> None:
        for i in range(100_000):
            await ctx.report_progress(i, 100_000, "x" * 50)
        reported.set()
        await trio.sleep_forever()

    async with serving(server, shutdown_grace=0.1) as url:
        stream = await connect(url, small=True)
        await stream.send_all(request("chatter"))
        await wait_for(stream, b"notifications/progress")
        with traced_memory() as held:
            with trio.fail_after(HANG_SECONDS):
                await reported.wait()
            assert held() < 1_000_000
        await stream.aclose()


@pytest.mark.parametrize("clients", [200, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_many_clients_at_once_leave_nothing_behind(protocol, clients, monkeypatch):
    """Every update of every client arrives; memory, tasks and descriptors return to what they were."""
    updates = 20
    # A client that gives up its farewell leaves a session, which the server keeps until it is idle for long.
    for limit in ("h11_connection.CONNECT_SECONDS", "legacy_session.CLOSE_SECONDS"):
        monkeypatch.setattr(f"trio_mcp.transports.http.{limit}", HANG_SECONDS)
    server = make_server(progress=Lossless())
    seen: list[list[float]] = []

    async def run(url: str, meet: trio.Event, arrived: list[None]) -> None:
        mine: list[float] = []
        async with open_client(url, protocol=protocol) as client:
            arrived.append(None)
            if len(arrived) == clients:
                meet.set()
            await meet.wait()
            result = await client.call_tool(
                "loop", {"n": updates}, progress_handler=lambda progress, *rest: mine.append(progress)
            )
            assert result.data == "done"
        seen.append(mine)

    async def settled() -> tuple[int, int]:
        with trio.move_on_after(HANG_SECONDS):
            while len(os.listdir("/proc/self/fd")) > before[0] or tasks() > before[1]:
                await trio.testing.wait_all_tasks_blocked(0.01)
        return len(os.listdir("/proc/self/fd")), tasks()

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    async with serving(server) as url:
        async with open_client(url, protocol=protocol) as client:
            await client.call_tool("loop", {"n": 1})
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = len(os.listdir("/proc/self/fd")), tasks()
        gc.collect()
        with traced_memory() as held:
            with trio.fail_after(2 * HANG_SECONDS):
                async with trio.open_nursery() as nursery:
                    meet, arrived = trio.Event(), []
                    for _ in range(clients):
                        nursery.start_soon(run, url, meet, arrived)
            assert seen == [list(range(1, updates + 1))] * clients
            seen.clear()
            assert await settled() <= before
            gc.collect()
            left = held()
    assert left < 500_000 + 3_000 * clients, f"{left / clients:.0f} bytes are left of each client"


SERVER = """
import sys
from functools import partial
import trio
from trio_mcp import Context, Server, serve_http

server = Server("mortal")

@server.tool
async def hold(ctx: Context) -> None:
    await ctx.report_progress(1, 2)
    await trio.sleep_forever()

@server.tool
async def alive() -> str:
    return "alive"

async def main():
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve_http, server, bind=f"127.0.0.1:{sys.argv[1]}"))
        print(urls[0], flush=True)

trio.run(main)
"""


def start_server(path: Path, port: str) -> tuple[subprocess.Popen[str], str]:
    path.write_text(SERVER)
    process = subprocess.Popen([sys.executable, str(path), port], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_killed_server_is_noticed_and_its_successor_is_used(protocol, tmp_path):
    process, url = await trio.to_thread.run_sync(start_server, tmp_path / "server.py", "0")
    try:
        async with open_client(url, protocol=protocol) as client:
            reached = trio.Event()

            async def call() -> None:
                with pytest.raises(ConnectionLost):
                    await client.call_tool("hold", progress_handler=lambda *update: reached.set())

            with trio.fail_after(HANG_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call)
                    await reached.wait()
                    process.send_signal(signal.SIGKILL)
                    await trio.to_thread.run_sync(process.wait)
                with pytest.raises(ConnectionLost):
                    await client.call_tool("alive")
                port = url.rpartition(":")[2].partition("/")[0]
                process.stdout.close()
                process, _ = await trio.to_thread.run_sync(start_server, tmp_path / "server.py", port)
                assert (await client.call_tool("alive")).data == "alive"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_one_server_on_two_addresses_shares_its_tasks():
    server = make_server()

    @server.tool(task=True)
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 1)
        return ctx.task_id

    async with open_server(server) as running, serving(running) as first, serving(running) as second:
        async with open_client(first) as one, open_client(second) as other:
            task = await one.call_tool("work", task=True)
            assert (await other.await_task(task.id)).data == task.id
        assert (await running.fetch_task(task.id)).status == "completed"


def test_run_at_an_address_in_use_raises_the_error_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(OSError, match="in use"):
        Server("unlucky").run("http", bind=f"127.0.0.1:{listener.getsockname()[1]}")
