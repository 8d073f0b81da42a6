"""The `mcpServers` JSON in which hosts keep their servers.

Owns which members are read, and the variables in them. Refuses to know how servers are connected to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.client.stdio_server import StdioServer

MEMBER: Final = "mcpServers"

_URL_TYPES: Final = ("http", "streamable-http", "streamableHttp", "sse", "ws", "websocket")
_URL_SCHEMES: Final = ("http://", "https://", "ws://", "wss://")
_VARIABLE: Final = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_UNKNOWN: Final = re.compile(r"\$\{[^}]*\}")


def read_mcp_servers(
    config: Mapping[str, Any] | str | bytes, variables: Mapping[str, str] | None = None
) -> dict[str, ServerEntry]:
    """Read the servers of an `mcpServers` object, or of its JSON text, in their order.

    A server has `command`, `args`, `env` and `cwd`, or `url` and `headers`; `type` may say which. One that is
    `disabled` is left out, and other members are ignored, since every host has its own. In each text
    `${NAME}` or `${env:NAME}` is replaced by the environment variable (or that of `variables`), and
    `${NAME:-text}` by the text if it is not set.

    Raises ValueError that names the server and the member for what cannot be read, and for a
    variable that is not set. No value is in the message, because it may be a secret.
    """
    if isinstance(config, (str, bytes)):
        try:
            config = msgspec.json.decode(config)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(f"this is not JSON: {error}") from None
    servers = config.get(MEMBER) if isinstance(config, Mapping) else None
    if not isinstance(servers, Mapping):
        raise ValueError(f"there is no object {MEMBER!r}")
    known = os.environ if variables is None else variables
    entries = {}
    for name, members in servers.items():
        if not isinstance(members, Mapping):
            raise ValueError(f"server {name!r} is no object")
        if members.get("disabled") is not True:
            entries[name] = _EntryReader(name, members, known).read()
    return entries


class _EntryReader:
    """Reads the members of one server."""

    def __init__(self, name: str, members: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        self._name = name
        self._members = members
        self._variables = variables

    def read(self) -> ServerEntry:
        kind = self._members.get("type")
        has_command, has_url = ("command" in self._members), ("url" in self._members)
        if has_command == has_url:
            raise self._fail("needs either 'command' or 'url'" + (", not both" if has_url else ""))
        if kind is not None and kind not in (("stdio",) if has_command else _URL_TYPES):
            wanted = "'stdio'" if has_command else " or ".join(map(repr, _URL_TYPES))
            raise self._fail(f"has the type {kind!r}, which must be {wanted}")
        return ServerEntry(self._read_command()) if has_command else self._read_url()

    def _read_command(self) -> StdioServer:
        command = self._text("command", self._members["command"])
        if not command:
            raise self._fail("has an empty 'command'")
        env = self._texts_by_name("env")
        if any(not name or "=" in name or "\0" in name for name in env):
            raise self._fail("has in 'env' what is no name of a variable")
        cwd = self._members.get("cwd")
        return StdioServer(
            command,
            self._list("args"),
            env=env or None,
            cwd=None if cwd is None else self._text("cwd", cwd),
        )

    def _read_url(self) -> ServerEntry:
        url = self._text("url", self._members["url"])
        if not url.startswith(_URL_SCHEMES):
            raise self._fail(f"has a 'url' that does not begin with {' or '.join(_URL_SCHEMES)}")
        headers = self._texts_by_name("headers")
        return ServerEntry(url, options={"headers": headers} if headers else {})

    def _list(self, member: str) -> list[str]:
        value = self._members.get(member)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._fail(f"has {member!r} that is no list of texts")
        return [self._text(f"{member}[{index}]", item) for index, item in enumerate(value)]

    def _texts_by_name(self, member: str) -> dict[str, str]:
        value = self._members.get(member)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._fail(f"has {member!r} that is no object of texts")
        return {name: self._text(f"{member}.{name}", item) for name, item in value.items()}

    def _text(self, member: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._fail(f"has {member!r} that is no text")
        return _expand(value, self._variables, lambda problem: self._fail(f"has {member!r}, {problem}"))

    def _fail(self, problem: str) -> ValueError:
        return ValueError(f"server {self._name!r} {problem}")


def _expand(text: str, variables: Mapping[str, str], fail: Callable[[str], ValueError]) -> str:
    """Replace the variables in `text`, once: their values are not looked at again."""

    def replace(found: re.Match[str]) -> str:
        known = _VARIABLE.fullmatch(found[0])
        if known is None:
            raise fail(f"in which {found[0]!r} is no variable: write ${{NAME}} or ${{NAME:-default}}")
        name, default = known.groups()
        value = variables.get(name, default)
        if value is None:
            raise fail(f"for which the environment variable {name!r} is not set")
        return value

    return _UNKNOWN.sub(replace, text)
