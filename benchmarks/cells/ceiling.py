"""Cells that set a burst of ours beside the bare transport that carries it.

A bare transport decodes nothing and knows no calls: it carries the same bytes and compares them with what was
sent. One message in each write is what a library without joining would do; 64 messages in a write show what
joining alone brings. Needs only the standard library.
"""

from cells.cell import OURS, Cell
from cells.checkout import Checkout, Command
from cells.limits import Plan, start_plans
from cells.peers import worker_command
from cells.selection import Selection
from cells.worker import Worker

PLANS = (
    Plan("ceiling, memory", {OURS: (f"{OURS} memory", "burst"), "trio channel": ("memory", "burst")}),
    Plan(
        "ceiling, stdio",
        {
            OURS: (f"{OURS} stdio", "burst"),
            "pipe": ("pipe", "burst"),
            "pipe, 64 at once": ("pipe", "grouped"),
            "msgspec": ("codec", "burst"),
            "msgspec, all at once": ("codec", "grouped"),
        },
    ),
    Plan(
        "ceiling, HTTP",
        {
            OURS: (f"{OURS} http", "burst"),
            "hypercorn SSE": ("sse", "burst"),
            "hypercorn SSE, 64 at once": ("sse", "grouped"),
        },
    ),
    Plan(
        "ceiling, WebSocket",
        {OURS: (f"{OURS} websocket", "burst"), "trio-websocket": ("websocket", "burst")},
        {"trio-websocket": 1.0},
    ),
    Plan(
        "ceiling, WebSocket on hypercorn",
        {OURS: (f"{OURS} hypercorn", "burst"), "hypercorn frames": ("hypercorn", "burst")},
        {"hypercorn frames": 0.85},
    ),
)


def make_commands(checkout: Checkout) -> dict[str, Command]:
    bare = ("memory", "codec", "pipe", "sse", "websocket", "hypercorn")
    ends = {f"{OURS} {name}": worker_command(OURS, name, checkout) for name in ("memory", "stdio", "http")}
    sockets = {
        f"{OURS} {name}": checkout.run_script("limits_worker.py", name) for name in ("websocket", "hypercorn")
    }
    return {kind: checkout.run_script("ceiling_worker.py", kind) for kind in bare} | ends | sockets


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    return start_plans(PLANS, make_commands(selection.checkout), selection)
