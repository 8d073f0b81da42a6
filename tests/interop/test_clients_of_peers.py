"""Clients of other implementations use all of our server, over stdio and HTTP, in both eras.

It is `our_full_server.py`. The clients in `tests/peers` print what they saw, all in the same JSON.
"""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.support.limits import HANG_SECONDS

PEERS = Path(__file__).parents[1] / "peers"
SERVER = PEERS / "our_full_server.py"
LEGACY, MODERN = "2025-11-25", "2026-07-28"


@attrs.frozen
class Peer:
    """A client: where it is installed, and the mode in which it is started."""

    environment: str
    mode: str

    @property
    def version(self) -> str:
        return LEGACY if self.mode == "legacy" else MODERN

    def command(self, path: Path) -> list[str]:
        if self.environment.startswith("ts"):
            return ["node", str(PEERS / "ts_full_client.mjs"), str(path), self.mode]
        name = "mcp" if self.environment.startswith("mcp") else "fastmcp"
        return [str(path / "bin" / "python"), str(PEERS / "full_client.py"), name, self.mode]


CLIENTS = {
    "mcp2-legacy": Peer("mcp2", "legacy"),
    "mcp2-modern": Peer("mcp2", "auto"),
    "fastmcp42-legacy": Peer("fastmcp42", "legacy"),
    "fastmcp42-modern": Peer("fastmcp42", "auto"),
    "ts1": Peer("ts1", "legacy"),
    "ts2-legacy": Peer("ts2", "legacy"),
    "ts2-modern": Peer("ts2", "auto"),
}


@pytest.fixture(scope="module", params=CLIENTS.values(), ids=CLIENTS.keys())
def peer(request: pytest.FixtureRequest) -> Peer:
    if request.param.environment.startswith("ts") and shutil.which("node") is None:
        pytest.skip("needs Node.js")
    client: Peer = request.param
    return client


@pytest.fixture(scope="module", params=["stdio", "http"])
def report(
    request: pytest.FixtureRequest, peer: Peer, environment: Callable[[str], Path], serve: Callable[..., str]
) -> dict[str, Any]:
    """What the client saw of our server."""
    target = [sys.executable, SERVER] if request.param == "stdio" else [serve(sys.executable, SERVER, "http")]
    done = subprocess.run(
        [*peer.command(environment(peer.environment)), *target],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_a_client_learns_what_our_server_offers(peer: Peer, report: dict[str, Any]) -> None:
    assert (report["version"], report["server"]) == (peer.version, "our-full-server")
    assert report["declared"] == ["completions", "logging", "prompts", "resources", "tools"]
    # An update that is read together with the answer of its call is unknown to the TypeScript SDKs.
    complaints = [text for text in report.get("complaints", []) if "unknown token" not in text]
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
