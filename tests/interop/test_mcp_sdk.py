"""trio_mcp and the official Python SDK over stdio, each as server and as client, in both eras."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from tests.support.peer_report import run_to_report
from trio_mcp import Client, LogMessage, ToolError, open_client

PEERS = Path(__file__).parents[1] / "peers"
TOOLS = ["loop", "slow", "wait_cancelled", "echo", "fail", "log"]
UPDATES = [[i, 200, f"update {i}"] for i in range(1, 201)]


@pytest.fixture(scope="module")
def sdk_python(environment: Callable[[str], Path]) -> str:
    """The interpreter of the environment that holds the SDK; never this one's."""
    return str(environment("mcp2") / "bin" / "python")


# The SDK's client and our server.


@pytest.fixture(
    scope="module",
    params=[("legacy", "asyncio"), ("legacy", "trio"), ("auto", "asyncio"), ("auto", "trio")],
    ids="-".join,
)
def sdk_report(request: pytest.FixtureRequest, sdk_python: str) -> dict[str, Any]:
    """What the SDK's client saw of our server, with the mode and backend it ran in."""
    mode, backend = request.param
    command = [sdk_python, str(PEERS / "sdk_client.py"), mode, backend]
    report, stderr = run_to_report(*command, sys.executable, str(PEERS / "our_server.py"))
    return {**report, "mode": mode, "backend": backend, "stderr": stderr}


def test_sdk_client_negotiates_its_era_with_our_server(sdk_report: dict[str, Any]) -> None:
    latest = {"legacy": "2025-11-25", "auto": "2026-07-28"}
    assert sdk_report["protocol_version"] == latest[sdk_report["mode"]]
    assert sdk_report["server_name"] == "our-server"
    assert sdk_report["tools"] == TOOLS
    assert sdk_report["complaints"] == []


def test_sdk_client_sees_every_update_in_order_before_the_result(sdk_report: dict[str, Any]) -> None:
    loop = sdk_report["loop"]
    assert loop["text"] == "looped 200"
    assert loop["wire_before_result"] == UPDATES
    assert loop["wire_after_result"] == []
    if sdk_report["backend"] == "asyncio":
        assert loop["callbacks"] == UPDATES
        assert loop["callbacks_at_return"] == len(UPDATES)
    else:
        # On Trio the SDK's callbacks run in no particular order (see WireLog), but each runs once.
        assert sorted(loop["callbacks"]) == UPDATES


def test_sdk_client_gets_a_tool_error_as_a_result(sdk_report: dict[str, Any]) -> None:
    assert sdk_report["error"]["is_error"]
    assert "failed on purpose" in sdk_report["error"]["text"]


def test_sdk_client_cancels_one_call_and_makes_the_next(sdk_report: dict[str, Any]) -> None:
    cancel = sdk_report["cancel"]
    assert cancel["cancelled"]
    assert cancel["server_saw"] == {"text": "cancelled", "is_error": False}
    assert cancel["next_call"] == {"text": "still here", "is_error": False}


def test_sdk_client_gets_our_logs(sdk_report: dict[str, Any]) -> None:
    assert sdk_report["log"] == {"text": "logged", "is_error": False, "logs": [["info", "a log line"]]}


def test_sdk_client_pings_our_server_if_the_era_has_ping(sdk_report: dict[str, Any]) -> None:
    assert (sdk_report["ping"] is not None) == (sdk_report["mode"] == "legacy")


# Our client and the SDK's server.


@pytest.fixture(params=["2025-11-25", "2026-07-28", "auto"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["asyncio", "trio"])
def sdk_server(request: pytest.FixtureRequest, sdk_python: str) -> list[str]:
    return [sdk_python, str(PEERS / "sdk_server.py"), request.param]


@asynccontextmanager
async def connected(command: list[str], protocol: str, **options: Any) -> AsyncIterator[Client]:
    with trio.fail_after(HANG_SECONDS):
        async with open_client(command, protocol=protocol, **options) as client:
            yield client


async def test_our_client_uses_the_sdk_server(sdk_server: list[str], protocol: str) -> None:
    logs: list[LogMessage] = []
    async with connected(sdk_server, protocol, log_handler=logs.append, log_level="info") as client:
        assert client.protocol_version == ("2026-07-28" if protocol == "auto" else protocol)
        assert client.server_info.name == "sdk-server"
        assert [tool.name for tool in await client.list_tools()] == TOOLS
        assert (await client.call_tool("echo", {"text": "hello"})).text == "hello"
        with pytest.raises(ToolError, match="failed on purpose"):
            await client.call_tool("fail")
        result = await client.call_tool("fail", raise_on_error=False)
        assert result.is_error
        await client.call_tool("log", {"text": "a log line"})
        await client.ping()
    assert [(log.level, log.data) for log in logs] == [("info", "a log line")]


async def test_our_client_delivers_every_update_in_order_before_the_result(
    sdk_server: list[str], protocol: str
) -> None:
    seen: list[list[Any]] = []

    def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append([progress, total, message])

    async with connected(sdk_server, protocol) as client:
        result = await client.call_tool("loop", {"n": len(UPDATES)}, progress_handler=on_progress)
        assert result.text == "looped 200"
        assert seen == UPDATES
        await client.call_tool("echo", {"text": "after"})
        assert seen == UPDATES


async def test_our_client_cancels_one_call_and_makes_the_next(sdk_server: list[str], protocol: str) -> None:
    async with connected(sdk_server, protocol) as client:
        with trio.CancelScope() as scope:

            def on_started(progress: float, total: float | None, message: str | None) -> None:
                scope.cancel()

            await client.call_tool("slow", {"seconds": 3600}, progress_handler=on_started)
        assert scope.cancelled_caught
        assert (await client.call_tool("wait_cancelled")).text == "cancelled"
        assert (await client.call_tool("echo", {"text": "still here"})).text == "still here"
