"""The clients of other implementations against our server: Streamable HTTP, HTTP+SSE and WebSocket.

The tools are those of `our_server.py`. The scripts in `tests/peers` print what each client saw, all in
the same JSON; their docstrings say what each SDK does with progress.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.support.peer_report import run_to_report

PEERS = Path(__file__).parents[1] / "peers"
TOOLS = ["loop", "slow", "wait_cancelled", "echo", "fail", "log"]
UPDATES = [[i, 200, f"update {i}"] for i in range(1, 201)]
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@attrs.frozen
class Peer:
    """A client: where it is installed, how it is started, and what is expected of it."""

    environment: str
    arguments: tuple[str, ...]
    version: str
    scheme: str = "http"
    path: str = "/mcp"
    orders_callbacks: bool = True
    loses_callbacks: bool = False
    """Whether it forgets the callback of a call before it has called it for what came with the answer."""

    @property
    def has_ping(self) -> bool:
        return self.version == LEGACY

    def command(self, path: Path, url: str) -> list[str]:
        """The command that runs the client against `url`."""
        target = url.replace("http", self.scheme, 1).replace("/mcp", self.path)
        if self.environment.startswith("ts"):
            return ["node", str(PEERS / "ts_http_client.mjs"), str(path), *self.arguments, target]
        script = {"mcp1": "sdk1_client.py", "mcp2": "sdk_client.py"}[self.environment]
        return [str(path / "bin" / "python"), str(PEERS / script), *self.arguments, target]


CLIENTS = {
    "mcp2-legacy-asyncio": Peer("mcp2", ("legacy", "asyncio"), LEGACY),
    "mcp2-modern-asyncio": Peer("mcp2", ("auto", "asyncio"), MODERN),
    # On Trio the callbacks of this SDK run in no order: see WireLog in sdk_client.py.
    "mcp2-legacy-trio": Peer("mcp2", ("legacy", "trio"), LEGACY, orders_callbacks=False),
    "mcp2-modern-trio": Peer("mcp2", ("auto", "trio"), MODERN, orders_callbacks=False),
    "mcp1-asyncio": Peer("mcp1", ("asyncio",), LEGACY),
    "mcp1-trio": Peer("mcp1", ("trio",), LEGACY),
    "mcp1-sse": Peer("mcp1", ("asyncio",), LEGACY, path="/sse"),
    "mcp2-sse": Peer("mcp2", ("legacy", "asyncio"), LEGACY, path="/sse"),
    "mcp1-websocket": Peer("mcp1", ("asyncio",), LEGACY, scheme="ws"),
    "ts1": Peer("ts1", ("legacy",), LEGACY),
    # The events of one read are handled at once: an answer ends the call before its progress is handed on.
    "ts1-sse": Peer("ts1", ("legacy",), LEGACY, path="/sse", loses_callbacks=True),
    "ts2-sse": Peer("ts2", ("legacy",), LEGACY, path="/sse", loses_callbacks=True),
    "ts2-legacy": Peer("ts2", ("legacy",), LEGACY),
    "ts2-modern": Peer("ts2", ("auto",), MODERN),
}


@pytest.fixture(scope="module", params=CLIENTS.values(), ids=CLIENTS.keys())
def peer(request: pytest.FixtureRequest) -> Peer:
    if request.param.environment.startswith("ts") and shutil.which("node") is None:
        pytest.skip("needs Node.js")
    client: Peer = request.param
    return client


@pytest.fixture(scope="module")
def report(peer: Peer, environment: Callable[[str], Path], serve: Callable[..., str]) -> dict[str, Any]:
    """What the client saw of our server."""
    url = serve(sys.executable, PEERS / "our_http_server.py")
    seen, _ = run_to_report(*peer.command(environment(peer.environment), url))
    return seen


def test_a_client_negotiates_its_era_and_calls_our_tools(peer: Peer, report: dict[str, Any]) -> None:
    assert report["protocol_version"] == peer.version
    assert report["server_name"] == "our-server"
    assert report["tools"] == TOOLS
    assert report["echo"] == {"text": "hello", "is_error": False}
    assert report["error"]["is_error"]
    assert "failed on purpose" in report["error"]["text"]
    assert (report["ping"] is not None) == peer.has_ping
    complaints = report["complaints"]
    if peer.loses_callbacks:
        # Its end aborts the POST of the last message, whose answer it has read by the stream already.
        known = ("unknown token", "operation was aborted")
        complaints = [complaint for complaint in complaints if not any(word in complaint for word in known)]
    assert complaints == []


def test_a_client_sees_every_update_in_order_before_the_result(peer: Peer, report: dict[str, Any]) -> None:
    loop = report["loop"]
    assert loop["text"] == "looped 200"
    assert loop["wire_before_result"] == UPDATES
    assert loop["wire_after_result"] == []
    if peer.loses_callbacks:
        assert loop["callbacks"] == UPDATES[: len(loop["callbacks"])]
    elif peer.orders_callbacks:
        assert loop["callbacks"] == UPDATES
        assert loop["callbacks_at_return"] == len(UPDATES)
    else:
        assert sorted(loop["callbacks"]) == UPDATES


def test_a_client_cancels_one_call_and_makes_the_next(report: dict[str, Any]) -> None:
    cancel = report["cancel"]
    assert cancel["cancelled"]
    assert cancel["server_saw"] == {"text": "cancelled", "is_error": False}
    assert cancel["next_call"] == {"text": "still here", "is_error": False}


def test_a_client_gets_our_logs(report: dict[str, Any]) -> None:
    assert report["log"] == {"text": "logged", "is_error": False, "logs": [["info", "a log line"]]}
