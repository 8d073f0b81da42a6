"""Cells of progress notifications: throughput, cost and latency.

The rivals are the official SDK on both of its backends, its 1.x line, FastMCP and the TypeScript SDK. A burst
ends when its call has returned and each of its updates was handled, counted and checked. The rivals have no
strict setting, so our strict bursts are compared with their ordinary ones. Needs only the standard library.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from cells.cell import OURS, Cell, Sampler
from cells.peers import BARE, worker_command
from cells.selection import Selection
from cells.worker import Worker

STRICT = f"{OURS} strict"
AT_ONCE = f"{OURS} at-once"
SDKS = ("mcp asyncio", "mcp trio")
LEGACY = ("mcp-legacy asyncio", "mcp-legacy trio")
OTHERS = ("mcp1", "fastmcp")

NOISY = (*OTHERS, "typescript")
"""These write complaints to standard error when they are stopped, or about many calls at once."""

CONTESTANTS = {
    "stdio": (OURS, *SDKS, *OTHERS, "typescript"),
    "HTTP": (OURS, *SDKS, *OTHERS, "typescript"),
    "memory": (OURS, *SDKS, *LEGACY, *OTHERS),
}
SHORT = {
    "stdio": (OURS, "mcp asyncio"),
    "HTTP": (OURS, "mcp asyncio", "typescript"),
    "memory": (OURS, "mcp asyncio", "mcp-legacy asyncio"),
}
QUICK = {**SHORT, "HTTP": CONTESTANTS["HTTP"]}

WARM_UP = {OURS: ("burst", 300), "typescript": ("burst", 5000), BARE: ("paced-1000", 100)}
"""By contestant; the others get the same as ours. TypeScript gets more, for its code compiles as it runs."""


NO_TARGETS: Mapping[str, float] = {}


@dataclass(frozen=True)
class Value:
    """A further value of each sample, which gets a cell of its own."""

    name: str
    key: str
    unit: str
    targets: Mapping[str, float] = field(default_factory=dict)
    is_fact: bool = False
    per: float = 1
    """The value is divided by this."""


@dataclass(frozen=True)
class Plan:
    """A measurement: the cell of its rate, and the cells of its further values."""

    name: str
    transport: str
    what: str
    n: int
    targets: Mapping[str, float] = field(default_factory=dict)
    values: Sequence[Value] = ()
    has_rate: bool = True
    strict: Mapping[str, float] | None = None
    """The targets of our strict server, if that is measured too."""
    only: Sequence[str] = ()
    """The contestants; if empty, all that have the transport."""
    beside: Sequence[str] = ()
    """Further contestants."""

    def is_chosen(self, text: str) -> bool:
        return any(
            text in f"{name}, {self.transport}" for name in (self.name, *(v.name for v in self.values))
        )


def burst(
    transport: str,
    n: int,
    targets: Mapping[str, float],
    strict: Mapping[str, float] | None,
    values: Sequence[Value] = (),
) -> Plan:
    return Plan("burst", transport, "burst", n, targets, values, strict=strict)


def fan(
    transport: str,
    calls: int,
    n: int,
    targets: Mapping[str, float] = NO_TARGETS,
    values: Sequence[Value] = (),
    only: Sequence[str] = (),
) -> Plan:
    name = f"{calls} calls of {n // calls:,}"
    return Plan(name, transport, f"fan-{calls}", n, targets, values, only=only)


def cost(n: int, cpu: Mapping[str, float]) -> tuple[Value, ...]:
    return (
        Value("server CPU of 1,000", "cpu", "ms", cpu, per=n / 1000),
        Value("server peak memory", "peak", "MB"),
    )


def latency(what: str, targets: Mapping[str, float] = NO_TARGETS) -> tuple[Value, ...]:
    return (
        Value(f"{what}, p50", "p50", "us", targets),
        Value(f"{what}, p99", "p99", "us"),
        Value(f"{what}, worst", "max", "us", is_fact=True),
    )


LATE = (
    Value("slow handlers, ended after the result", "late", "", is_fact=True),
    Value("slow handlers, ended out of order", "misordered", "", is_fact=True),
    Value("slow handlers, the client grew by", "growth", "MB", is_fact=True),
    Value("slow handlers, time for all", "seconds", "ms", is_fact=True),
)
FAILED = (Value("failed calls of all", "failed", "", is_fact=True),)


def make_plans(selection: Selection) -> Iterable[Plan]:
    updates, is_full = selection.updates, selection.is_full and not selection.is_quick
    echoes, slow, paced, lone = (600, 2000, 1000, 50) if is_full else (300, 300, 300, 10)
    if selection.is_quick:
        echoes, slow, paced, lone = 20, 100, 100, 5
    yield burst("stdio", updates, {"mcp": 50}, {"mcp": 15}, cost(updates, {}))
    costs = cost(updates, {"mcp": 15, "typescript": 4})
    yield burst("HTTP", updates, {"mcp": 25, "typescript": 15}, {"mcp": 8}, costs)
    yield burst("memory", updates, {"mcp": 3, "mcp-legacy": 30}, {} if is_full else None)
    yield fan("HTTP", 100, updates, {"mcp": 12, "typescript": 4})
    if is_full:
        yield fan("stdio", 100, updates)
        yield fan("memory", 100, updates)
        yield fan("HTTP", 100, 10 * updates, {"mcp": 30}, only=(OURS, "mcp asyncio", "typescript"))
        yield fan("HTTP", 500, 5 * updates, {"mcp": 12}, FAILED, only=(OURS, "mcp asyncio"))
    # Our writer waits a moment for further messages. That may cost at most a tenth, which is noise here.
    for transport, least in {"stdio": 5, "HTTP": 1.8}.items():
        yield Plan("echo", transport, "echo", echoes, {"mcp": least, AT_ONCE: 0.9}, beside=(AT_ONCE,))
    yield Plan("echo", "memory", "echo", echoes, {"mcp": 4})
    for transport in ("stdio", "HTTP"):
        yield Plan("slow", transport, "slow", slow, values=LATE, has_rate=False)
        at_load, alone = latency("latency at 1,000/s"), latency("latency alone", {AT_ONCE: 0.9})
        yield Plan("paced", transport, "paced-1000", paced, values=at_load, has_rate=False, beside=(BARE,))
        yield Plan("lone", transport, "paced-50", lone, values=alone, has_rate=False, beside=(BARE, AT_ONCE))


def warm_up_of(contestant: str, is_quick: bool) -> tuple[str, int]:
    is_other = is_quick and contestant != BARE
    return WARM_UP[OURS] if is_other else WARM_UP.get(contestant, WARM_UP[OURS])


def key_of(contestant: str, transport: str) -> str:
    return f"{contestant} {transport}"


def sample(worker: Worker, plan: Plan) -> float:
    """Seconds of one measurement."""
    kind, _, number = plan.what.partition("-")
    fewest = int(number) if kind == "fan" else 1
    return worker.measure_warm(plan.what, plan.n, fewest)


def read_value(worker: Worker, value: Value) -> float | None:
    """A value of the last sample; None if it has none, as some need /proc."""
    found = worker.last.get(value.key)
    return None if found is None else float(found) / value.per


def sample_value(worker: Worker, plan: Plan, value: Value) -> float | None:
    sample(worker, plan)
    return read_value(worker, value)


def cells_of(plan: Plan, workers: Mapping[str, Worker], contestants: Sequence[str]) -> list[Cell]:
    mine = {name: workers[key_of(name, plan.transport)] for name in contestants}
    cells: list[Cell] = []
    samplers: dict[str, Sampler]
    if plan.has_rate:
        samplers = {name: partial(sample, worker, plan) for name, worker in mine.items()}
        cells.append(Cell(f"{plan.name}, {plan.transport}", samplers, dict(plan.targets), plan.n))
    for value in plan.values:
        samplers = {name: partial(read_value, worker, value) for name, worker in mine.items()}
        if not cells:
            samplers = {name: partial(sample_value, worker, plan, value) for name, worker in mine.items()}
        title = f"{value.name}, {plan.transport}"
        cells.append(Cell(title, samplers, dict(value.targets), 0, value.unit, value.is_fact))
    if plan.strict is not None:
        cells.append(strict_cell(plan, workers[key_of(STRICT, plan.transport)], mine))
    return cells


def strict_cell(plan: Plan, ours: Worker, all_workers: Mapping[str, Worker]) -> Cell:
    """A new sample of ours, and the samples that the rivals have just given for the ordinary burst."""

    def again(worker: Worker) -> float:
        return worker.seconds

    samplers: dict[str, Sampler] = {name: partial(again, worker) for name, worker in all_workers.items()}
    samplers[OURS] = partial(sample, ours, plan)
    return Cell(f"strict {plan.name}, {plan.transport}", samplers, dict(plan.strict or {}), plan.n)


def make_cells(selection: Selection) -> tuple[list[Cell], dict[str, Worker]]:
    entered = CONTESTANTS if selection.is_full else QUICK if selection.is_quick else SHORT
    workers: dict[str, Worker] = {}
    cells: list[Cell] = []

    def start(contestant: str, transport: str) -> None:
        key = key_of(contestant, transport)
        if key not in workers:
            workers[key] = Worker(
                key,
                worker_command(contestant, transport.lower(), selection.checkout),
                quiet=contestant in NOISY,
                warm_up=warm_up_of(contestant, selection.is_quick),
                lossy=contestant == "typescript" and transport == "stdio",
            )

    for plan in make_plans(selection):
        if not plan.is_chosen(selection.only):
            continue
        chosen = [
            name
            for name in (*entered[plan.transport], *plan.beside)
            if (not plan.only or name in plan.only) and selection.admits(name)
        ]
        for name in [*chosen, *([STRICT] if plan.strict is not None else [])]:
            start(name, plan.transport)
        cells += cells_of(plan, workers, chosen)
    return cells, workers
