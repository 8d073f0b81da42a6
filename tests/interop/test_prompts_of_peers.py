"""Prompts and completion between trio_mcp and the official Python SDK, over stdio, in both eras."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import ImageContent, PromptReference, TextContent, open_client

PEERS = Path(__file__).parents[1] / "peers"
PICTURE = base64.b64encode(b"picture").decode()


@pytest.fixture(scope="module")
def sdk_command(environment: Callable[[str], Path]) -> list[str]:
    return [str(environment("mcp2") / "bin" / "python"), str(PEERS / "sdk_prompts.py")]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_sdk_client_uses_our_prompts(sdk_command: list[str], mode: str) -> None:
    done = subprocess.run(
        [*sdk_command, mode, sys.executable, str(PEERS / "our_prompt_server.py")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "names": ["review", "look"],
        "arguments": [["text", True], ["style", False]],
        "messages": [["user", "Review in dry style: Ishmael"], ["assistant", "My first remark:"]],
        "picture": ["image", "image/png", PICTURE],
        "values": ["dry x", "dramatic x"],
        "declared": [True, True],
    }


@pytest.mark.parametrize("protocol", ["2025-11-25", "2026-07-28"])
async def test_our_client_uses_the_prompts_of_the_sdk(sdk_command: list[str], protocol: str) -> None:
    with trio.fail_after(HANG_SECONDS):
        async with open_client([*sdk_command, "serve"], protocol=protocol) as client:
            review, look = await client.list_prompts()
            assert (review.name, review.description, look.name) == ("review", "Ask for a review.", "look")
            assert [(a.name, a.required) for a in review.arguments or []] == [
                ("text", True),
                ("style", False),
            ]
            ask, answer = (await client.get_prompt("review", {"text": "Ishmael"})).messages
            assert (ask.role, ask.content) == ("user", TextContent(text="Review in dry style: Ishmael"))
            assert (answer.role, answer.content) == ("assistant", TextContent(text="My first remark:"))
            (picture,) = (await client.get_prompt("look")).messages
            assert picture.content == ImageContent(data=PICTURE, mime_type="image/png")
            completion = await client.complete(
                PromptReference(name="review"), {"name": "style", "value": "d"}, {"text": "x"}
            )
            assert (completion.values, completion.total) == (["dry x", "dramatic x"], 2)
