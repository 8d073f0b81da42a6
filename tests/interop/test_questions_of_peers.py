"""Questions to clients of the official Python SDK within a call, over stdio, in both eras."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.limits import HANG_SECONDS

PEERS = Path(__file__).parents[1] / "peers"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_sdk_client_answers_what_our_tool_asks(environment: Callable[[str], Path], mode: str) -> None:
    command = [str(environment("mcp2") / "bin" / "python"), str(PEERS / "sdk_rounds.py"), mode]
    done = subprocess.run(
        [*command, sys.executable, str(PEERS / "our_rounds_server.py")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "text": "Hello, Ada Lovelace: yes",
        "progress": [[1, 4, "before all"], [2, 4, "one name"], [3, 4, "both names"], [4, 4, "done"]],
    }
