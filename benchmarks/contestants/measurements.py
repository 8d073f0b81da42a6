"""The measurements that every Python client takes, whichever library its contestant uses.

Each line of stdin asks for one (`burst N`, `fan-CALLS N`, `echo N`, `slow N`, `paced-RATE N`,
`heard-TOOL N` or `unheard-TOOL N`), and each line of stdout is its sample as JSON. Clients stay connected
between the rounds, so no sample pays for a start. Needs only the standard library: a worker passes in trio
or anyio, which have the same names for all that is used here.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

from gauge import Gauge
from tally import Ascent, SlowTally, Stopwatch, Tally

LATE_DEADLINE = 30

Handler = Callable[[float, float | None, str | None], Awaitable[None]]
Call = Callable[[str, dict[str, Any], Handler | None], Awaitable[str]]
Sample = dict[str, Any]
AnyTally = TypeVar("AnyTally", bound=Tally)


@dataclass
class Contestant:
    """A connected client, and the library that it runs on."""

    call: Call
    """Calls a tool, with a progress handler or None, and returns the text of the result."""
    library: Any
    """trio or anyio."""
    open_group: Callable[[], AbstractAsyncContextManager[Any]]
    """The library's nursery or task group."""
    server: int = 0
    """The process id of the server; 0 if it runs in this process."""


class Tallies:
    """The tallies of calls that run at once, and the wait for updates that arrive after the results."""

    def __init__(self, contestant: Contestant) -> None:
        self._library = contestant.library
        self._tallies: list[Tally] = []
        self._complete = contestant.library.Event()

    def add(self, tally: AnyTally) -> AnyTally:
        self._tallies.append(tally)
        return tally

    def on_complete(self) -> None:
        if all(tally.finished_at for tally in self._tallies):
            self._complete.set()

    async def sample(self, start: float) -> Sample:
        """Wait until each update was handled, and return the sample; called when all calls have returned."""
        returned_at = time.perf_counter()
        expected = sum(tally.expected for tally in self._tallies)
        late = expected - sum(tally.count for tally in self._tallies)
        # Some clients start a task for each callback, and these may still run when the call has returned.
        with self._library.move_on_after(LATE_DEADLINE):
            await self._complete.wait()
        return {
            "seconds": max(returned_at, *(tally.finished_at for tally in self._tallies)) - start,
            "count": sum(tally.count for tally in self._tallies),
            "correct": all(tally.correct for tally in self._tallies),
            "late": late,
        }


async def burst(contestant: Contestant, n: int) -> Sample:
    """One call that reports n updates, with the CPU time and the memory of the server."""
    tallies = Tallies(contestant)
    tally = tallies.add(Tally(n, tallies.on_complete))
    gauge = Gauge(contestant.server)
    start = time.perf_counter()
    await contestant.call("burst", {"n": n}, tally.update)
    sample = await tallies.sample(start)
    return {**sample, **gauge.read()}


async def fan(contestant: Contestant, n: int, calls: str) -> Sample:
    """Many calls at once that report n updates in total."""
    failures: list[str] = []
    tallies = Tallies(contestant)

    async def call(tally: Tally) -> None:
        try:
            await contestant.call("burst", {"n": tally.expected}, tally.update)
        except Exception as error:
            failures.append(repr(error))

    shares = [tallies.add(Tally(n // int(calls), tallies.on_complete)) for _ in range(int(calls))]
    gauge = Gauge(contestant.server)
    start = time.perf_counter()
    async with contestant.open_group() as group:
        for tally in shares:
            group.start_soon(call, tally)
    sample = await tallies.sample(start)
    return {**sample, **gauge.read(), "failed": len(failures), "failures": failures[:1]}


async def echo(contestant: Contestant, n: int) -> Sample:
    """n calls without progress, one after another."""
    texts = [f"text {i}" for i in range(n)]
    gauge = Gauge(contestant.server)
    start = time.perf_counter()
    answers = [await contestant.call("echo", {"text": text}, None) for text in texts]
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "count": len(answers),
        "correct": answers == texts,
        "late": 0,
        **gauge.read(),
    }


async def slow(contestant: Contestant, n: int) -> Sample:
    """A burst with a slow handler, with the CPU time and the memory of this process."""
    tallies = Tallies(contestant)
    tally = tallies.add(SlowTally(n, tallies.on_complete, contestant.library.sleep))
    gauge = Gauge(os.getpid())
    start = time.perf_counter()
    await contestant.call("burst", {"n": n}, tally.update)
    sample = await tallies.sample(start)
    return {**sample, **gauge.read(), "misordered": tally.misordered}


async def paced(contestant: Contestant, n: int, rate: str) -> Sample:
    """One call that reports n updates at `rate` a second, with their age when they are handled."""
    tallies = Tallies(contestant)
    tally = tallies.add(Stopwatch(n, tallies.on_complete))
    start = time.perf_counter()
    await contestant.call("paced", {"n": n, "rate": float(rate)}, tally.update)
    return {**await tallies.sample(start), **tally.percentiles()}


async def heard(contestant: Contestant, n: int, tool: str) -> Sample:
    """The processor time of a call in memory whose tool takes n steps, until all updates were handled."""
    tallies = Tallies(contestant)
    tally = tallies.add(Ascent(n, tallies.on_complete))
    start = time.perf_counter()
    begin = time.process_time()
    await contestant.call(tool, {"n": n}, tally.update)
    sample = await tallies.sample(start)
    seconds = time.process_time() - begin
    # Awaited reports are not joined.
    count = tally.count if tool == "reports" else tally.reached
    return {**sample, "seconds": seconds, "count": count, "late": 0}


async def unheard(contestant: Contestant, n: int, tool: str) -> Sample:
    """The processor time of a loop of n steps without a progress token, as its tool returns it."""
    seconds, reached = (await contestant.call(tool, {"n": n}, None)).split()
    return {"seconds": float(seconds), "count": float(reached), "correct": True, "late": 0}


MEASUREMENTS: dict[str, Callable[..., Awaitable[Sample]]] = {
    "burst": burst,
    "fan": fan,
    "echo": echo,
    "slow": slow,
    "paced": paced,
    "heard": heard,
    "unheard": unheard,
}


async def serve_measurements(contestant: Contestant, packages: list[str], protocol: str) -> None:
    """Print what runs here, then take the measurements that are asked for, until standard input ends."""
    server = int(await contestant.call("pid", {}, None))
    contestant.server = 0 if server == os.getpid() else server
    hello = {"versions": {name: version(name) for name in packages}, "protocol": protocol}
    print(json.dumps(hello), flush=True)
    while line := await contestant.library.to_thread.run_sync(sys.stdin.readline):
        what, n = line.split()
        name, _, argument = what.partition("-")
        arguments = [argument] if argument else []
        print(json.dumps(await MEASUREMENTS[name](contestant, int(n), *arguments)), flush=True)


def start_server(*command: str) -> str:
    """Start a server over HTTP, which ends with this process, and return the URL that it prints."""
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server.stdout.readline().strip()
