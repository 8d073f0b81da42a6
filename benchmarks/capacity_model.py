"""What one Redis carries as a store of tasks, on paper, and a small simulation that checks the paper.

The constants are what one server spends on each thing, in microseconds of its single thread and in bytes.
`--measure` takes them from a server that it starts itself; the defaults were measured so. The rest is
arithmetic: `forecast` says how busy the server is, how long an update waits and how much memory is used,
`simulate` plays the same with random reports, a second at a time, so that a wrong formula is seen.

    python benchmarks/capacity_model.py               the tables of docs/design/redis-capacity.md
    python benchmarks/capacity_model.py --simulate    paper and simulation beside each other
    python benchmarks/capacity_model.py --measure     the constants of this machine

Needs only the standard library, except for --measure.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

MICRO = 1e-6
GIGA = 1e9

MEMORY = 16 * GIGA
"""The memory of one server, of which half again is needed while it saves to disk."""

HEADROOM = 0.6
"""How busy the busiest server may be on average: room for bursts, saving to disk and one slow command."""


@dataclass(frozen=True)
class Costs:
    """What one server spends on each thing: microseconds of its thread, or bytes of memory.

    `put` is a change of one task, `report` each report that comes with it, `tell` its delivery to one more
    process that follows the task, `create` and `end` the first and the last change of a task, `read` the
    reading of a record, `renew` the renewal of one process's lease. `task_bytes` is a task without reports,
    `report_bytes` each of those.
    """

    put: float
    report: float
    tell: float
    create: float
    end: float
    read: float
    renew: float
    task_bytes: float
    report_bytes: float


MEASURED = Costs(
    put=12, report=2.3, tell=1.6, create=65, end=16, read=18, renew=55, task_bytes=2400, report_bytes=90
)
"""Redis 7.0 on one core of a virtual machine, 2026; most is put in batches of many tasks."""


@dataclass(frozen=True)
class Load:
    """What a fleet asks of its store.

    `running` tasks run in `processes`; each reports `reports` times a second and lasts `seconds`, and is kept
    for `kept` seconds after it was created. A process puts what has changed every `write_behind` seconds.
    Each task is followed by `followers` other processes, and read `reads` times a second by clients that
    poll. `max_reports` are kept of each.
    """

    running: int = 1000
    reports: float = 1.0
    seconds: float = 60.0
    kept: float = 3600.0
    write_behind: float = 0.2
    processes: int = 4
    followers: float = 1.0
    reads: float = 0.0
    max_reports: int = 256
    lease: float = 15.0


@dataclass(frozen=True)
class Forecast:
    """What comes of a load on so many servers.

    `updates` are puts of progress a second in all. `busy` is the share of a second that a server works on
    average, `busiest` that of the busiest one; it cannot carry more than 1. `wait` is the mean time in
    seconds from a put to its end at the server, infinite if that is too busy. `memory` is that of all
    servers, in bytes.
    """

    updates: float
    busy: float
    busiest: float
    wait: float
    memory: float


def puts_a_second(reports: float, write_behind: float) -> float:
    """How often one task is put if it reports `reports` times a second, at random moments.

    It is put once for each interval in which it has reported, which it has with the probability
    1 - e^(-reports * interval).
    """
    return -math.expm1(-reports * write_behind) / write_behind


def forecast(costs: Costs, load: Load, servers: int = 1) -> Forecast:
    """The paper model: what `load` costs `servers`, over which a hash of their ids spreads the tasks."""
    each = puts_a_second(load.reports, load.write_behind)
    updates = load.running * each
    change = costs.put + load.followers * costs.tell
    begun = load.running / load.seconds
    work = (
        updates * change
        + load.running * load.reports * costs.report
        + begun * (costs.create + costs.end + load.followers * costs.tell)
        + load.running * load.reads * costs.read
        # Every process has a lease at every server, renewed three times in its length.
        + servers * load.processes * 3 / load.lease * costs.renew
    ) * MICRO
    busy = work / servers
    busiest = busy * imbalance(load.running, servers)
    # All that one process puts at one server in one interval comes at once.
    batch = max(updates * load.write_behind / load.processes / servers, 1.0)
    reports = min(load.reports * load.seconds, load.max_reports)
    tasks = load.running + begun * max(load.kept - load.seconds, 0)
    return Forecast(
        updates=updates,
        busy=busy,
        busiest=busiest,
        wait=mean_wait(busiest, batch, (change + load.reports / each * costs.report) * MICRO),
        memory=tasks * (costs.task_bytes + reports * costs.report_bytes),
    )


def imbalance(tasks: int, servers: int) -> float:
    """How much more than the average the fullest of `servers` has, if a hash spreads `tasks` over them.

    The share of one server varies by the root of its size, and the largest of n such shares lies about
    sqrt(2 ln n) of those deviations above the average.
    """
    if servers == 1:
        return 1.0
    return 1 + math.sqrt(2 * math.log(servers) * servers / tasks)


def mean_wait(busy: float, batch: float, change: float) -> float:
    """The mean time until a put is done, if batches of `batch` puts of `change` seconds come at random.

    The batch waits for those before it as in a queue M/G/1, and in it half of the others are done first;
    the size of batches varies as a Poisson number does. Real batches come at a beat and so wait less: this
    is the upper end.
    """
    if busy >= 1:
        return math.inf
    return busy / (2 * (1 - busy)) * (batch + 1) * change + (batch + 2) / 2 * change


def most_tasks(costs: Costs, load: Load, servers: int = 1, headroom: float = HEADROOM) -> int:
    """How many running tasks `servers` carry if the busiest of them is busy for `headroom` of the time."""
    low, high = 0, 1
    while forecast(costs, replace(load, running=high), servers).busiest <= headroom:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if forecast(costs, replace(load, running=middle), servers).busiest <= headroom:
            low = middle
        else:
            high = middle
    return low


def servers_for(costs: Costs, load: Load, headroom: float = HEADROOM, memory: float = MEMORY) -> int:
    """How many servers carry `load`, by their time and by their memory."""
    servers = max(math.ceil(forecast(costs, load).memory / memory), 1)
    while forecast(costs, load, servers).busiest > headroom:
        servers += 1
    return servers


@dataclass(frozen=True)
class Simulated:
    """What the simulation has seen; the names are those of Forecast. `backlog` is what waits at its end."""

    updates: float
    busy: float
    busiest: float
    wait: float
    backlog: int


def simulate(
    costs: Costs, load: Load, servers: int = 1, *, duration: float = 20.0, seed: int = 1
) -> Simulated:
    """Play `duration` seconds: tasks report at random, processes put what has changed, servers work in turn.

    Only changes of progress are played. A process puts all its changed tasks in one go, at its own beat.
    """
    rng = random.Random(seed)
    homes = [rng.randrange(servers) for _ in range(load.running)]
    change = (costs.put + load.followers * costs.tell) * MICRO
    free_at = [0.0] * servers
    worked = [0.0] * servers
    puts, waited, late = 0, 0.0, 0
    beats = [(rng.random() * load.write_behind, process) for process in range(load.processes)]
    heapq.heapify(beats)
    # When each task reports next.
    due = [rng.expovariate(load.reports) for _ in range(load.running)]
    while beats[0][0] < duration:
        now, process = heapq.heappop(beats)
        for task in range(process, load.running, load.processes):
            if due[task] > now:
                continue
            cost = change
            while due[task] <= now:
                cost += costs.report * MICRO
                due[task] += rng.expovariate(load.reports)
            home = homes[task]
            start = max(free_at[home], now)
            free_at[home] = start + cost
            worked[home] += cost
            puts += 1
            waited += free_at[home] - now
            late += free_at[home] > duration
        heapq.heappush(beats, (now + load.write_behind, process))
    return Simulated(
        updates=puts / duration,
        busy=sum(worked) / servers / duration,
        busiest=max(worked) / duration,
        wait=waited / puts if puts else 0.0,
        backlog=late,
    )


CASES: Sequence[tuple[str, Load]] = (
    ("a report a second, one follower", Load()),
    ("ten reports a second, one follower", Load(reports=10)),
    ("ten a second, put once a second", Load(reports=10, write_behind=1.0)),
    ("a report in ten seconds, no follower", Load(reports=0.1, followers=0)),
    ("a report a second, ten followers", Load(followers=10)),
    ("a report a second, polled each second by one client", Load(followers=0, reads=1)),
)

SIZES: Sequence[int] = (1_000, 10_000, 100_000, 1_000_000)


def capacity_table(costs: Costs) -> list[str]:
    """For each case: how many tasks one server carries, with how many updates and how much memory."""
    lines = [
        "| each task | running tasks | updates a second | mean wait | memory |",
        "|---|---|---|---|---|",
    ]
    for words, load in CASES:
        most = most_tasks(costs, load)
        found = forecast(costs, replace(load, running=most))
        lines.append(
            f"| {words} | {_round(most):,} | {_round(found.updates):,} | {found.wait * 1000:.0f} ms "
            f"| {found.memory / GIGA:.1f} GB |"
        )
    return lines


def shard_table(costs: Costs) -> list[str]:
    """For each number of running tasks: how many servers carry it, and what the busiest of them does."""
    lines = [
        "| running tasks | servers | updates a second | busiest | memory of each |",
        "|---|---|---|---|---|",
    ]
    for size in SIZES:
        load = Load(running=size, processes=max(size // 1000, 1))
        servers = servers_for(costs, load)
        found = forecast(costs, load, servers)
        lines.append(
            f"| {size:,} | {servers} | {_round(found.updates):,} | {found.busiest:.0%} "
            f"| {found.memory / servers / GIGA:.1f} GB |"
        )
    return lines


def comparison_table(costs: Costs) -> list[str]:
    """Paper and simulation for small loads, one of which is too much."""
    lines = ["| load | updates a second | busiest | mean wait |", "|---|---|---|---|"]
    for words, load, servers in (
        ("500 tasks", Load(running=500), 1),
        ("5,000 tasks", Load(running=5000), 1),
        ("20,000 tasks, ten reports a second", Load(running=20_000, reports=10), 1),
        ("5,000 tasks, four servers", Load(running=5000), 4),
        ("20,000 tasks, four servers", Load(running=20_000), 4),
    ):
        paper = forecast(costs, replace(load, seconds=math.inf), servers)
        played = simulate(costs, load, servers, duration=5)
        wait = "endless" if math.isinf(paper.wait) else f"{paper.wait * 1000:.1f} ms"
        lines.append(
            f"| {words} | {paper.updates:,.0f} / {played.updates:,.0f} "
            f"| {paper.busiest:.0%} / {played.busiest:.0%} | {wait} / {played.wait * 1000:.1f} ms |"
        )
    return lines


def _round(value: float) -> int:
    """Two digits: the model knows no more."""
    if value < 10:
        return round(value)
    scale = 10 ** (int(math.log10(value)) - 1)
    return round(value / scale) * scale


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulate", action="store_true", help="compare paper and simulation")
    parser.add_argument("--measure", action="store_true", help="measure the constants of this machine")
    options = parser.parse_args(arguments)
    costs = MEASURED
    if options.measure:
        from capacity_costs import measure

        costs = measure()
        print(costs, end="\n\n")
    tables = [comparison_table] if options.simulate else [capacity_table, shard_table]
    for make in tables:
        print("\n".join(make(costs)), end="\n\n")


if __name__ == "__main__":
    main()
