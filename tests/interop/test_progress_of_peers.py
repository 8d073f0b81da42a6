"""The table in docs/guarantees.md of what other implementations do not guarantee.

If an implementation has improved, its test fails here, and the table must be changed.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import open_client
from trio_mcp.testing import WireRecorder

PEERS = Path(__file__).parents[1] / "peers"


def see(*command: Any) -> dict[str, Any]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def assert_overlapping(seen: dict[str, Any]) -> None:
    assert seen["at_return"] == {"begun": 5, "ended": 0}
    assert seen["ended"] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("peer", "name"), [("mcp2", "mcp"), ("fastmcp4", "fastmcp"), ("fastmcp42", "fastmcp")]
)
def test_a_python_peer_starts_a_task_for_each_update(
    peer: str, name: str, environment: Callable[[str], Path]
) -> None:
    python = environment(peer) / "bin" / "python"
    server = [sys.executable, PEERS / "our_server.py"]
    assert_overlapping(see(python, PEERS / "overlapping_handlers.py", name, *server))


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_the_typescript_sdk_does_not_await_progress_handlers(
    environment: Callable[[str], Path], serve: Callable[..., str]
) -> None:
    url = serve(sys.executable, PEERS / "our_http_server.py")
    assert_overlapping(see("node", PEERS / "ts2" / "overlapping_handlers.mjs", environment("ts2"), url))


@pytest.mark.parametrize(
    ("peer", "server"),
    [
        ("mcp2", "sdk_http_server.py"),
        ("fastmcp4", "fastmcp_http_server.py"),
        ("fastmcp42", "fastmcp_http_server.py"),
    ],
)
async def test_a_python_peer_sends_progress_that_decreases(
    peer: str, server: str, environment: Callable[[str], Path], serve: Callable[..., str]
) -> None:
    recorder = WireRecorder(serve(environment(peer) / "bin" / "python", PEERS / server))
    with trio.fail_after(HANG_SECONDS):
        async with open_client(recorder) as client:
            await client.call_tool("detour", progress_handler=lambda *update: None)
    sent = recorder.received_messages("notifications/progress")
    assert [message["params"]["progress"] for message in sent] == [60, 10, 60, 60]


def test_a_fastmcp_task_shows_only_its_message(environment: Callable[[str], Path]) -> None:
    seen = see(environment("fastmcp4") / "bin" / "python", PEERS / "fastmcp_task_progress.py")
    assert seen["result"] == "worked"
    assert seen["stored"] == [1, 2, "working"]
    assert seen["told"]["status_message"] == "working"
    assert seen["told"].keys() == {"status", "ttl_ms", "status_message", "poll_interval_ms", "result_type"}
    assert seen["heard"] == []
