"""A burst of progress notifications, and what it costs to start, beside the official SDK.

Everything is measured in one interleaved run: each round takes one sample of every cell from every
contestant, so that whatever the machine does meanwhile happens to all of them. Only like work is
compared: both sides report the same updates, and a burst is over when the call has returned and
each of its updates was handled, counted and checked.

This file needs only the standard library; trio_mcp and the SDK run in processes of their own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from contest import (
    ENVIRONMENT,
    OURS,
    Cell,
    Sampler,
    Worker,
    print_facts,
    print_table,
    read_line,
    report_faults,
    start,
    stop,
    take_rounds,
)

HERE = Path(__file__).parent
PEER_PYTHON = os.environ.get("TRIO_MCP_PEER_MCP2") or HERE.parent / ".envs" / "mcp2" / "bin" / "python"

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

NOTES = """
Median (min-max); `faster` is the ratio of the medians, `pair by pair` the ratio in each round. 0.5x
beside trio means twice the time of importing trio. A burst's target is beside the faster backend.
The SDK runs each progress callback in a task; its time runs until the last of them has ended."""


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
    here, peer = sys.executable, options.peer_python
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

    updates, echoes, fan = options.updates, options.echoes, options.fan
    import_targets = {"trio": 0.5, "mcp": 2.0}
    return [
        Cell("burst, stdio", by_transport("stdio", "burst", updates), dict.fromkeys(sdk, 25), updates, True),
        Cell("burst, memory", by_transport("memory", "burst", updates), dict.fromkeys(sdk, 2), updates, True),
        Cell("burst, HTTP", by_transport("http", "burst", updates), dict.fromkeys(sdk, 25), updates, True),
        Cell("100 calls at once, HTTP", by_transport("http", "fan", fan), dict.fromkeys(sdk, 12), fan, True),
        Cell("echo, stdio", by_transport("stdio", "echo", echoes), {}, echoes, True),
        Cell("echo, memory", by_transport("memory", "echo", echoes), {}, echoes, True),
        Cell("echo, HTTP", by_transport("http", "echo", echoes), {}, echoes, True),
        Cell("import, in process", imports(import_inside), import_targets),
        Cell("import, whole process", imports(import_process), import_targets),
        Cell("first answer, stdio", starts(), dict.fromkeys(sdk, 2), best_rival_only=True),
    ]


def start_workers(options: argparse.Namespace) -> dict[str, Worker]:
    commands: dict[str, list[str | Path]] = {}
    for transport in ("stdio", "memory", "http"):
        commands[f"{OURS} {transport}"] = [sys.executable, HERE / "trio_mcp_worker.py", transport]
        for backend in options.backends:
            worker = [options.peer_python, HERE / "sdk_worker.py", transport, backend]
            commands[f"mcp {backend} {transport}"] = worker
    return {name: Worker(name, command) for name, command in commands.items()}


def describe(workers: dict[str, Worker], options: argparse.Namespace) -> dict[str, Any]:
    ours, sdk = workers[f"{OURS} stdio"].hello, workers["mcp asyncio stdio"].hello
    return {
        "versions": {**sdk["versions"], **ours["versions"]},
        "protocol": {OURS: ours["protocol"], "mcp": sdk["protocol"]},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "rounds": options.rounds,
        "updates": options.updates,
        "fan": options.fan,
        "echoes": options.echoes,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=10_000, help="updates in one burst")
    parser.add_argument("--fan", type=int, default=10_000, help="updates of all calls of a fan-out")
    parser.add_argument("--echoes", type=int, default=300, help="echo calls in one sample")
    parser.add_argument("--rounds", type=int, default=5, help="kept samples of each cell")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cells with this in their name")
    parser.add_argument("--peer-python", default=PEER_PYTHON, help="python of the environment with the SDK")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there, in seconds")
    parser.add_argument("--quick", action="store_true", help="a smoke test: too little to compare by")
    options = parser.parse_args()
    options.backends = ["asyncio", "trio"]
    options.warm_ups = 1
    if options.quick:
        options.updates, options.fan, options.echoes, options.rounds = 500, 500, 20, 1
        options.backends, options.warm_ups = ["asyncio"], 0
    if not Path(options.peer_python).exists():
        parser.error(f"{options.peer_python} does not exist: run `make peers` first")
    return options


def main() -> int:
    options = parse()
    workers = start_workers(options)
    try:
        for worker in workers.values():
            worker.wait_ready()
        facts = describe(workers, options)
        table = [cell for cell in cells(workers, options) if options.only in cell.name]
        take_rounds(table, options.warm_ups, options.rounds)
    finally:
        for worker in workers.values():
            worker.close()

    print_facts(facts)
    print_table([row for cell in table for row in cell.rows()])
    print(NOTES)
    for worker in workers.values():
        if worker.late:
            print(f"{worker.name}: {worker.late} updates were handled after their call had returned.")
    if options.json:
        samples = {cell.name: cell.samples for cell in table}
        options.json.write_text(json.dumps({**facts, "samples": samples}, indent=2) + "\n")

    return report_faults(workers.values())


if __name__ == "__main__":
    sys.exit(main())
