"""The `mcpServers` JSON of hosts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trio_mcp import ServerEntry, StdioServer, open_group, read_mcp_servers

VARIABLES = {"HOME": "/home/me", "TOKEN": "secret", "EMPTY": "", "NESTED": "${TOKEN}"}


def read(**servers: Any) -> dict[str, ServerEntry]:
    return read_mcp_servers({"mcpServers": servers}, VARIABLES)


def test_a_command_with_its_surroundings_is_read() -> None:
    found = read(
        files={"command": "npx", "args": ["-y", "server"], "env": {"KEY": "value"}, "cwd": "/tmp"},
        plain={"type": "stdio", "command": "serve"},
    )
    assert list(found) == ["files", "plain"]
    assert found["files"].target == StdioServer("npx", ["-y", "server"], env={"KEY": "value"}, cwd="/tmp")
    assert found["plain"].target == StdioServer("serve", [])


@pytest.mark.parametrize("kind", [None, "http", "streamable-http", "streamableHttp", "sse"])
def test_a_url_with_its_headers_is_read(kind: str | None) -> None:
    members = {"url": "https://host/mcp", "headers": {"Authorization": "Bearer x"}}
    found = read(web=members if kind is None else {**members, "type": kind})
    assert found["web"] == ServerEntry("https://host/mcp", options={"headers": {"Authorization": "Bearer x"}})
    assert "Bearer" not in repr(found), "it is a secret"


def test_what_hosts_add_is_ignored_and_disabled_servers_are_left_out() -> None:
    found = read(
        on={"command": "a", "autoApprove": ["x"], "disabled": False, "timeout": 5},
        off={"command": "b", "disabled": True},
    )
    assert list(found) == ["on"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${HOME}/bin", "/home/me/bin"),
        ("${env:HOME}", "/home/me"),
        ("${MISSING:-else}", "else"),
        ("${MISSING:-}", ""),
        ("${EMPTY:-else}", ""),
        ("${NESTED}", "${TOKEN}"),
        ("$HOME {HOME} $$", "$HOME {HOME} $$"),
        ("${HOME}${TOKEN}", "/home/mesecret"),
    ],
)
def test_variables_are_replaced_once(text: str, expanded: str) -> None:
    found = read(one={"command": "x", "args": [text], "env": {"E": text}}, two={"url": f"http://h/{text}"})
    assert found["one"].target == StdioServer("x", [expanded], env={"E": expanded})
    assert found["two"].target == f"http://h/{expanded}"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "server 'x' needs either 'command' or 'url'"),
        ({"command": "a", "url": "http://h"}, "needs either 'command' or 'url', not both"),
        ({"command": ""}, "has an empty 'command'"),
        ({"command": 5}, "has 'command' that is no text"),
        ({"command": "a", "args": "b"}, "has 'args' that is no list of texts"),
        ({"command": "a", "args": [1]}, r"has 'args\[0\]' that is no text"),
        ({"command": "a", "env": ["b"]}, "has 'env' that is no object of texts"),
        ({"command": "a", "env": {"A": 1}}, "has 'env.A' that is no text"),
        ({"command": "a", "env": {"A=": "b"}}, "has in 'env' what is no name of a variable"),
        ({"command": "a", "type": "http"}, "has the type 'http', which must be 'stdio'"),
        ({"url": "http://h", "type": "stdio"}, "has the type 'stdio', which must be 'http' or"),
        ({"url": "file:///x"}, "has a 'url' that does not begin with http://"),
        (
            {"url": "http://h", "headers": {"A": "${MISSING}"}},
            "has 'headers.A', for which the .* 'MISSING' is",
        ),
        ({"command": "${workspaceFolder}/x"}, "the environment variable 'workspaceFolder' is not set"),
        ({"command": "${input:key}"}, "in which '\\${input:key}' is no variable"),
        ("text", "server 'x' is no object"),
    ],
)
def test_what_cannot_be_read_is_named(members: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(x=members)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("config", ["[]", "{}", '{"mcpServers": []}', {"servers": {}}])
def test_a_config_without_the_object_is_refused(config: Any) -> None:
    with pytest.raises(ValueError, match="there is no object 'mcpServers'"):
        read_mcp_servers(config)


@pytest.mark.parametrize("config", ["{", b"\xff", "[" * 100_000])
def test_what_is_not_json_is_refused(config: str | bytes) -> None:
    with pytest.raises(ValueError, match="this is not JSON"):
        read_mcp_servers(config)


async def test_a_group_is_opened_from_a_file_and_from_an_object(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(
        "import os\n"
        "from trio_mcp import Server\n"
        "server = Server('told')\n"
        "@server.tool\n"
        "def told() -> str:\n"
        "    return os.environ['WORD'] + ' ' + os.getcwd()\n"
        "server.run()\n"
    )
    config = {
        "mcpServers": {
            "told": {
                "command": sys.executable,
                "args": [str(tmp_path / "server.py")],
                "env": {"WORD": "hello"},
                "cwd": "/",
            },
        }
    }
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps(config))
    for servers in (path, str(path), config):
        async with open_group(servers) as group:
            assert (await group.call_tool("told_told")).data == "hello /"
