"""`trio-mcp demo`: starts a server, lets it take an inventory of files, and shows the progress.

Owns the summary that is printed at the end.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from trio_mcp.call_result import CallResult
from trio_mcp.cli.call import cancelling
from trio_mcp.cli.demo.inventory import Inventory, Kind
from trio_mcp.cli.display import Display, open_display
from trio_mcp.cli.output import print_rich
from trio_mcp.cli.running import Interrupt
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.cli.terminal import open_terminal
from trio_mcp.client.client import Client, open_client
from trio_mcp.printable import one_line

SERVER: Final = (sys.executable, "-m", "trio_mcp.cli.demo.server")

INSTALLED: Final = ("site-packages", "dist-packages")

ROWS: Final = 10
"""How many file types have a row of their own."""


async def run_demo(directory: str | None, interrupt: Interrupt, *, as_task: bool = False) -> int:
    """Take an inventory of `directory`, or of Python's standard library, and print it; checkpoints.

    With `as_task` it runs as a background task, and the progress shown is that of the task's
    record. Raises CommandError if there is no such directory, and what
    `open_client` and `Client.call_tool` raise.
    """
    # Packages installed below the standard library are not part of it, and may be very large.
    exclude = INSTALLED if directory is None else ()
    directory = find_directory(directory or sysconfig.get_path("stdlib"))
    with open_terminal() as console:
        async with open_client(SERVER) as client:
            started = time.monotonic()
            async with open_display("inventory", console) as display:
                arguments = {"directory": directory, "exclude": exclude}
                if as_task:
                    result, origin = await _run_as_task(client, arguments, display, interrupt)
                else:
                    result, origin = await _call(client, arguments, display), ""
            print_summary(result.data, display.meter.updates, time.monotonic() - started, origin)
    return SUCCEEDED


async def _call(client: Client, arguments: Mapping[str, Any], display: Display) -> CallResult:
    return await client.call_tool(
        "inventory", arguments, progress_handler=display.update, result_type=Inventory
    )


async def _run_as_task(
    client: Client, arguments: Mapping[str, Any], display: Display, interrupt: Interrupt
) -> tuple[CallResult, str]:
    """Run the task and show the progress of its record, without a progress handler for the call."""
    task = await client.call_tool("inventory", arguments, task=True)
    snapshots = 0
    status = "working"
    async with cancelling(task, interrupt):
        async with task.updates() as updates:
            async for snapshot in updates:
                snapshots += 1
                status = snapshot.status
                if snapshot.has_progress:
                    display.update(snapshot.current or 0, snapshot.total, snapshot.message)
        result = await task.result(result_type=Inventory)
    return result, f"{task.id}, {status}, {snapshots:,} snapshots"


def find_directory(directory: str) -> str:
    """The absolute path of `directory`; raises CommandError if it does not exist."""
    if not os.path.isdir(directory):
        raise CommandError(f"there is no directory {directory!r}")
    return os.path.abspath(directory)


def print_summary(inventory: Inventory, updates: int, elapsed: float, origin: str) -> None:
    """Print the inventory as a table, the rate of its updates, and the task that made it, if any."""
    skipped = f", {inventory.skipped:,} skipped" if inventory.skipped else ""
    rate = updates / elapsed if elapsed > 0 else 0.0
    print_rich(
        make_table(inventory),
        Text.assemble(("directory  ", "dim"), one_line(inventory.directory), skipped, overflow="fold"),
        Text.assemble(("sha256     ", "dim"), inventory.sha256, overflow="fold"),
        Text.assemble(("progress   ", "dim"), f"{updates:,} updates in {elapsed:.1f} s, {rate:,.0f}/s"),
        *([Text.assemble(("task       ", "dim"), origin, overflow="fold")] if origin else []),
    )


def make_table(inventory: Inventory) -> Table:
    """A row for each of the largest file types, one for the rest, and the totals."""
    table = Table(box=box.SIMPLE, show_footer=True, pad_edge=False)
    table.add_column("Type", "total")
    table.add_column("Files", f"{inventory.files:,}", justify="right")
    table.add_column("Lines", f"{inventory.lines:,}", justify="right")
    table.add_column("Bytes", f"{inventory.bytes:,}", justify="right")
    for kind in merge_small(inventory.kinds):
        table.add_row(Text(one_line(kind.suffix)), f"{kind.files:,}", f"{kind.lines:,}", f"{kind.bytes:,}")
    return table


def merge_small(kinds: Sequence[Kind]) -> list[Kind]:
    """The first kinds unchanged, and all others merged into one."""
    if len(kinds) <= ROWS:
        return list(kinds)
    rest = Kind(f"{len(kinds) - ROWS + 1} more")
    for kind in kinds[ROWS - 1 :]:
        rest.files += kind.files
        rest.lines += kind.lines
        rest.bytes += kind.bytes
    return [*kinds[: ROWS - 1], rest]
