"""Clients of other implementations use all of our server, over every transport they have, in both eras.

It is `our_full_server.py`. The clients in `tests/peers` print what they saw, all in the same JSON.
"""

import base64
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.support.peer_report import run_to_report

PEERS = Path(__file__).parents[1] / "peers"
SERVER = PEERS / "our_full_server.py"
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@attrs.frozen
class Peer:
    """A client: where it is installed, the mode in which it is started, and the transports that it has."""

    environment: str
    mode: str
    transports: tuple[str, ...] = ("stdio", "http")

    @property
    def version(self) -> str:
        return LEGACY if self.mode == "legacy" else MODERN

    def command(self, path: Path) -> list[str]:
        if self.environment.startswith("ts"):
            return ["node", str(PEERS / "ts_full_client.mjs"), str(path), self.mode]
        if self.environment == "mcp1":
            return [str(path / "bin" / "python"), str(PEERS / "sdk1_full_client.py")]
        name = "mcp" if self.environment.startswith("mcp") else "fastmcp"
        return [str(path / "bin" / "python"), str(PEERS / "full_client.py"), name, self.mode]


CLIENTS = {
    "mcp1": Peer("mcp1", "legacy", ("stdio", "http", "sse", "websocket")),
    "mcp2-legacy": Peer("mcp2", "legacy", ("stdio", "http", "sse")),
    "mcp2-modern": Peer("mcp2", "auto"),
    "fastmcp42-legacy": Peer("fastmcp42", "legacy"),
    "fastmcp42-modern": Peer("fastmcp42", "auto"),
    "ts1": Peer("ts1", "legacy", ("stdio", "http", "sse")),
    "ts2-legacy": Peer("ts2", "legacy", ("stdio", "http", "sse")),
    "ts2-modern": Peer("ts2", "auto"),
}


RUNS = [(name, transport) for name, peer in CLIENTS.items() for transport in peer.transports]


@pytest.fixture(scope="module", params=RUNS, ids="-".join)
def run(request: pytest.FixtureRequest) -> tuple[Peer, str]:
    """A client, and the transport over which it talks to our server."""
    name, transport = request.param
    if name.startswith("ts") and shutil.which("node") is None:
        pytest.skip("needs Node.js")
    return CLIENTS[name], transport


@pytest.fixture(scope="module")
def peer(run: tuple[Peer, str]) -> Peer:
    return run[0]


@pytest.fixture(scope="module")
def report(
    run: tuple[Peer, str], environment: Callable[[str], Path], serve: Callable[..., str]
) -> dict[str, Any]:
    """What the client saw of our server."""
    peer, transport = run
    target = find_target(transport, serve)
    seen, _ = run_to_report(*peer.command(environment(peer.environment)), *target)
    return seen


def find_target(transport: str, serve: Callable[..., str]) -> list[str]:
    """The arguments that tell a client where our server is."""
    if transport == "stdio":
        return [sys.executable, str(SERVER)]
    url = serve(sys.executable, SERVER, "http")
    if transport == "sse":
        return [url.replace("/mcp", "/sse")]
    return [url.replace("http", "ws", 1) if transport == "websocket" else url]


def test_a_client_learns_what_our_server_offers(peer: Peer, report: dict[str, Any]) -> None:
    assert (report["version"], report["server"]) == (peer.version, "our-full-server")
    offered = ["completions", "experimental", "logging", "prompts", "resources", "tools"]
    assert report["declared"] == offered
    # An update that is read together with the answer of its call is unknown to the TypeScript SDKs, and over
    # HTTP+SSE their end aborts the POST of the last message.
    known = ("unknown token", "operation was aborted")
    complaints = [text for text in report.get("complaints", []) if not any(word in text for word in known)]
    assert complaints == []


def test_a_client_lists_and_reads_our_resources(peer: Peer, report: dict[str, Any]) -> None:
    assert report["resources"] == [["config://app", "application/json"], ["logo://app", "image/png"]]
    assert report["templates"] == ["users://{user_id}/profile"]
    assert json.loads(report["config"]) == {"level": 3}
    assert report["logo"] == ["image/png", base64.b64encode(b"\x89PNG\r\n").decode()]
    assert report["profile"] == "user 7"
    # The second TypeScript SDK shows the modern code for both.
    keeps_code = peer.version == LEGACY and peer.environment != "ts2"
    assert report["unknown"] == (-32002 if keeps_code else -32602)


def test_a_client_gets_our_prompts(report: dict[str, Any]) -> None:
    assert report["prompts"] == ["greet", "review", "look"]
    assert report["arguments"] == [["text", True], ["style", False]]
    assert report["messages"] == [["user", "Review in dry style: Ishmael"], ["assistant", "My first remark:"]]
    assert report["picture"] == ["image", "image/png", base64.b64encode(b"picture").decode()]
    assert report["missing"] == -32602


def test_a_client_completes_arguments_and_variables(report: dict[str, Any]) -> None:
    assert report["styles"] == ["dry x", "dramatic x"]
    assert report["users"] == ["40", "41"]


def test_a_client_is_told_of_what_changes(peer: Peer, report: dict[str, Any]) -> None:
    assert report["told"] == ["notifications/resources/updated", "notifications/tools/list_changed"]
    assert report["uris"] == ["config://app"]
    assert report["prompts_honoured"] == (None if peer.version == LEGACY else True)
    assert report["tools"] == [
        *("add", "count", "hidden", "show", "hide", "touch"),
        *("order", "introduce", "decide"),
    ]
    assert report["hidden"] == "hidden"


def test_a_client_answers_what_our_tools_ask(report: dict[str, Any]) -> None:
    """A form, a page, a model, roots; in the modern era within rounds of one call."""
    assert report["order"] == "tea l accept Ada ['Work']"
    assert report["introduced"] == "Hello, Ada Lovelace: Ada"
    assert report["declined"] == "decline"
    assert report["asked"] == [
        ["What?", ["size", "what"]],
        "https://example.com/pay",
        "A name?",
        ["First name?", ["name"]],
        ["Last name?", ["name"]],
        "Is that a good name?",
        ["Whoever?", ["name"]],
    ]


def test_progress_between_questions_increases(report: dict[str, Any]) -> None:
    assert report["progress"] == [
        [1, 4, "before all"],
        [2, 4, "one name"],
        [3, 4, "both names"],
        [4, 4, "done"],
    ]
