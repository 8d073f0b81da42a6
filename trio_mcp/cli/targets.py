"""The TARGET of a command: a Python file, a command line, a URL, or a server of an `mcpServers` file.

Owns how to tell them apart, and the command that serves a file.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import attrs

from trio_mcp.cli.arguments import suggest
from trio_mcp.cli.server_file import read_place
from trio_mcp.cli.status import CommandError
from trio_mcp.client.mcp_servers import read_mcp_servers
from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.client.stdio_server import StdioServer

URL_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})


CommandTarget: TypeAlias = list[str] | str | StdioServer | ServerEntry
"""The target of a command: a command line, a URL, or one of them with what goes with it."""


def read_target(text: str, env: Sequence[str] = (), cwd: str | None = None) -> CommandTarget:
    """The command that starts the server named by `text`, or the URL of a server that runs.

    A .py file is served by `trio-mcp run`; a text with a space in it is a command line; a .json file, with
    `:NAME` if it has several servers, holds `mcpServers`. `env` holds NAME=VALUE for the environment of the
    server, `cwd` is its directory. Raises CommandError for anything else, which is most likely a mistake.
    """
    command = _read_command(text, is_moved=cwd is not None)
    if not env and cwd is None:
        return command
    if isinstance(command, (str, ServerEntry)):
        url = command if isinstance(command, str) else command.target
        raise CommandError(f"--env and --cwd are for servers that are started here, not for {url}")
    if cwd is not None and not Path(cwd).is_dir():
        raise CommandError(f"there is no directory {cwd!r}")
    variables = {}
    for pair in env:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CommandError(f"--env needs NAME=VALUE, not {name!r}")  # the value may be a secret
        variables[name] = value
    server = command if isinstance(command, StdioServer) else StdioServer(command[0], command[1:])
    return attrs.evolve(server, env={**(server.env or {}), **variables}, cwd=cwd or server.cwd)


def split_target(command: CommandTarget) -> tuple[list[str] | str | StdioServer, Mapping[str, Any]]:
    """The target for `open_client`, and the keyword arguments that go with it."""
    if not isinstance(command, ServerEntry):
        return command, {}
    assert isinstance(command.target, (str, StdioServer)), "there is nothing else in a file"
    return command.target, command.options


def read_config(text: str) -> dict[str, ServerEntry] | None:
    """The servers of the .json file that `text` names, or None if it names none or only one of them.

    Raises CommandError for a file that cannot be read.
    """
    path, name = _split_config(text)
    return None if path is None or name else _read_servers(path)


def _split_config(text: str) -> tuple[Path | None, str]:
    """The .json file and the server's name in `FILE[:NAME]`; None for any other text."""
    head, _, name = (text, "", "") if Path(text).suffix == ".json" else text.rpartition(":")
    path = Path(head)
    if path.suffix != ".json" or "://" in text:
        return None, ""
    # A command line may end with such a name, too.
    is_file = path.is_file() or not any(char.isspace() for char in head)
    return (path, name) if is_file else (None, "")


def _read_servers(path: Path) -> dict[str, ServerEntry]:
    try:
        return read_mcp_servers(path.read_bytes())
    except OSError as error:
        raise CommandError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    except ValueError as error:
        raise CommandError(f"{str(path)!r}: {error}") from None


def _find_server(path: Path, name: str) -> CommandTarget:
    servers = _read_servers(path)
    if not name and len(servers) != 1:
        places = " or ".join(f"{path}:{found}" for found in servers)
        problem = f"more than one server: say which, as {places}" if servers else "no server"
        raise CommandError(f"{str(path)!r} has {problem}")
    if name and name not in servers:
        raise CommandError(f"{str(path)!r} has no server {name!r}: {suggest(name, list(servers))}")
    entry = servers[name] if name else next(iter(servers.values()))
    return entry if entry.options else split_target(entry)[0]


def _read_command(text: str, *, is_moved: bool) -> CommandTarget:
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() in URL_SCHEMES:
        return _check_url(text.strip())
    path, name = _split_config(text)
    if path is not None:
        return _find_server(path, name)
    place = read_place(text)
    is_python = place.path.suffix == ".py"
    if is_python and place.path.is_file():
        return [sys.executable, "-m", "trio_mcp.cli", "run", os.path.abspath(text) if is_moved else text]
    if any(char.isspace() for char in text):
        return _split(text)
    if is_python:
        raise CommandError(f"there is no file {str(place.path)!r}")
    raise CommandError(f"{text!r} is no .py file; if it is a command, say it at the end: -- {text}")


def _check_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError as error:
        raise CommandError(f"{text!r} is no URL: {error}") from None
    if not host or any(char.isspace() for char in host):
        raise CommandError(f"{text!r} is no URL with a host")
    return urlunsplit(parts)  # with the scheme in lower case


def move_command(arguments: Sequence[str], words: int = 1) -> list[str]:
    """Move the command after `--` to where TARGET stands: behind the `words` words of the command's name."""
    if "--" not in arguments:
        return list(arguments)
    split = arguments.index("--")
    if split + 1 == len(arguments):
        raise CommandError("after -- there must be a command that starts a server")
    # The space makes a single word a command line, too.
    target = f"{shlex.join(arguments[split + 1 :])} "
    return [*arguments[:words], target, *arguments[words:split]]


def _split(text: str) -> list[str]:
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise CommandError(f"{text!r} is no command line: {error}") from None
    if not command:
        raise CommandError("the target is empty: name a .py file or a command")
    return command
