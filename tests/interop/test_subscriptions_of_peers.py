"""The official Python SDK subscribes to our server, over stdio and HTTP, in both eras."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.conftest import serving
from tests.support.limits import HANG_SECONDS

PEERS = Path(__file__).parents[1] / "peers"
SERVER = (sys.executable, str(PEERS / "our_changing_server.py"))


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_the_sdk_client_is_told_of_what_changes_at_our_server(
    environment: Callable[[str], Path], mode: str, transport: str
) -> None:
    command = [str(environment("mcp2") / "bin" / "python"), str(PEERS / "sdk_subscriber.py"), mode]
    if transport == "stdio":
        done = run([*command, *SERVER])
    else:
        with serving([*SERVER, "http"]) as url:
            done = run([*command, url])
    assert done.returncode == 0, done.stderr
    told = (
        ["notifications/resources/updated", "notifications/tools/list_changed"]
        if mode == "legacy"
        # The server has no prompts, so the acknowledgement leaves them out.
        else ["ToolsListChanged", "ResourceUpdated", "None"]
    )
    assert json.loads(done.stdout) == {
        "told": told,
        "uris": ["config://app"],
        "names": ["hidden", "show", "touch"],
    }


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
