"""Cells of what one report costs a tool, in processor time, with a progress token and without.

Each is a tight loop in a tool that is called in memory, where one process does all the work. With a token
the processor time of the whole call counts, on both sides, until the last update was handled, so it makes
no difference which side does its work first. Updates without a checkpoint between them are joined, which is
what `increment()` is for; awaited reports all arrive.

Without a token only the loop counts. The rivals' reports then do nothing; ours keep their values and are
cancellation points. Needs only the standard library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cells.cell import OURS, Cell, Sampler
from cells.checkout import Checkout
from cells.peers import worker_command
from cells.selection import Selection
from cells.worker import Worker

SHORT = ("mcp asyncio", "fastmcp")
FULL = ("mcp asyncio", "mcp trio", "mcp-legacy asyncio", "mcp-legacy trio", "mcp1", "fastmcp")
FLOOR = "attribute += 1"
UNUSED = "without stages"
QUIET = ("mcp1", "fastmcp")


@dataclass(frozen=True)
class Plan:
    """One kind of report: its loop, and the loops that it is compared with."""

    name: str
    what: str
    beside: Mapping[str, str] = field(default_factory=dict)
    """Other loops of ours, by their names in the table."""
    has_rivals: bool = False
    is_short: bool = True
    targets: Mapping[str, float] = field(default_factory=dict)
    share: float = 1
    """A share of the steps, for loops that take longer."""


PLANS = (
    Plan("increment(), no token", "unheard-increments", {FLOOR: "unheard-attribute"}),
    Plan("increment()", "heard-increments", {FLOOR: "unheard-attribute"}),
    Plan("increment() on a stage", "heard-stage"),
    Plan("increment() three stages deep", "heard-stages"),
    Plan("an item of track()", "heard-items"),
    Plan("report_progress(), no token", "unheard-reports", has_rivals=True, share=0.1),
    Plan("report_progress()", "heard-reports", has_rivals=True, share=0.1),
    # An open stage must not slow down increments of the request itself.
    Plan(
        "increment() beside a stage",
        "heard-beside_stage",
        {UNUSED: "heard-increments"},
        is_short=False,
        targets={UNUSED: 0.9},
    ),
    Plan("increment() in a background task", "heard-in_task", is_short=False),
    Plan("increment() in a worker thread", "heard-in_thread", is_short=False, share=0.1),
    Plan("Estimator.update()", "unheard-estimates", is_short=False),
)


def sample(worker: Worker, what: str, n: int) -> float:
    """Processor seconds of one step."""
    return worker.measure_warm(what, n) / n


def make_cell(plan: Plan, workers: Mapping[str, Worker], rivals: Sequence[str], n: int) -> Cell:
    steps = max(int(n * plan.share), 1)
    samplers: dict[str, Sampler] = {OURS: partial(sample, workers[OURS], plan.what, steps)}
    for name, what in plan.beside.items():
        samplers[name] = partial(sample, workers[OURS], what, steps)
    for name in rivals if plan.has_rivals else ():
        samplers[name] = partial(sample, workers[name], plan.what, steps)
    return Cell(title_of(plan), samplers, dict(plan.targets), unit="ns")


def title_of(plan: Plan) -> str:
    return f"cost of {plan.name}, memory"


def start(contestant: str, checkout: Checkout) -> Worker:
    command = worker_command(contestant, "memory", checkout)
    return Worker(contestant, command, quiet=contestant in QUIET, warm_up=("heard-reports", 300))


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    is_full = selection.is_full or selection.is_quick
    known = PLANS if is_full else [plan for plan in PLANS if plan.is_short]
    plans = [plan for plan in known if selection.only in title_of(plan)]
    if not plans:
        return [], {}
    entered = (FULL if is_full else SHORT) if any(plan.has_rivals for plan in plans) else ()
    rivals = [name for name in entered if selection.admits(name)]
    workers = {name: start(name, selection.checkout) for name in (OURS, *rivals)}
    n = selection.updates if selection.is_quick else 5 * selection.updates
    return [make_cell(plan, workers, rivals, n) for plan in plans], workers
