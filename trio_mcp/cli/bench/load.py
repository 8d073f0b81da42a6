"""The load of `trio-mcp bench`: calls that run at once, and the results of each.

Owns the bounds of a load (how many calls, how often, how long) and the counts of its calls.
Refuses to know what happens on the wire; that is counted in `wire_count.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs
import trio

from trio_mcp.cli.bench.histogram import DurationHistogram
from trio_mcp.client.client import Client
from trio_mcp.errors import ConnectionLost, MCPError, ProgressOverflow
from trio_mcp.handlers.meter import Reading

FINISH_SECONDS: Final = 5.0
"""How long calls that still run when the time is over may take to finish."""

LISTEN_SECONDS: Final = 0.25
"""How long to wait, after the last call has ended, for updates that come late."""

MAX_ERRORS: Final = 5
"""How many different errors are kept; a server may put an id into each."""

ERROR_CHARACTERS: Final = 500

OTHER_ERRORS: Final = "other errors"

Stop: TypeAlias = Literal["rounds", "duration", "interrupted", "connection lost"]
"""Why a load ended."""


@attrs.frozen(kw_only=True)
class Load:
    """How much a server has to do; `rounds` None means as many as fit into `duration` seconds."""

    calls: int
    rounds: int | None
    duration: float


@attrs.define(eq=False)
class CallSlot:
    """One of the calls that run at once, made again in each round; `update` is its progress handler."""

    delivered: int = 0
    first_time: float | None = None
    _newest: tuple[float, float | None, str | None] | None = None

    def begin(self) -> None:
        """Forget the previous call."""
        self.first_time = self._newest = None

    def update(self, progress: float, total: float | None, message: str | None) -> None:
        """Store an update, as a progress handler; called 100,000 times a second, so it must be cheap."""
        if self.first_time is None:
            self.first_time = time.perf_counter()
        self._newest = (progress, total, message)
        self.delivered += 1

    @property
    def reading(self) -> Reading | None:
        """The newest update of the current call, or None before its first."""
        return None if self._newest is None else Reading(*self._newest)


@attrs.define(eq=False)
class LoadRun:
    """The counts of a load, while it runs and when it has ended; times in seconds of `time.perf_counter`."""

    load: Load
    slots: list[CallSlot] = attrs.field(init=False)
    started: float = attrs.field(factory=time.perf_counter)
    seconds: float = 0.0
    """How long it took; 0 while it runs."""
    cpu_seconds: float = 0.0
    """How much processor time this process has used meanwhile."""
    stop: Stop = "interrupted"
    finished: int = 0
    failed: int = 0
    cut: int = 0
    """How many calls were cancelled at the end."""
    overflowed: int = 0
    """How many of the failed calls failed because this client was too slow."""
    errors: dict[str, int] = attrs.field(factory=dict)
    first_updates: DurationHistogram = attrs.field(factory=DurationHistogram)
    durations: DurationHistogram = attrs.field(factory=DurationHistogram)

    def __attrs_post_init__(self) -> None:
        self.slots = [CallSlot() for _ in range(self.load.calls)]

    @property
    def delivered(self) -> int:
        """How many updates the progress handlers have received."""
        return sum(slot.delivered for slot in self.slots)

    def share(self, now: float) -> float:
        """The share of the load that is done, from 0 to 1."""
        share = (now - self.started) / self.load.duration
        if self.load.rounds is not None:
            share = max(share, (self.finished + self.failed) / (self.load.calls * self.load.rounds))
        return min(share, 1.0)

    def fail(self, reason: str) -> None:
        """Count a call that failed, and why."""
        self.failed += 1
        reason = reason[:ERROR_CHARACTERS]
        if reason not in self.errors and len(self.errors) >= MAX_ERRORS:
            reason = OTHER_ERRORS
        self.errors[reason] = self.errors.get(reason, 0) + 1


async def run_load(client: Client, tool: str, arguments: Mapping[str, Any], run: LoadRun) -> None:
    """Call the tool until the load is done; counts in `run`, also if this is cancelled.

    Checkpoints. Failed calls are counted and raise nothing.
    """
    run.started, cpu = time.perf_counter(), time.process_time()
    end = trio.current_time() + run.load.duration
    try:
        with trio.move_on_at(end + FINISH_SECONDS):
            async with trio.open_nursery() as nursery:
                caller = _Caller(client, tool, arguments, run, end, nursery.cancel_scope)
                for slot in run.slots:
                    nursery.start_soon(caller.keep_calling, slot)
        if run.stop == "interrupted":
            run.stop = "rounds" if trio.current_time() < end else "duration"
    finally:
        run.seconds = time.perf_counter() - run.started
        run.cpu_seconds = time.process_time() - cpu
    await trio.sleep(LISTEN_SECONDS)


@attrs.frozen
class _Caller:
    _client: Client
    _tool: str
    _arguments: Mapping[str, Any]
    _run: LoadRun
    _end: float
    _all_calls: trio.CancelScope

    async def keep_calling(self, slot: CallSlot) -> None:
        """Make one call after the other, within the bounds of the load."""
        rounds = self._run.load.rounds
        made = 0
        await trio.lowlevel.checkpoint()
        while (rounds is None or made < rounds) and trio.current_time() < self._end:
            made += 1
            try:
                await self._call(slot)
            except ConnectionLost as error:
                self._run.fail(str(error))
                if not await _is_alive(self._client):
                    self._run.stop = "connection lost"
                    self._all_calls.cancel()
                    return

    async def _call(self, slot: CallSlot) -> None:
        """Make one call and count its result; raises ConnectionLost, which the caller counts."""
        run = self._run
        slot.begin()
        started = time.perf_counter()
        try:
            result = await self._client.call_tool(
                self._tool, self._arguments, progress_handler=slot.update, raise_on_error=False
            )
        except trio.Cancelled:
            run.cut += 1
            raise
        except ConnectionLost:
            raise
        except MCPError as error:
            run.overflowed += isinstance(error, ProgressOverflow)
            run.fail(str(error))
        else:
            if result.is_error:
                run.fail(result.text or f"the tool {self._tool!r} failed")
            else:
                run.finished += 1
                run.durations.add(time.perf_counter() - started)
        finally:
            if slot.first_time is not None:
                run.first_updates.add(slot.first_time - started)


async def _is_alive(client: Client) -> bool:
    """Whether the connection still works: over HTTP, the answer to one call alone can be lost."""
    try:
        await client.ping()
    except ConnectionLost:
        return False
    except MCPError:
        pass  # an error is an answer, too
    return True
