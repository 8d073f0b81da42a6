"""What a handler reports its progress with: the helper of a request, and those of its stages.

Owns the public face of progress, and that each method works from any thread. What a report
means is decided in `trio_mcp.progress`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import trio

from trio_mcp.progress.checks import MAX_MESSAGE_LENGTH
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.progress.stages import Stage, open_spinner, open_stage, plan_stages
from trio_mcp.progress.tracking import CountedStream, Tracked, Wording
from trio_mcp.progress.worker import WorkerProgress
from trio_mcp.progress.worker_lines import LineReader
from trio_mcp.session.thread_bridge import DONE, ThreadBridge

T = TypeVar("T")


class ProgressHelper:
    """The progress of one request or of one stage, kept for the handler.

    The plain methods need no `await`. Updates that a task makes without a checkpoint
    between them leave as one notification (MCP progress). From another thread every method
    goes through the Trio thread and raises `trio.Cancelled` there when the call was cancelled.

    What is reported to a stage moves the request on within the stage's share, and nothing
    once the stage has ended.
    """

    __slots__ = ("_bridge", "_reporter")

    def __init__(self, reporter: ProgressReporter | Stage, bridge: ThreadBridge) -> None:
        self._reporter = reporter
        self._bridge = bridge

    def __repr__(self) -> str:
        return f"<ProgressHelper current={self.current} total={self.total} message={self.message!r}>"

    @property
    def reporter(self) -> ProgressReporter | Stage:
        """What the helper reports to, on the Trio thread; a Context that is given the helper shares it."""
        return self._reporter

    @property
    def current(self) -> float | None:
        """How far along the work is; None until the first increment or report."""
        return self._reporter.current

    @property
    def total(self) -> float | None:
        """What `current` grows towards: what was set, or what the stages add up to.

        Until then it is 1 for a request, None for a stage. A report without a total makes it
        None.
        """
        return self._reporter.total

    @property
    def message(self) -> str | None:
        """The last message; None at first.

        That of a stage is without its path; that of a request is what the client sees.
        """
        return self._reporter.message

    def set_total(self, total: float) -> None:
        """Set what `current` grows towards, in the same unit; it is not sent until it was set.

        Does not checkpoint. Raises ValueError unless `total` is a finite number larger than 0.
        """
        self._apply(self._reporter.set_total, total)

    def increment(self, by: float = 1) -> None:
        """Add `by` to `current`.

        Does not checkpoint. Raises ValueError unless `by` is a finite number larger than 0.
        """
        self._apply(self._reporter.increment, by)

    def set_message(self, message: str | None) -> None:
        """Set the message; before the first increment this sends progress 0. None clears it.

        Does not checkpoint. Raises TypeError unless `message` is a str or None, and
        ValueError if it cannot be encoded or has more than 16,384 characters.
        """
        self._apply(self._reporter.set_message, message)

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Say how far along the work is; `await` it. As `Context.report_progress`.

        On a stage, a total of None leaves the total as it is, because the share depends on it.
        """
        if self._bridge.outside:
            self._bridge.run(self._reporter.report, progress, total, message)
            return DONE
        return self._reporter.report(progress, total, message)

    def __call__(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> Awaitable[None]:
        """Report what another call reports: a helper is a progress handler for `Client.call_tool`.

        It works as `report_progress`, but since another server made the values, it leaves out
        what that would refuse: a number that is not finite, a total that is not larger than 0,
        and the characters of a message beyond 16,384.
        """
        if not math.isfinite(progress):
            progress = self.current or 0
        if total is not None and not 0 < total < math.inf:
            total = None
        if message is not None:
            message = message[:MAX_MESSAGE_LENGTH]
        return self.report_progress(progress, total, message)

    def plan(self, weights: Mapping[str, float]) -> None:
        """Declare stages before they open: the weight of each by its name.

        If no total was set, the total is the sum of all weights. Another plan adds to it.
        Does not checkpoint. Raises ValueError for a weight that is not a
        finite number larger than 0 and for a name that is planned already, RuntimeError after
        the end of the stage.
        """
        self._apply(partial(plan_stages, self._reporter), weights)

    def stage(self, name: str, weight: float | None = None, total: float | None = None) -> StageScope:
        """A part of the work, for `async with`, that has a helper of its own.

        `weight` is how much of the total the stage makes up, in the unit of the total. If no
        total was set, the total is the sum of the weights. The default is the weight in the
        plan, or 1 if the stage is in none. `total` is what the stage's own `current` grows towards;
        without one it counts only when it ends, or by its own stages.

        A stage whose block ends normally is complete. One that fails or is cancelled leaves
        `current` as it is, and the next of the same name and weight goes on from there. The
        message shows the name, and those of the stages above.

        Entering and leaving are cancellation points, and schedule points as a report is. In a
        worker thread use `with`. Entering raises ValueError if a plan has no such stage and
        no weight was given, or the planned stage is open or complete, and for numbers that
        `set_total` refuses; RuntimeError after the end of the stage that it is a part of.
        """
        return StageScope(
            self._reporter, self._bridge, partial(open_stage, self._reporter, name, weight, total)
        )

    def spinner(self, message: str) -> StageScope:
        """Show `message` while a block runs, without counting anything; for `with` or `async with`.

        The block gets a helper whose message is shown behind that one. `with` does not
        checkpoint; `async with` does, as for `stage`. Raises what `set_message` raises.
        """
        return StageScope(self._reporter, self._bridge, partial(open_spinner, self._reporter, message))

    def track(
        self,
        source: Iterable[T] | AsyncIterable[T],
        total: float | None = None,
        message: Wording[T] = None,
    ) -> Tracked[T]:
        """The items of `source`, for `for` or `async for`; each counts 1 once its body is done.

        `total` is how many there are, by default the length of `source` if it has one. The
        total here grows to hold them, unless stages make it up. `message` is a text, or a
        function that makes one of each item. An item whose body raised or left the loop is not
        counted, and the source is left as it is.

        `for` does not checkpoint. `async for` takes any source, and each turn is a cancellation
        point, and a schedule point as a report is. Raises TypeError if `source` is no iterable,
        ValueError unless `total` is None or a finite number of at least 0.
        """
        return Tracked(_Counter(self._reporter, self._apply), source, total, message)

    def wrap_stream(self, stream: trio.abc.ReceiveStream, size: int | None = None) -> CountedStream:
        """`stream`, with every byte that is received from it counted.

        `size` is how many bytes will come, if that is known. Receiving and closing do what they
        do on `stream`, and checkpoint as they do there. Raises ValueError unless `size` is
        None or a finite number of at least 0.
        """
        return CountedStream(_Counter(self._reporter, self._apply), stream, size)

    async def follow_lines(self, stream: trio.abc.ReceiveStream) -> None:
        """Report what another process writes to `stream`, until that ends; checkpoints.

        Each line is a JSON object with at least one of "progress" (how far it has come),
        "increment" (so much more), "total" and "message"; what a line does not name stays as
        it is. A line that is no such object, or has more than 131,072 bytes, is skipped and
        logged. If the call is lossless, nothing is read while its buffer is full, and so the
        process waits. The stream is left open. Raises what the stream raises.
        """
        await LineReader(self._reporter).read_all(stream)

    def open_worker_pipe(self) -> AbstractAsyncContextManager[WorkerProgress]:
        """A way for other processes to report here, for `async with`.

        The block gets a `WorkerProgress`, which can be handed to processes of multiprocessing and
        concurrent.futures. Its `path` is a named pipe for any other process, which writes lines
        as `follow_lines` reads them, of at most 4,096 bytes if several processes write.

        At a normal end of the block, what is still in the pipe is reported. After the block, cancelled or
        not, a report raises RequestCancelled in its process. Entering does not checkpoint,
        leaving does. Raises RuntimeError on systems without named pipes, OSError if none
        can be made.
        """
        # Imported here: few need it, and it imports modules that are slow to import.
        from trio_mcp.progress.worker_pipe import open_worker_pipe

        return open_worker_pipe(LineReader(self._reporter))

    def _apply(self, change: Callable[[Any], None], value: Any) -> None:
        if not self._bridge.outside:
            change(value)
            return

        async def change_inside() -> None:
            change(value)
            await self._reporter.wait_space()

        self._bridge.run(change_inside)


class _Counter:
    """What loops and streams count with; `apply` makes one change of `reporter`, from any thread."""

    __slots__ = ("_apply", "_reporter")

    def __init__(
        self, reporter: ProgressReporter | Stage, apply: Callable[[Callable[[Any], None], Any], None]
    ) -> None:
        self._reporter = reporter
        self._apply = apply

    def expect(self, more: float) -> None:
        self._apply(self._grow_total, more)

    def increment(self, by: float) -> None:
        self._apply(self._reporter.increment, by)

    async def count(self, by: float) -> None:
        await self._reporter.wait_if_full()
        self._reporter.increment(by)
        await self._reporter.take_turn()

    def set_message(self, message: str | None) -> None:
        self._apply(self._reporter.set_message, message)

    def _grow_total(self, more: float) -> None:
        reporter = self._reporter
        needed = (reporter.current or 0) + more
        if reporter.has_total:
            if reporter.total is not None and needed > reporter.total:
                reporter.set_total(needed)
        elif not reporter.has_stages:
            reporter.set_total(needed)


class StageScope:
    """A stage or a spinner that is open while its block runs; to be entered once."""

    __slots__ = ("_bridge", "_open", "_reporter", "_stage")

    def __init__(
        self, reporter: ProgressReporter | Stage, bridge: ThreadBridge, open_it: Callable[[], Stage]
    ) -> None:
        self._reporter = reporter
        self._bridge = bridge
        self._open = open_it
        self._stage: Stage | None = None

    async def __aenter__(self) -> ProgressHelper:
        await self._reporter.take_turn()
        await self._reporter.wait_if_full()
        return self._enter()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self._reporter.wait_if_full()  # noqa: ASYNC102  # the body has ended normally
        finally:
            self._end(complete=kind is None)
        if kind is None:
            await self._reporter.take_turn()  # noqa: ASYNC102  # likewise

    def __enter__(self) -> ProgressHelper:
        if not self._bridge.outside:
            return self._enter()

        async def enter_inside() -> ProgressHelper:
            await self._reporter.wait_if_full()
            return self._enter()

        return self._bridge.run(enter_inside)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._bridge.outside:
            self._end(complete=kind is None)
            return
        # Also if the call is cancelled, so that the message of the stage goes.
        self._bridge.run_soon(partial(self._end, complete=kind is None))
        if kind is None:
            self._bridge.run(self._reporter.wait_space)

    def _enter(self) -> ProgressHelper:
        if self._stage is not None:
            raise RuntimeError(f"stage {': '.join(self._stage.path)!r} was entered before: make a new one")
        self._stage = self._open()
        return ProgressHelper(self._stage, self._bridge)

    def _end(self, *, complete: bool) -> None:
        if self._stage is not None:
            self._stage.end(complete=complete)
