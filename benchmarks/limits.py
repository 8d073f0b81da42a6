"""Cells of one side alone: our server before a consumer of bytes, our client before ready bytes.

End to end the slower side hides the other. Every update is counted and checked here, too; the
consumers do it when the clock has stopped. Beside our server stands the official SDK's, taken by the
same consumer. Needs only the standard library.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from contest import OURS, Cell, Worker

HERE = Path(__file__).parent
PEER_PYTHON = os.environ.get("TRIO_MCP_PEER_MCP2") or HERE.parent / ".envs" / "mcp2" / "bin" / "python"
RIVAL = "mcp"

Commands = Mapping[str, Sequence[str | Path]]


@dataclass(frozen=True)
class Plan:
    """A cell of bursts: for each contestant the worker that it is asked of, and what of it is asked."""

    name: str
    contestants: Mapping[str, tuple[str, str]]
    targets: dict[str, float] = field(default_factory=dict)

    def make_cell(self, workers: Mapping[str, Worker], updates: int) -> Cell:
        samplers = {
            contestant: partial(workers[worker].measure, what, updates)
            for contestant, (worker, what) in self.contestants.items()
        }
        return Cell(self.name, samplers, self.targets, updates)


def start_plans(
    plans: Sequence[Plan], commands: Commands, options: argparse.Namespace
) -> tuple[list[Cell], dict[str, Worker]]:
    """The cells that were chosen, and the workers that these need."""
    chosen = [plan for plan in plans if options.only in plan.name]
    needed = {worker for plan in chosen for worker, _ in plan.contestants.values()}
    workers = {name: Worker(name, command) for name, command in commands.items() if name in needed}
    return [plan.make_cell(workers, options.updates) for plan in chosen], workers


def worker(kind: str, *command: str | Path) -> list[str | Path]:
    return [sys.executable, HERE / "limits_worker.py", kind, *command]


def make_cells(options: argparse.Namespace) -> tuple[list[Cell], dict[str, Worker]]:
    commands: dict[str, list[str | Path]] = {}
    plans = []
    peer = Path(getattr(options, "peer_python", PEER_PYTHON))
    for transport in ("stdio", "http", "websocket", "hypercorn"):
        commands[f"{OURS} server {transport}"] = worker(f"consumer-{transport}")
        contestants = {OURS: (f"{OURS} server {transport}", "burst")}
        if transport in ("stdio", "http") and peer.exists():
            argument = "asyncio" if transport == "stdio" else "http"
            server = [peer, HERE / "sdk_server.py", argument]
            commands[f"{RIVAL} server {transport}"] = worker(f"consumer-{transport}", *server)
            contestants[RIVAL] = (f"{RIVAL} server {transport}", "burst")
        plans.append(Plan(f"server alone, {NAMES[transport]}", contestants))
    for transport in ("stdio", "http", "websocket"):
        commands[f"{OURS} client {transport}"] = worker(f"client-{transport}")
        plans.append(
            Plan(f"client alone, {NAMES[transport]}", {OURS: (f"{OURS} client {transport}", "burst")})
        )
    return start_plans(plans, commands, options)


NAMES = {
    "memory": "memory",
    "stdio": "stdio",
    "http": "HTTP",
    "websocket": "WebSocket",
    "hypercorn": "WebSocket on hypercorn",
}
