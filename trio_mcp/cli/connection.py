"""A connection to the server of a command, wired to the terminal.

Owns which of the terminal's outputs progress, log messages, questions and the server's own
stderr go to. Knows nothing of what is called.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import attrs
from rich.console import Console

from trio_mcp.cli.access import find_access, give_access
from trio_mcp.cli.display import Display, SilentDisplay, make_log_handler, open_display
from trio_mcp.cli.prompter import Prompter, can_prompt
from trio_mcp.cli.targets import CommandTarget
from trio_mcp.cli.terminal import open_terminal, relay_stderr
from trio_mcp.client.client import Client, open_client
from trio_mcp.client.elicitation import ElicitationHandler
from trio_mcp.client.group import ClientGroup, open_group
from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.wire.messages import LoggingLevel


@attrs.frozen
class CommandConnection:
    """A connected client; `console` is the terminal to draw on, or None."""

    client: Client
    console: Console | None
    _prompter: Prompter
    _quiet: bool

    @asynccontextmanager
    async def open_display(self, title: str) -> AsyncIterator[Display]:
        """Show the progress of one call, named `title`; see `display.open_display`."""
        if self._quiet:
            yield SilentDisplay()
            return
        async with open_display(title, self.console) as display:
            self._prompter.display = display
            yield display


@asynccontextmanager
async def open_plain_client(command: CommandTarget, *, protocol: str) -> AsyncIterator[Client]:
    """Start the server and connect, for commands that call nothing; checkpoints.

    Raises what `open_client` raises.
    """
    target, options = find_access(command)
    with open_terminal() as terminal:
        async with (
            relay_stderr(terminal) as restore_stderr,
            open_client(target, protocol=protocol, **options) as client,
        ):
            restore_stderr()
            yield client


@asynccontextmanager
async def open_plain_group(
    servers: Mapping[str, ServerEntry], *, protocol: str
) -> AsyncIterator[ClientGroup]:
    """Start and connect to several servers, for commands that call nothing; checkpoints."""
    servers = {name: give_access(entry) for name, entry in servers.items()}
    with open_terminal() as terminal:
        async with (
            relay_stderr(terminal) as restore_stderr,
            open_group(servers, protocol=protocol) as group,
        ):
            restore_stderr()
            yield group


@asynccontextmanager
async def open_connection(
    command: CommandTarget,
    *,
    protocol: str,
    log_level: LoggingLevel = "info",
    quiet: bool = False,
    elicitation_handler: ElicitationHandler | None = None,
) -> AsyncIterator[CommandConnection]:
    """Start the server and connect; checkpoints. Raises what `open_client` raises.

    Forms that the server sends are filled in at the terminal, unless there is an
    `elicitation_handler`.
    """
    target, options = find_access(command)
    with open_terminal() as terminal:
        console = None if quiet else terminal
        prompter = Prompter(terminal if can_prompt() else None)
        async with (
            relay_stderr(terminal) as restore_stderr,
            open_client(
                target,
                log_handler=None if quiet else make_log_handler(console),
                log_level=log_level,
                elicitation_handler=elicitation_handler or prompter.answer,
                protocol=protocol,
                **options,
            ) as client,
        ):
            restore_stderr()
            yield CommandConnection(client, console, prompter, quiet)
