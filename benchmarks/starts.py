"""Cells of what it costs to begin: the import, and a stdio server until its first answer.

Needs only the standard library.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from contest import ENVIRONMENT, OURS, Cell, Sampler, Worker, read_line, start, stop
from peers import find_python, is_here, server_command

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


def first_answer(command: Sequence[str | Path]) -> float:
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
        raise SystemExit(f"{command} did not answer initialize: {line!r}")
    return seconds


def import_process(python: str | Path, module: str) -> float:
    """Seconds that a process takes which does nothing but import the module."""
    begin = time.perf_counter()
    subprocess.run([python, "-c", f"import {module}"], check=True, env=ENVIRONMENT)
    return time.perf_counter() - begin


def import_inside(python: str | Path, module: str) -> float:
    """Seconds that the import takes, by the clock of the fresh process that runs it."""
    code = f"import time; begin = time.perf_counter(); import {module}; print(time.perf_counter() - begin)"
    done = subprocess.run([python, "-c", code], check=True, env=ENVIRONMENT, capture_output=True, text=True)
    return float(done.stdout)


def importing(measure: Callable[[str | Path, str], float]) -> dict[str, Sampler]:
    samplers: dict[str, Sampler] = {
        OURS: partial(measure, sys.executable, "trio_mcp"),
        "trio": partial(measure, sys.executable, "trio"),
    }
    for module in ("mcp", "fastmcp"):
        if is_here(module):
            samplers[module] = partial(measure, find_python(module), module)
    return samplers


def make_cells(options: argparse.Namespace) -> tuple[list[Cell], dict[str, Worker]]:
    is_full = options.set == "full"
    rivals = [name for name in (FULL if is_full else SHORT) if is_here(name.split()[0])]
    starting: dict[str, Sampler] = {
        name: partial(first_answer, server_command(name)) for name in [OURS, *rivals]
    }
    targets = {"trio": 0.5, "mcp": 2.0}
    cells = [Cell("cold start, stdio", starting, {"mcp": 3})]
    if is_full:
        cells.append(Cell("import, whole process", importing(import_process), targets))
        cells.append(Cell("import, in process", importing(import_inside), targets))
    return [cell for cell in cells if options.only in cell.name], {}
