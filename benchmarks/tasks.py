"""A thousand background tasks at once through one client, beside FastMCP with its tasks extra.

As in `notifications.py`, each round takes one sample of every cell from every contestant, and only
like work is compared: a task is created, reports twenty updates in a tight loop, and its result is
awaited and checked. FastMCP's tasks run in its own memory backend, which needs no service; over
the wire they carry no progress, so the cells with a progress handler are ours alone.

This file needs only the standard library; trio_mcp and FastMCP run in processes of their own.
"""

import argparse
import json
import os
import platform
import sys
from functools import partial
from pathlib import Path
from typing import Any

from contest import (
    OURS,
    Cell,
    Worker,
    print_facts,
    print_table,
    report_faults,
    take_rounds,
)

HERE = Path(__file__).parent
PEER_PYTHON = (
    os.environ.get("TRIO_MCP_PEER_FASTMCP4") or HERE.parent / ".envs" / "fastmcp4" / "bin" / "python"
)
RIVAL = "fastmcp"
TRANSPORTS = ("stdio", "memory")
PROTOCOLS = ("2026-07-28", "2025-11-25")
WARM_UP = 50

NOTES = """
Median (min-max); `faster` is the ratio of the medians, `pair by pair` the ratio in each round. The
CPU time is that of the server, and over memory that of both sides, for one task. A finished record
is what stays in the server's memory of one task whose result was taken (tracemalloc)."""


def ours(transport: str, protocol: str) -> str:
    return f"{OURS} {transport} {protocol}"


def run_cells(name: str, what: str, workers: dict[str, Worker], tasks: int) -> list[Cell]:
    """The rate, and in a cell of its own the CPU time of the runs that made it."""

    def cpu_of(worker: Worker) -> float:
        return float(worker.last["cpu"]) / tasks

    return [
        Cell(f"{what}, {name}", {c: partial(w.measure, what, tasks) for c, w in workers.items()}, {}, tasks),
        Cell(f"  CPU of one, {name}", {c: partial(cpu_of, w) for c, w in workers.items()}, {}, unit="us"),
    ]


def cells(workers: dict[str, Worker], tasks: int) -> list[Cell]:
    table = []
    for transport in TRANSPORTS:
        both = {OURS: workers[ours(transport, PROTOCOLS[0])], RIVAL: workers[f"{RIVAL} {transport}"]}
        table += run_cells(f"{transport} {PROTOCOLS[0]}", "results", both, tasks)
    for transport in TRANSPORTS:
        for protocol in PROTOCOLS:
            worker = workers[ours(transport, protocol)]
            table += run_cells(f"{transport} {protocol}", "followed", {OURS: worker}, tasks)
    for protocol in PROTOCOLS:
        sampler = partial(record_bytes, workers[ours("memory", protocol)], tasks)
        table.append(Cell(f"a finished record, {protocol}", {OURS: sampler}, {}, unit="bytes"))
    return table


def record_bytes(worker: Worker, tasks: int) -> float:
    worker.measure("records", tasks)
    return float(worker.last["bytes"])


def start_workers(options: argparse.Namespace) -> dict[str, Worker]:
    commands: dict[str, list[str | Path]] = {}
    for transport in TRANSPORTS:
        for protocol in PROTOCOLS:
            worker = [sys.executable, HERE / "trio_mcp_task_worker.py", transport, protocol]
            commands[ours(transport, protocol)] = worker
        commands[f"{RIVAL} {transport}"] = [options.peer_python, HERE / "fastmcp_task_worker.py", transport]
    # FastMCP's backend says on stderr whenever it drops one of its own messages.
    return {name: Worker(name, command, quiet=RIVAL in name) for name, command in commands.items()}


def describe(workers: dict[str, Worker], options: argparse.Namespace) -> dict[str, Any]:
    hellos = [worker.hello for worker in workers.values()]
    return {
        "versions": {name: number for hello in hellos for name, number in hello["versions"].items()},
        "protocol": {RIVAL: workers[f"{RIVAL} {TRANSPORTS[0]}"].hello["protocol"]},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "rounds": options.rounds,
        "tasks": options.tasks,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=1000, help="tasks in one sample, all at once")
    parser.add_argument("--rounds", type=int, default=5, help="kept samples of each cell")
    parser.add_argument("--peer-python", default=PEER_PYTHON, help="python of the environment with FastMCP")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--quick", action="store_true", help="a smoke test: too little to compare by")
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.rounds = 50, 1
    if not Path(options.peer_python).exists():
        parser.error(f"{options.peer_python} does not exist: run `make peers` first")
    return options


def main() -> int:
    options = parse()
    workers = start_workers(options)
    try:
        for worker in workers.values():
            worker.wait_ready()
            worker.measure("results", WARM_UP)
        facts = describe(workers, options)
        table = cells(workers, options.tasks)
        take_rounds(table, 0, options.rounds)
    finally:
        for worker in workers.values():
            worker.close()

    print_facts(facts)
    print_table([row for cell in table for row in cell.rows()])
    print(NOTES)
    if options.json:
        samples = {cell.name: cell.samples for cell in table}
        options.json.write_text(json.dumps({**facts, "samples": samples}, indent=2) + "\n")
    return report_faults(workers.values())


if __name__ == "__main__":
    sys.exit(main())
