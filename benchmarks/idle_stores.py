"""What a server costs that has nothing to do.

For each store this program starts a server over stdio, lets it finish tasks, and then watches its process for
a while, with its client connected. All stores are watched at once. The Redis and Valkey servers are started
by this program; a store whose program is missing is left out with a message. It fails if a server uses more
than a thousandth of a processor, or if its memory grows. Needs trio_mcp with the extra `redis`, and /proc.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from cells.redis_server import PERSISTENT, find_server, run_redis
from contestants.gauge import Gauge
from report.scores import print_table
from trio_mcp import Client, open_client

SERVER = Path(__file__).parent / "contestants" / "trio_mcp_store_server.py"

MOST_CPU = 0.001
"""Seconds of processor time a second."""
MOST_GROWTH = 256 * 1024
"""Bytes: the allocator rounds, and a first wake-up may touch pages that were not touched before."""

REPORTS = 5
AT_ONCE = 50
SETTLE_SECONDS = 5.0
"""So long after the last task what follows an end is over, such as the last write of its progress."""


@dataclass
class Idle:
    """What one server used while it had nothing to do."""

    store: str
    seconds: float
    cpu: float
    wakes: int
    growth: int
    peak: int

    @property
    def share(self) -> float:
        """Seconds of processor time a second."""
        return self.cpu / self.seconds

    @property
    def is_idle(self) -> bool:
        return self.share <= MOST_CPU and self.growth <= MOST_GROWTH

    def row(self) -> list[str]:
        """A line of the table."""
        return [
            self.store,
            f"{self.share:.3%}",
            f"{self.wakes:,}",
            f"{self.growth / 1024:,.0f} KiB",
            f"{self.peak / 2**20:,.1f} MiB",
            "met" if self.is_idle else "MISSED",
        ]


HEAD = [
    "store",
    "processor",
    "wake-ups",
    "growth",
    "peak memory",
    f"at most {MOST_CPU:.1%} and {MOST_GROWTH // 1024} KiB",
]


@contextmanager
def open_places() -> Iterator[dict[str, str]]:
    """The URL of each store that can be used here, by its name."""
    with ExitStack() as stack:
        build = Path(__file__).parents[1] / "build"
        build.mkdir(exist_ok=True)
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=build, prefix="tasks-"))
        places = {"memory": "memory:", "sqlite": f"sqlite:{Path(directory, 'tasks.db')}"}
        for kind in ("redis", "valkey"):
            program = find_server(kind)
            if program is not None:
                port = stack.enter_context(run_redis(program, *PERSISTENT))
                places[kind] = f"redis://127.0.0.1:{port}/0"
        yield places


async def finish_tasks(client: Client, tasks: int) -> None:
    """Run tasks to their ends, not all at once, and take each result."""
    limit = trio.CapacityLimiter(AT_ONCE)

    async def run() -> None:
        async with limit:
            task = await client.call_tool("count", {"n": REPORTS}, task=True)
            await task.result()

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(run)


async def watch(store: str, url: str, tasks: int, seconds: float, idles: list[Idle]) -> None:
    async with open_client([sys.executable, str(SERVER), "stdio", url]) as client:
        await finish_tasks(client, tasks)
        process = (await client.call_tool("process_id")).data
        await trio.sleep(SETTLE_SECONDS)
        # From outside: a call would wake the process up, and its pages may have been taken away meanwhile.
        cpu, wakes = read_cpu(process), count_wakes(process)
        gauge, begin = Gauge(process), trio.current_time()
        await trio.sleep(seconds)
        took, cpu, wakes = trio.current_time() - begin, read_cpu(process) - cpu, count_wakes(process) - wakes
        memory = gauge.read()
        idles.append(Idle(store, took, cpu, wakes, memory["growth"], memory["peak"]))


def read_cpu(process: int) -> float:
    """The processor time of a process in seconds, to a hundredth, with threads that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def count_wakes(process: int) -> int:
    """How often the event loop of a process, which is its first thread, has waited for something."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))


async def watch_all(places: dict[str, str], tasks: int, seconds: float) -> list[Idle]:
    idles: list[Idle] = []
    async with trio.open_nursery() as nursery:
        for store, url in places.items():
            nursery.start_soon(watch, store, url, tasks, seconds, idles)
    return sorted(idles, key=lambda idle: list(places).index(idle.store))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch (60)")
    parser.add_argument("--tasks", type=int, default=1000, help="finished tasks of each server (1,000)")
    options = parser.parse_args()
    with open_places() as places:
        idles = trio.run(watch_all, places, options.tasks, options.seconds)
    print(f"{options.tasks:,} finished tasks each, {options.seconds:g} seconds with nothing to do")
    print_table([HEAD, *(idle.row() for idle in idles)])
    return 0 if all(idle.is_idle for idle in idles) else 1


if __name__ == "__main__":
    sys.exit(main())
