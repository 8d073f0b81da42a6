"""The TARGET of a command: a Python file, a command line or a URL.

Owns how to tell them apart, and the command that serves a file.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from trio_mcp.cli.server_file import read_place
from trio_mcp.cli.status import CommandError
from trio_mcp.client.stdio_server import StdioServer

URL_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})


CommandTarget: TypeAlias = list[str] | str | StdioServer
"""The target of a command: a command line, a URL, or a command line with its surroundings."""


def read_target(text: str, env: Sequence[str] = (), cwd: str | None = None) -> CommandTarget:
    """The command that starts the server named by `text`, or the URL of a server that runs.

    A .py file is served by `trio-mcp run`; a text with a space in it is a command
    line. `env` holds NAME=VALUE for its environment, `cwd` is its directory. Raises
    CommandError for anything else, which is most likely a mistake.
    """
    command = _read_command(text, is_moved=cwd is not None)
    if not env and cwd is None:
        return command
    if isinstance(command, str):
        raise CommandError(f"--env and --cwd are for servers that are started here, not for {command}")
    if cwd is not None and not Path(cwd).is_dir():
        raise CommandError(f"there is no directory {cwd!r}")
    variables = {}
    for pair in env:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CommandError(f"--env needs NAME=VALUE, not {name!r}")  # the value may be a secret
        variables[name] = value
    return StdioServer(command[0], command[1:], env=variables, cwd=cwd)


def _read_command(text: str, *, is_moved: bool) -> list[str] | str:
    scheme, separator, _ = text.partition("://")
    if separator and scheme.lower() in URL_SCHEMES:
        return _check_url(text.strip())
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
