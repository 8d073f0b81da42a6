"""Cells of one side alone: our server with a consumer of bytes, our client with a server of ready bytes.

With both sides of ours, the slower one hides the other. Every update is counted and checked here too, after
the clock has stopped. The official SDK's server is measured with the same consumer. Needs only the standard
library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cells.cell import OURS, Cell
from cells.checkout import Command
from cells.peers import find_python, run_script
from cells.selection import Selection
from cells.worker import Worker

RIVAL = "mcp"

NAMES = {
    "memory": "memory",
    "stdio": "stdio",
    "http": "HTTP",
    "websocket": "WebSocket",
    "hypercorn": "WebSocket on hypercorn",
}
PEER_ARGUMENTS = {"stdio": "asyncio", "http": "http"}


@dataclass(frozen=True)
class Plan:
    """A cell of bursts: for each contestant the name of its worker, and the measurement to ask for."""

    name: str
    contestants: Mapping[str, tuple[str, str]]
    targets: dict[str, float] = field(default_factory=dict)

    def make_cell(self, workers: Mapping[str, Worker], selection: Selection) -> Cell:
        samplers = {
            contestant: partial(workers[worker].measure, what, selection.updates)
            for contestant, (worker, what) in self.contestants.items()
            if selection.admits(contestant)
        }
        return Cell(self.name, samplers, self.targets, selection.updates)


def start_plans(
    plans: Sequence[Plan], commands: Mapping[str, Command], selection: Selection
) -> tuple[list[Cell], dict[str, Worker]]:
    """Make the selected cells and start the workers that they need."""
    chosen = [plan for plan in plans if selection.only in plan.name]
    asked = dict(
        worker
        for plan in chosen
        for contestant, worker in plan.contestants.items()
        if selection.admits(contestant)
    )
    workers = {
        name: Worker(name, command, warm_up=(asked[name], selection.updates))
        for name, command in commands.items()
        if name in asked
    }
    return [plan.make_cell(workers, selection) for plan in chosen], workers


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    worker = partial(selection.checkout.run_script, "limits_worker.py")
    commands: dict[str, Command] = {}
    plans = []
    for transport in ("stdio", "http", "websocket", "hypercorn"):
        commands[f"{OURS} server {transport}"] = worker(f"consumer-{transport}")
        contestants = {OURS: (f"{OURS} server {transport}", "burst")}
        if transport in PEER_ARGUMENTS and selection.admits(RIVAL):
            server = run_script(find_python(RIVAL), "sdk_server.py", PEER_ARGUMENTS[transport])
            commands[f"{RIVAL} server {transport}"] = worker(f"consumer-{transport}", *server.arguments)
            contestants[RIVAL] = (f"{RIVAL} server {transport}", "burst")
        plans.append(Plan(f"server alone, {NAMES[transport]}", contestants))
    for transport in ("stdio", "http", "websocket"):
        commands[f"{OURS} client {transport}"] = worker(f"client-{transport}")
        plans.append(
            Plan(f"client alone, {NAMES[transport]}", {OURS: (f"{OURS} client {transport}", "burst")})
        )
    return start_plans(plans, commands, selection)
