"""Cells of the start: the import of the package, and a stdio server's time to its first answer.

Needs only the standard library.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cells.cell import OURS, Cell, Sampler
from cells.checkout import Command
from cells.peers import find_python, server_command
from cells.selection import Selection
from cells.worker import Worker, read_line, start, stop

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "benchmark", "version": "1.0"},
    },
}

SHORT = ("mcp asyncio", "typescript")
FULL = ("mcp asyncio", "mcp trio", "mcp1", "fastmcp", "typescript")


def first_answer(command: Command) -> float:
    """Seconds from starting a stdio server to its first answered request."""
    begin = time.perf_counter()
    process = start(command)
    assert process.stdin
    process.stdin.write(json.dumps(INITIALIZE) + "\n")
    process.stdin.flush()
    line = read_line(process)
    seconds = time.perf_counter() - begin
    stop(process)
    if "result" not in json.loads(line or "{}"):
        raise SystemExit(f"{command.arguments} did not answer initialize: {line!r}")
    return seconds


Python = Callable[..., Command]
"""Makes the command that runs an interpreter with these arguments."""


def import_process(python: Python, module: str) -> float:
    """Seconds of a process that only imports the module."""
    command = python("-c", f"import {module}")
    begin = time.perf_counter()
    command.run()
    return time.perf_counter() - begin


def import_inside(python: Python, module: str) -> float:
    """Seconds of the import alone, as the importing process measures it."""
    code = f"import time; begin = time.perf_counter(); import {module}; print(time.perf_counter() - begin)"
    return float(python("-c", code).run())


def importing(measure: Callable[[Python, str], float], selection: Selection) -> dict[str, Sampler]:
    samplers: dict[str, Sampler] = {
        OURS: partial(measure, selection.checkout.run_python, "trio_mcp"),
        "trio": partial(measure, partial(run_with, sys.executable), "trio"),
    }
    for module in ("mcp", "fastmcp"):
        if selection.admits(module):
            samplers[module] = partial(measure, partial(run_with, find_python(module)), module)
    return samplers


def run_with(python: str | Path, *arguments: str) -> Command:
    return Command((python, *arguments))


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    is_full = selection.is_full
    rivals = [name for name in (FULL if is_full else SHORT) if selection.admits(name)]
    starting: dict[str, Sampler] = {
        name: partial(first_answer, server_command(name, selection.checkout)) for name in [OURS, *rivals]
    }
    targets = {"trio": 0.5, "mcp": 2.0}
    cells = [Cell("cold start, stdio", starting, {"mcp": 3})]
    if is_full:
        cells.append(Cell("import, whole process", importing(import_process, selection), targets))
        cells.append(Cell("import, in process", importing(import_inside, selection), targets))
    return [cell for cell in cells if selection.only in cell.name], {}
