"""A stdio server that a client starts: its command, and in which surroundings it runs.

Owns the description only; `transports/process.py` runs it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

import attrs


def _check_command(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"command must be the name or the path of a program, not {value!r}")


def _check_args(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, str) or not all(isinstance(part, (str, os.PathLike)) for part in value):
        raise TypeError(f"args must be a list of texts, not {value!r}")


def _check_env(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(
        isinstance(part, str) for item in value.items() for part in item
    ):
        raise TypeError("env must be a mapping of texts to texts")  # without its values: they may be secrets
    for name in value:
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name of an environment variable")


@attrs.frozen
class StdioServer:
    """A target of `open_client`: a program that is started and served over stdin and stdout (MCP stdio).

    `env` is added to the environment of this process and prevails over it; the server inherits the rest.
    `cwd` is the directory in which it runs, by default ours. `stderr` is a file, a descriptor or
    `subprocess.DEVNULL` for what the server writes to its stderr. By default that goes to our stderr, and
    its last lines are in the error if the server ends. Raises TypeError
    and ValueError for what is none of this.
    """

    command: str | os.PathLike[str] = attrs.field(validator=_check_command)
    args: Sequence[str] = attrs.field(default=(), validator=_check_args)
    env: Mapping[str, str] | None = attrs.field(default=None, kw_only=True, validator=_check_env, repr=False)
    cwd: str | os.PathLike[str] | None = attrs.field(default=None, kw_only=True)
    stderr: int | IO[bytes] | IO[str] | None = attrs.field(default=None, kw_only=True)

    @property
    def command_line(self) -> list[str]:
        """The command and its arguments."""
        return [os.fspath(self.command), *map(os.fspath, self.args)]

    @property
    def environment(self) -> dict[str, str] | None:
        """The whole environment of the server; None if it is that of this process."""
        return None if self.env is None else {**os.environ, **self.env}
