"""Cells of a protected server: calls with an access token beside the same calls without authorization.

The token is a JSON Web Token, which the server has verified before the samples are taken, as it has that of
nearly every request. Both contestants are trio_mcp, and the protected one is named as ours, so a ratio says
how much of the speed is left. Needs only the standard library.
"""

from functools import partial

from cells.cell import OURS, Cell, Sampler
from cells.peers import worker_command
from cells.selection import Selection
from cells.worker import Worker

NAME = "echo with a token, HTTP"
CPU = "server CPU of 1,000 calls with a token, HTTP"
PROTECTED = f"{OURS} protected"
OPEN = f"{OURS} without"

TARGET = 1 / 1.15
"""A request with a token that was verified before may cost so many times one without."""


def start(contestant: str, selection: Selection) -> Worker:
    return Worker(
        f"{contestant} HTTP", worker_command(contestant, "http", selection.checkout), warm_up=("echo", 100)
    )


def read_cost(worker: Worker, n: int) -> float | None:
    """The processor time of the server in the last sample; None where there is no /proc."""
    found = worker.last.get("cpu")
    return None if found is None else float(found) / n * 1000


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    if selection.only not in NAME and selection.only not in CPU:
        return [], {}
    n = 20 if selection.is_quick else 600
    workers = {OURS: start(PROTECTED, selection)}
    if selection.admits(OPEN):
        workers[OPEN] = start(OURS, selection)
    samplers: dict[str, Sampler] = {
        name: partial(worker.measure_warm, "echo", n) for name, worker in workers.items()
    }
    costs: dict[str, Sampler] = {name: partial(read_cost, worker, n) for name, worker in workers.items()}
    targets = {OPEN: TARGET}
    return [Cell(NAME, samplers, targets, n), Cell(CPU, costs, targets)], workers
