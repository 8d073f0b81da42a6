"""What the page about moving a server names exists: in FastMCP, and here."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

import trio_mcp
from tests.docs.test_examples import ROOT
from tests.support.environments import find_environment
from tests.support.limits import HANG_SECONDS
from trio_mcp import Context, Server
from trio_mcp.middleware import RequestContext, ToolContext

PAGE = (ROOT / "docs" / "moving.md").read_text()
CODE = re.compile(r"`([^`]+)`")
MEMBER = re.compile(r"\b(ctx|server|mcp)\.(\w+)")
LISTING = "import fastmcp, sys; print(*dir(fastmcp.FastMCP), 0, *dir(fastmcp.Context))"


def find_rows(title: str) -> Iterator[tuple[str, str]]:
    """The code in both columns of the table below a title."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| ") and "---" not in line:
            before, after = line.replace("\\|", "").strip("| ").split(" | ")
            yield " ".join(CODE.findall(before)), " ".join(CODE.findall(after))


ROWS = [*find_rows("From FastMCP"), *find_rows("From the official SDK")]


def test_what_is_named_here_exists() -> None:
    contexts = {*dir(Context), *dir(ToolContext), *dir(RequestContext)}
    members = {"ctx": contexts, "server": set(dir(Server)), "mcp": set(dir(Server))}
    named = {found for _, after in ROWS for found in MEMBER.findall(after)}
    assert len(named) > 15
    assert [f"{kind}.{name}" for kind, name in sorted(named) if name not in members[kind]] == []
    called = {name for _, after in ROWS for name in re.findall(r"(?<![.\w@])([A-Za-z]\w+)\(", after)}
    assert called >= {"Server", "Bearer", "asgi_app", "open_client"}
    assert [name for name in sorted(called) if not hasattr(trio_mcp, name) and name != "mine"] == []


@pytest.mark.parametrize("environment", ["fastmcp42"])
def test_what_is_named_in_fastmcp_exists(environment: str) -> None:
    python = find_environment(environment) / "bin" / "python"
    listed = subprocess.run(
        [python, "-c", LISTING], capture_output=True, text=True, timeout=HANG_SECONDS, check=True
    ).stdout
    of_server, of_context = (set(names.split()) for names in listed.split(" 0 "))
    for before, _ in find_rows("From FastMCP"):
        for kind, name in MEMBER.findall(before):
            assert name in (of_context if kind == "ctx" else of_server), before
