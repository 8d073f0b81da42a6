"""Cells of many clients at once: the throughput of one server, and its memory for each client.

One process holds a raw connection for each session, so the throughput is the server's, and all sessions make
calls of the same length. The memory is what the server's process grows by for each session or call, less
what a bare connection on the same stack costs. Needs only the standard library.
"""

from functools import partial

from cells.cell import OURS, Cell, Sampler
from cells.limits import NAMES
from cells.selection import Selection
from cells.worker import Worker

SESSIONS = (1, 10, 100, 500)
FEW, MANY = 10, 500
UPDATES = 1000
"""The number of updates in one call."""

CALLS = 100
"""The least number of calls in a sample; each session makes at least one."""

KEPT = 0.7
"""The share of the throughput with 10 sessions that must be left with 500."""

LIMITS = {"session": 40_000, "call": 20_000}
"""The most bytes that one may take."""

MEMORY = {
    "session-http": "an idle session, HTTP",
    "session-websocket": "an idle session, WebSocket",
    "session-hypercorn": "an idle session, WebSocket on hypercorn",
    "call-http": "a running call, HTTP",
    "call-websocket": "a running call, WebSocket",
}


def seconds_for(worker: Worker, sessions: int, updates: int) -> float:
    """Seconds that `CALLS` calls take while so many sessions make calls."""
    calls = max(CALLS, sessions)
    seconds = worker.measure(f"{sessions}x{updates}", calls * updates)
    return seconds * CALLS / calls


def bytes_of(worker: Worker, kind: str, n: int) -> float:
    worker.measure(kind, n)
    return float(worker.last["bytes"])


def constant(value: float) -> Sampler:
    return lambda: value


def throughput_cells(
    worker: Worker, name: str, sessions: tuple[int, ...], updates: int, selection: Selection
) -> list[Cell]:
    """A cell for each number of sessions, and one that compares many sessions with few."""
    latest: dict[int, float] = {}

    def sample(count: int) -> float:
        latest[count] = seconds_for(worker, count, updates)
        return latest[count]

    def again(count: int) -> float:
        return latest[count]

    done = CALLS * updates
    cells = [
        Cell(f"{n} session{'s' * (n > 1)}, {name}", {OURS: partial(sample, n)}, {}, done) for n in sessions
    ]
    few = f"{FEW} sessions"
    if FEW in sessions and MANY in sessions and selection.admits(few):
        both = {OURS: partial(again, MANY), few: partial(again, FEW)}
        cells.append(Cell(f"  {MANY} beside {FEW}, {name}", both, {few: KEPT}, done))
    return cells


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    sessions, updates, n = (SESSIONS[:2], 50, 50) if selection.is_quick else (SESSIONS, UPDATES, 500)
    workers: dict[str, Worker] = {}
    cells: list[Cell] = []

    def start(name: str, script: str, *arguments: str) -> Worker:
        return workers.setdefault(name, Worker(name, selection.checkout.run_script(script, *arguments)))

    for transport in ("http", "websocket", "hypercorn"):
        if selection.only in f"sessions, {NAMES[transport]}":
            loader = start(f"{OURS} sessions {transport}", "sessions_load.py", transport)
            cells += throughput_cells(loader, NAMES[transport], sessions, updates, selection)
    for kind, what in MEMORY.items():
        if selection.only in f"memory of {what}":
            limit = LIMITS[kind.partition("-")[0]]
            gauge = workers.get("memory") or start("memory", "sessions_memory.py")
            samplers: dict[str, Sampler] = {
                OURS: partial(bytes_of, gauge, kind, n),
                "the limit": constant(limit),
            }
            cells.append(Cell(f"memory of {what}", samplers, {"the limit": 1.0}, unit="bytes"))
    return cells, workers
