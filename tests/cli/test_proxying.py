"""`trio-mcp run --proxy`: what it serves, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import open_client
from trio_mcp.cli.proxying import load_proxy
from trio_mcp.cli.status import CommandError

FILE = """
from trio_mcp import Context, Server

server = Server("filed")


@server.tool
async def count(ctx: Context, to: int) -> int:
    for number in range(1, to + 1):
        await ctx.report_progress(number, to)
    return to
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "filed.py"
    path.write_text(FILE)
    return path


async def test_a_file_is_served_by_a_process_of_its_own(file: Path) -> None:
    seen: list[float] = []
    command = [sys.executable, "-m", "trio_mcp.cli", "run", "--proxy", str(file)]
    with trio.fail_after(HANG_SECONDS):
        async with open_client(command) as client:
            assert client.server_info is not None
            assert client.server_info.name == "filed"
            result = await client.call_tool(
                "count", {"to": 20}, progress_handler=lambda p, t, m: seen.append(p)
            )
    assert result.data == 20
    assert seen == list(range(1, 21))


def test_all_servers_of_a_file_are_served_with_their_names(tmp_path: Path) -> None:
    config = tmp_path / "mcp.json"
    servers = {"one": {"url": "https://one.example/mcp"}, "two": {"command": "two"}}
    config.write_text(json.dumps({"mcpServers": servers}))
    assert load_proxy(str(config)).name == "proxy"
    assert load_proxy(f"{config}:one").name == "proxy"


def test_what_is_no_server_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {}}))
    with pytest.raises(CommandError, match="needs a server"):
        load_proxy(str(config))
    with pytest.raises(CommandError, match="no file"):
        load_proxy(str(tmp_path / "missing.py"))
