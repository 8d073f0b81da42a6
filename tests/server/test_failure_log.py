"""Failures in the log: a client that reads no stderr holds up nothing, and a repeated failure is counted."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import Client, Server, ToolError, open_client
from trio_mcp.background_log import log_in_background

PROGRAM = """
from trio_mcp import Server

server = Server("fails")


def deeper(kind, depth=20):
    if depth:
        return deeper(kind, depth - 1)
    raise kind("x" * 400)


@server.tool
async def fail(n: int) -> str:
    deeper(type(f"Failure{n}", (Exception,), {}))  # every failure is another: each has a traceback


if __name__ == "__main__":
    server.run()
"""
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize("command", [["FILE"], ["-m", "trio_mcp.cli", "run", "FILE"]], ids=["run", "cli"])
def test_a_stderr_that_nobody_reads_holds_up_no_answer_and_no_end(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "fails.py"
    file.write_text(PROGRAM)
    words = [str(file) if word == "FILE" else word for word in command]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *words], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        killer = threading.Timer(HANG_SECONDS, process.kill)
        killer.start()
        try:
            for ident in range(300):
                params = {"name": "fail", "arguments": {"n": ident}, "_meta": META}
                request = {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}
                process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answered = {json.loads(process.stdout.readline() or b'{"id": null}')["id"] for _ in range(300)}
            process.stdin.close()
            status = process.wait()
        finally:
            killer.cancel()
            process.kill()
    assert answered == set(range(300))
    assert status == 0


def failing_server() -> Server:
    server = Server("fails")

    @server.tool
    async def fail(kind: str = "os") -> None:
        if kind == "tool":
            raise ToolError("known")
        raise {"os": OSError, "value": ValueError}[kind](kind)

    return server


async def fail(client: Client, times: int, kind: str = "os") -> None:
    for _ in range(times):
        with pytest.raises(ToolError):
            await client.call_tool("fail", {"kind": kind})


def told(caplog: pytest.LogCaptureFixture) -> tuple[int, list[str]]:
    """The number of tracebacks, and the other texts."""
    records = [record for record in caplog.records if record.name.startswith("trio_mcp")]
    texts = [record.getMessage() for record in records if not record.exc_info]
    return len(records) - len(texts), [text.partition(" at ")[0] for text in texts]


async def test_a_repeated_failure_is_one_traceback_and_then_counts(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_client(failing_server()) as client:
        await fail(client, 123)
        assert told(caplog) == (
            1,
            ["tool 'fail' failed 10 times with OSError", "tool 'fail' failed 100 times with OSError"],
        )
    assert told(caplog)[1][2:] == ["tool 'fail' failed 123 times with OSError"]


async def test_another_exception_has_a_traceback_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    async with open_client(failing_server()) as client:
        await fail(client, 1, "os")
        await fail(client, 1, "value")
        await fail(client, 3, "tool")
    assert told(caplog) == (2, [])


async def test_a_failure_after_a_minute_has_a_traceback_again(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_client(failing_server()) as client:
        await fail(client, 2)
        await trio.sleep(61)
        await fail(client, 1)
    assert told(caplog) == (2, ["tool 'fail' failed 2 times with OSError"])


class StoppedHandler(logging.Handler):
    """Writes nothing before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()
        self.is_called = threading.Event()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.is_called.set()
        assert self.may_write.wait(HANG_SECONDS)
        self.texts.append(record.getMessage())


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    logger, handler = logging.getLogger("tests.background"), StoppedHandler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with log_in_background(capacity=3):
            logger.error("first")
            assert handler.is_called.wait(HANG_SECONDS)
            for number in range(10):
                logger.error("record %d", number)
            assert handler.texts == []
            handler.may_write.set()
        assert logger.handlers == [handler]
    finally:
        logger.removeHandler(handler)
    dropped = "7 log records were dropped: they came faster than they could be written"
    assert handler.texts == ["first", dropped, "record 0", "record 1", "record 2"]
