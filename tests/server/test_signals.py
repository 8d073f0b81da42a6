"""Signals end a server that owns its process: in order at first, at once if they are repeated."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.limits import HANG_SECONDS
from trio_mcp import Server

PROGRAM = r"""
import signal, sys, time
import trio
from trio_mcp import Context, Server

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
transport = sys.argv[1]
server = Server("ends")


@server.lifespan
async def live(server):
    print("lifespan entered", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("lifespan left", file=sys.stderr, flush=True)


@server.tool
async def hang(ctx: Context) -> str:
    print("hanging", file=sys.stderr, flush=True)
    await trio.sleep_forever()


@server.tool
async def churn(ctx: Context) -> None:
    if ctx.request_id == 50:
        print("churning", file=sys.stderr, flush=True)
    number = 0
    while True:
        number += 1
        await ctx.report_progress(number)


@server.tool
async def refuse() -> None:
    try:
        await trio.sleep_forever()
    finally:
        print("refusing", file=sys.stderr, flush=True)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


@server.tool
async def spin() -> None:
    print("spinning", file=sys.stderr, flush=True)
    while True:
        time.sleep(0.001)


@server.tool
async def long() -> str:
    return "x" * 1_000_000


if __name__ == "__main__":
    server.run(transport, **({"bind": "127.0.0.1:0"} if transport == "http" else {}))
"""

COMMANDS = {
    "server.run stdio": ["FILE", "stdio"],
    "server.run http": ["FILE", "http"],
    "trio-mcp run": ["-m", "trio_mcp.cli", "run", "FILE"],
    "trio-mcp run --http": ["-m", "trio_mcp.cli", "run", "FILE", "--http", ":0"],
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@contextmanager
def started(tmp_path: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    file = tmp_path / "ends.py"
    file.write_text(PROGRAM.replace("sys.argv[1]", "(sys.argv[1:] + ['stdio'])[0]"))
    words = [str(file) if word == "FILE" else word for word in COMMANDS[name]]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-u", *words], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_line(process: subprocess.Popen[bytes], words: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line.decode():
            return line.decode()
    raise AssertionError(f"{words!r} was not said")


def request(tool: str) -> dict[str, Any]:
    params = {"name": tool, "arguments": {}, "_meta": META}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def send_call(process: subprocess.Popen[bytes], tool: str) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(request(tool)).encode() + b"\n")
    process.stdin.flush()


def wait_serving(process: subprocess.Popen[bytes], name: str) -> str:
    if "http" not in name:
        wait_line(process, "lifespan entered")
        return ""
    return wait_line(process, "serves MCP at").split(" at ")[1].partition(";")[0].strip()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)], ids=str
)
def test_a_signal_leaves_the_lifespan(tmp_path: Path, name: str, number: int, status: int) -> None:
    with started(tmp_path, name) as process:
        wait_serving(process, name)
        process.send_signal(number)
        _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == status
    assert b"lifespan left" in errors
    assert b"Traceback" not in errors


@pytest.mark.parametrize("name", ["server.run stdio", "trio-mcp run"])
def test_sigterm_finishes_the_line_that_is_being_written(tmp_path: Path, name: str) -> None:
    with started(tmp_path, name) as process:
        assert process.stdout is not None
        send_call(process, "long")
        head = process.stdout.read(1000)  # the pipe is full: the rest of the line waits
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=HANG_SECONDS)
    lines = (head + rest).split(b"\n")
    assert lines.pop() == b""
    assert [len(json.loads(line)["result"]["content"][0]["text"]) for line in lines] == [1_000_000]
    assert process.returncode == 0


@pytest.mark.parametrize("name", ["server.run stdio", "server.run http"])
def test_ctrl_c_in_the_middle_of_a_call_is_no_error_of_a_tool(tmp_path: Path, name: str) -> None:
    with started(tmp_path, name) as process:
        url = wait_serving(process, name)
        if url:
            headers = {
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": "2026-07-28",
                "mcp-method": "tools/call",
                "mcp-name": "hang",
            }
            with httpx2.Client(timeout=HANG_SECONDS) as http:
                task = http.build_request("POST", url, json=request("hang"), headers=headers)
                with subprocess.Popen(
                    [sys.executable, "-c", POST, url, task.content.decode(), json.dumps(headers)],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                ):
                    wait_line(process, "hanging")
                    process.send_signal(signal.SIGINT)
                    _, errors = process.communicate(timeout=HANG_SECONDS)
        else:
            send_call(process, "hang")
            wait_line(process, "hanging")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert b"lifespan left" in errors
    assert b"Traceback" not in errors
    assert b"KeyboardInterrupt" not in errors


POST = """
import sys, json, urllib.request
headers = json.loads(sys.argv[3]) | {"content-type": "application/json"}
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], sys.argv[2].encode(), headers)).read()
except Exception:
    pass
"""


CALLS = """
import sys, json, trio

async def read(stream, request):
    await stream.send_all(request)
    while await stream.receive_some():
        pass

async def main():
    async with trio.open_nursery() as nursery:
        for request in json.load(sys.stdin):
            stream = await trio.open_tcp_stream("127.0.0.1", int(sys.argv[1]))
            nursery.start_soon(read, stream, request.encode())

try:
    trio.run(main)
except* (trio.BrokenResourceError, KeyboardInterrupt):
    pass
"""


@contextmanager
def calling(url: str, *tools: str) -> Iterator[None]:
    """Call the tools from another process, each on a connection of its own, and read what comes."""
    address = url.split("/")[2]
    requests = []
    for number, tool in enumerate(tools, 1):
        message = request(tool)
        message["id"] = number
        message["params"]["_meta"] = {**META, "progressToken": number}
        body = json.dumps(message)
        head = [
            f"POST /mcp HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json",
            "accept: application/json, text/event-stream",
            "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call",
            f"mcp-name: {tool}\r\ncontent-length: {len(body)}\r\n\r\n{body}",
        ]
        requests.append("\r\n".join(head))
    null = subprocess.DEVNULL
    port = address.rpartition(":")[2]
    with subprocess.Popen(
        [sys.executable, "-c", CALLS, port], stdin=subprocess.PIPE, stdout=null, stderr=null
    ) as client:
        try:
            assert client.stdin is not None
            client.stdin.write(json.dumps(requests).encode())
            client.stdin.close()
            yield
        finally:
            client.kill()


HTTP_COMMANDS = [name for name in COMMANDS if "http" in name]


@pytest.mark.parametrize("name", HTTP_COMMANDS)
def test_ctrl_c_ends_a_server_with_many_calls_that_report_all_the_time(tmp_path: Path, name: str) -> None:
    with started(tmp_path, name) as process, calling(wait_serving(process, name), *["churn"] * 50):
        wait_line(process, "churning")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert b"lifespan left" in errors
    assert b"Traceback" not in errors
    assert b"KeyboardInterrupt" not in errors


@pytest.mark.parametrize("name", HTTP_COMMANDS)
def test_a_second_ctrl_c_ends_a_server_whose_handler_does_not_end(tmp_path: Path, name: str) -> None:
    with (
        started(tmp_path, name) as process,
        calling(wait_serving(process, name), "refuse", *["churn"] * 49),
    ):
        wait_line(process, "churning")
        process.send_signal(signal.SIGINT)
        wait_line(process, "refusing")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode in (130, -signal.SIGINT)
    assert b"Traceback" not in errors
    assert b"KeyboardInterrupt" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_server_whose_tool_blocks_the_loop(tmp_path: Path, number: int) -> None:
    with started(tmp_path, "server.run stdio") as process:
        send_call(process, "spin")
        wait_line(process, "spinning")
        process.send_signal(number)
        process.send_signal(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
        process.wait(HANG_SECONDS)
    assert process.returncode < 0  # killed by a signal


def test_a_handler_of_the_program_is_left_alone() -> None:
    def handle(number: int, frame: object) -> None:
        pass

    from trio_mcp.server.signals import ENDING, find_free

    before = signal.signal(signal.SIGTERM, handle)
    try:
        assert signal.SIGTERM not in find_free(ENDING)
        assert signal.SIGHUP in find_free(ENDING)
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(ValueError, match="transport must be"):
        Server("x").run("pigeon")  # type: ignore[arg-type]  # there is none of this name
