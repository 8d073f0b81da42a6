"""Questions between trio_mcp and the official Python SDK, over stdio."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import Root, open_client

PEERS = Path(__file__).parents[1] / "peers"


@pytest.fixture(scope="module")
def sdk_command(environment: Callable[[str], Path]) -> list[str]:
    return [str(environment("mcp2") / "bin" / "python"), str(PEERS / "sdk_asking.py")]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_sdk_client_answers_our_questions(sdk_command: list[str], mode: str) -> None:
    done = subprocess.run(
        [*sdk_command, mode, sys.executable, str(PEERS / "our_asking_server.py")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "asked": [["size", "what"], "https://example.com/pay", "A name?"],
        "text": "tea l accept Ada ['Work']",
    }


async def test_our_client_answers_the_questions_of_the_sdk(sdk_command: list[str]) -> None:
    """2025-11-25; in the modern era the SDK has another way to write such a tool."""
    pages: list[str] = []

    def open_page(request: object) -> bool:
        pages.append(str(request))
        return True

    with trio.fail_after(HANG_SECONDS):
        async with open_client(
            [*sdk_command, "serve"],
            protocol="2025-11-25",
            elicitation_handler=lambda request: {"what": "tea"},
            elicitation_url_handler=open_page,
            sampling_handler=lambda request: "Ada",
            roots=[Root("file:///work", "Work")],
        ) as client:
            result = await client.call_tool("order")
    assert result.text == "tea 2 accept Ada ['Work']"
    assert len(pages) == 1
