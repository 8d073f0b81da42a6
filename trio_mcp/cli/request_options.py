"""The options that `trio-mcp read`, `prompt` and `complete` share.

Owns their texts in --help, and what they mean for the connection and the request.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from trio_mcp.cli.access import find_target
from trio_mcp.cli.connection import CommandConnection, open_connection
from trio_mcp.cli.display import Display
from trio_mcp.cli.options import (
    AuthOption,
    CwdOption,
    EnvOption,
    IdleTimeoutOption,
    LogLevelOption,
    MaxTimeoutOption,
    ProtocolOption,
    QuietSwitch,
    Switch,
)
from trio_mcp.handlers.sink import detailed


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class RequestOptions:
    """How the server is reached, how long its answer may take, and what is shown; times in seconds."""

    json: Annotated[Switch, Parameter(help="Print the result as a JSON object.")] = False
    idle_timeout: IdleTimeoutOption = None
    max_timeout: MaxTimeoutOption = None
    protocol: ProtocolOption = "auto"
    env: EnvOption = ()
    cwd: CwdOption = None
    auth: AuthOption = attrs.field(default=None, repr=False)
    log_level: LogLevelOption = "info"
    quiet: QuietSwitch = False

    def open(self, target: str) -> AbstractAsyncContextManager[CommandConnection]:
        """Connect to the server named by `target`; raises CommandError if it names none."""
        command = find_target(target, self.env, self.cwd, self.auth)
        return open_connection(command, protocol=self.protocol, log_level=self.log_level, quiet=self.quiet)

    def keywords(self, display: Display) -> dict[str, Any]:
        """The keyword arguments of the client's request, whose progress is shown on `display`."""
        return {
            "progress_handler": None if self.quiet else detailed(display.receive),
            "idle_timeout": self.idle_timeout,
            "max_timeout": self.max_timeout,
        }
