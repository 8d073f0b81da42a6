"""A thousand background tasks at once through one client, beside FastMCP with its tasks extra.

As in `notifications.py`, each round takes one sample of every cell from every contestant, and only
like work is compared: a task is created, reports twenty updates in a tight loop, and its result is
awaited and checked. FastMCP's tasks run in its own memory backend, which needs no service; over
the wire they carry no progress, so the cells with a progress handler are ours alone.

This file needs only the standard library; trio_mcp and FastMCP run in processes of their own.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from contest import OURS, Cell, Worker
from peers import find_python

HERE = Path(__file__).parent
RIVAL = "fastmcp"
TRANSPORTS = ("stdio", "memory")
PROTOCOLS = ("2026-07-28", "2025-11-25")
WARM_UP = 50


def ours(transport: str, protocol: str) -> str:
    return f"{OURS} {transport} {protocol}"


def run_cells(name: str, what: str, workers: dict[str, Worker], tasks: int) -> list[Cell]:
    """The rate, and in a cell of its own the CPU time of the runs that made it."""

    def cpu_of(worker: Worker) -> float:
        return float(worker.last["cpu"]) / tasks

    return [
        Cell(f"{what}, {name}", {c: partial(w.measure, what, tasks) for c, w in workers.items()}, {}, tasks),
        Cell(
            f"  CPU of one {what}, {name}", {c: partial(cpu_of, w) for c, w in workers.items()}, {}, unit="us"
        ),
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


def start_workers() -> dict[str, Worker]:
    commands: dict[str, list[str | Path]] = {}
    for transport in TRANSPORTS:
        for protocol in PROTOCOLS:
            worker = [sys.executable, HERE / "trio_mcp_task_worker.py", transport, protocol]
            commands[ours(transport, protocol)] = worker
        commands[f"{RIVAL} {transport}"] = [
            find_python("fastmcp"),
            HERE / "fastmcp_task_worker.py",
            transport,
        ]
    # FastMCP's backend says on stderr whenever it drops one of its own messages.
    return {
        name: Worker(name, command, quiet=RIVAL in name, warm_up=("results", WARM_UP))
        for name, command in commands.items()
    }


def make_cells(options: argparse.Namespace) -> tuple[list[Cell], dict[str, Worker]]:
    tasks = 50 if options.quick else 1000
    workers = start_workers() if options.only in "results, followed, CPU of one, a finished record" else {}
    return cells(workers, tasks) if workers else [], workers
