"""A burst of progress notifications, and what it costs to start, beside the official SDK.

Everything is measured in one interleaved run: each round takes one sample of every cell from every
contestant, so that whatever the machine does meanwhile happens to all of them. Only like work is
compared: both sides report the same updates, and a burst is over when the call has returned and
each of its updates was handled, counted and checked."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from contest import (
    ENVIRONMENT,
    OURS,
    Cell,
    Sampler,
    Worker,
    read_line,
    start,
    stop,
)
from peers import find_python

HERE = Path(__file__).parent

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


def cells(workers: dict[str, Worker], options: argparse.Namespace) -> list[Cell]:
    here, peer = sys.executable, find_python("mcp")
    sdk = [f"mcp {backend}" for backend in options.backends]

    def by_transport(transport: str, what: str, n: int) -> dict[str, Sampler]:
        return {name: partial(workers[f"{name} {transport}"].measure, what, n) for name in [OURS, *sdk]}

    def imports(measure: Callable[[str | Path, str], float]) -> dict[str, Sampler]:
        return {
            OURS: partial(measure, here, "trio_mcp"),
            "trio": partial(measure, here, "trio"),
            "mcp": partial(measure, peer, "mcp"),
        }

    def starts() -> dict[str, Sampler]:
        servers = {name: [peer, HERE / "sdk_server.py", name.split()[1]] for name in sdk}
        servers[OURS] = [here, HERE / "trio_mcp_server.py"]
        return {name: partial(first_answer, servers[name]) for name in [OURS, *sdk]}

    updates, echoes, fan = options.updates, 300, options.updates
    import_targets = {"trio": 0.5, "mcp": 2.0}
    return [
        Cell("burst, stdio", by_transport("stdio", "burst", updates), {"mcp": 25}, updates),
        Cell("burst, memory", by_transport("memory", "burst", updates), {"mcp": 2}, updates),
        Cell("burst, HTTP", by_transport("http", "burst", updates), {"mcp": 25}, updates),
        Cell("100 calls at once, HTTP", by_transport("http", "fan", fan), {"mcp": 12}, fan),
        Cell("echo, stdio", by_transport("stdio", "echo", echoes), {}, echoes),
        Cell("echo, memory", by_transport("memory", "echo", echoes), {}, echoes),
        Cell("echo, HTTP", by_transport("http", "echo", echoes), {}, echoes),
        Cell("import, in process", imports(import_inside), import_targets),
        Cell("import, whole process", imports(import_process), import_targets),
        Cell("first answer, stdio", starts(), {"mcp": 2}),
    ]


def start_workers(options: argparse.Namespace) -> dict[str, Worker]:
    commands: dict[str, list[str | Path]] = {}
    for transport in ("stdio", "memory", "http"):
        commands[f"{OURS} {transport}"] = [sys.executable, HERE / "trio_mcp_worker.py", transport]
        for backend in options.backends:
            worker = [find_python("mcp"), HERE / "sdk_worker.py", transport, backend]
            commands[f"mcp {backend} {transport}"] = worker
    return {name: Worker(name, command) for name, command in commands.items()}


def make_cells(options: argparse.Namespace) -> tuple[list[Cell], dict[str, Worker]]:
    options.backends = ["asyncio"] if options.quick else ["asyncio", "trio"]
    workers = start_workers(options)
    return [cell for cell in cells(workers, options) if options.only in cell.name], workers
