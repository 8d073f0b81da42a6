"""Progress from other processes: the lines, the pipe, and how a cancelled call ends them."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import pickle
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import MODERN, Wire
from tests.progress.test_progress import run_tool
from tests.support import workers
from tests.support.limits import HANG_SECONDS
from tests.support.turns import counting_turns
from trio_mcp import Context, Lossless, RequestCancelled, Server, WorkerProgress, open_client
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.progress.worker_lines import MAX_LINE_BYTES, LineReader

MEMORY = Wire("memory", MODERN)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A pool of two processes that start before any pipe is made."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


async def run_in(pool: ProcessPoolExecutor, function: Any, *args: Any) -> Any:
    future = pool.submit(function, *args)
    return await trio.to_thread.run_sync(future.result, abandon_on_cancel=True)


async def test_a_process_of_a_pool_reports_to_a_stage(wire, pool):
    async def tool(ctx: Context) -> int:
        progress = ctx.progress()
        progress.plan({"count": 60, "rest": 40})
        async with progress.stage("count") as stage, stage.open_worker_pipe() as worker:
            pid = await run_in(pool, workers.count, worker, 3)
        async with progress.stage("rest"):
            return pid  # type: ignore[no-any-return]

    pid, updates, params = await run_tool(wire, tool, progress=Lossless())
    assert pid != os.getpid()
    assert [update for update in updates if update[2] and "step" in update[2]] == [
        (20, 100, "count: step 1"),
        (40, 100, "count: step 2"),
        (60, 100, "count: step 3"),
    ], "each report is a notification of its own"
    assert updates[-1] == (100, 100, None)
    assert all(a["progress"] < b["progress"] for a, b in itertools.pairwise(params))


async def test_several_processes_add_to_one_count(pool):
    """The lines of several processes do not mix, and none is lost."""

    async def tool(ctx: Context) -> float | None:
        progress = ctx.progress()
        progress.set_total(400)
        async with progress.open_worker_pipe() as worker, trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(run_in, pool, workers.add, worker, 200)
        return progress.current

    data, updates, _ = await run_tool(MEMORY, tool)
    assert data == 400
    assert updates[-1] == (400, 400, None)


async def test_a_process_of_multiprocessing_reports(wire):
    context = multiprocessing.get_context("spawn")

    async def tool(ctx: Context) -> int | None:
        async with ctx.progress().open_worker_pipe() as worker:
            process = context.Process(target=workers.count, args=(worker, 2))
            process.start()
            await trio.to_thread.run_sync(process.join)
            return process.exitcode

    data, updates, _ = await run_tool(wire, tool)
    assert data == 0
    assert updates == [(1, 2, "step 1"), (2, 2, "step 2")]


async def test_a_cancelled_call_ends_the_work_of_its_process(wire, pool):
    """The worker's next report raises, and the pool remains usable."""
    server = Server("workers")
    futures: list[Any] = []

    @server.tool
    async def tool(ctx: Context) -> None:
        async with ctx.progress().open_worker_pipe() as worker:
            futures.append(pool.submit(workers.report_until_cancelled, worker))
            await trio.to_thread.run_sync(futures[0].result, abandon_on_cancel=True)

    async with wire.open(server) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("tool", progress_handler=lambda *_: scope.cancel())
        assert scope.cancelled_caught
        with trio.fail_after(HANG_SECONDS):
            assert await trio.to_thread.run_sync(futures[0].result) == "told"
        await client.ping()


SHELL = """
exec 3>"$PROGRESS"
echo '{"total": 2, "message": "from a shell"}' >&3
for i in 1 2; do echo "{\\"progress\\": $i}" >&3; done
"""


async def test_a_shell_script_reports_through_the_pipe(wire):
    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("script", weight=10) as stage, stage.open_worker_pipe() as worker:
            await trio.run_process(["sh", "-c", SHELL], env={**os.environ, "PROGRESS": worker.path})

    _, updates, _ = await run_tool(wire, tool)
    assert updates == [
        (0, 10, "script"),
        (0, 10, "script: from a shell"),
        (5, 10, "script: from a shell"),
        (10, 10, "script: from a shell"),
        (10, 10, None),
    ]


CHILD = """
import json

def report(progress, total=None, message=None):
    print(json.dumps({"progress": progress, "total": total, "message": message}), flush=True)

for step in (1, 2, 3):
    report(step, 3, f"step {step}")
    print("a stray line")
"""


async def test_a_child_reports_on_its_standard_output(wire, caplog):
    """The child needs nothing but the standard library, and may print other things."""

    async def tool(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            process = await nursery.start(
                partial(trio.run_process, [sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
            )
            await ctx.progress().follow_lines(process.stdout)

    _, updates, _ = await run_tool(wire, tool)
    assert updates == [(step, 3, f"step {step}") for step in (1, 2, 3)]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, "not a warning for each"
    assert warnings[0].startswith("a line that is no report was skipped: ")
    assert warnings[0].endswith("b'a stray line'")


async def test_a_child_is_killed_with_its_call(wire):
    """Trio ends the process of a cancelled call, and the pipe is gone from the file system."""
    server = Server("workers")
    started: list[Any] = []
    left = trio.Event()
    script = """while true; do echo '{"increment": 1}' > "$PROGRESS" || exit; done"""

    @server.tool
    async def tool(ctx: Context) -> None:
        try:
            async with ctx.progress().open_worker_pipe() as worker, trio.open_nursery() as nursery:
                run = partial(trio.run_process, env={**os.environ, "PROGRESS": worker.path})
                started.extend((await nursery.start(run, ["sh", "-c", script]), worker))
        finally:
            left.set()

    async with wire.open(server) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("tool", progress_handler=lambda *_: started and scope.cancel())
        process, worker = started
        with trio.fail_after(HANG_SECONDS):
            await process.wait()
            await left.wait()
        assert not os.path.exists(os.path.dirname(worker.path))  # noqa: ASYNC240  # at once


async def test_lines_still_in_the_pipe_when_the_block_ends_count():
    async def tool(ctx: Context) -> float | None:
        async with ctx.progress().open_worker_pipe() as worker:
            for step in range(1, 6):
                worker.report_progress(step)
        return ctx.progress().current

    data, updates, _ = await run_tool(MEMORY, tool)
    assert data == 5
    assert updates[-1][0] == 5


async def test_a_report_after_the_block_is_refused():
    server = Server("workers")

    @server.tool
    async def tool(ctx: Context) -> None:
        async with ctx.progress().open_worker_pipe() as worker:
            worker.check_cancelled()
        for report in (
            worker.check_cancelled,
            worker.increment,
            partial(worker.report_progress, 1),
            partial(worker.set_total, 1),
            partial(worker.set_message, "late"),
        ):
            with pytest.raises(RequestCancelled, match="was cancelled or has ended"):
                report()

    async with open_client(server) as client:
        await client.call_tool("tool")


async def test_an_exception_of_the_block_comes_out_alone():
    async def tool(ctx: Context) -> str:
        try:
            async with ctx.progress().open_worker_pipe() as worker:
                raise KeyError("of the block")
        except KeyError:
            return str(os.path.exists(worker.path))  # noqa: ASYNC240  # at once

    assert (await run_tool(MEMORY, tool))[0] == "False"


async def test_a_full_pipe_makes_the_worker_wait_and_loses_nothing():
    """Under `Lossless` a slow client blocks the reader of the pipe, which blocks the worker."""

    async def tool(ctx: Context) -> None:
        async with ctx.progress().open_worker_pipe() as worker:
            await trio.to_thread.run_sync(workers.add, worker, 5000)

    _, updates, _ = await run_tool(MEMORY, tool, progress=Lossless(buffer=2))
    assert [progress for progress, _, _ in updates] == list(range(1, 5001))


def test_a_worker_refuses_bad_values(tmp_path):
    worker = WorkerProgress(str(tmp_path / "nothing"))
    for refused in (math.nan, math.inf, True, "1"):
        with pytest.raises(ValueError, match="must be a finite int or float"):
            worker.report_progress(refused)  # type: ignore[arg-type]
    for refused in (0, -1):
        with pytest.raises(ValueError, match="must be larger than 0"):
            worker.increment(refused)
        with pytest.raises(ValueError, match="must be larger than 0"):
            worker.set_total(refused)
    with pytest.raises(TypeError, match="message must be a str"):
        worker.set_message(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="encodable"):
        worker.set_message("\ud800")
    with pytest.raises(RequestCancelled):
        worker.increment()


def test_a_worker_survives_pickling():
    worker = WorkerProgress("/somewhere/progress")
    assert pickle.loads(pickle.dumps(worker)) == worker


@pytest.mark.parametrize("message", ["x" * 16_000, '"\\\n' * 5_000, "\N{SNOWMAN}" * 16_000])
async def test_a_long_message_is_cut_to_one_write(message):
    async def tool(ctx: Context) -> None:
        async with ctx.progress().open_worker_pipe() as worker:
            await trio.to_thread.run_sync(worker.report_progress, 1, 2, message)

    _, updates, _ = await run_tool(MEMORY, tool)
    (progress, total, shown), = updates  # fmt: skip
    assert (progress, total) == (1, 2)
    assert message.startswith(shown)
    assert len(shown.encode()) > select.PIPE_BUF / 8


class Recording:
    """A recorder of a reporter's values after each line."""

    def __init__(self) -> None:
        self.progress = ProgressReporter(None)
        self.reader = LineReader(self.progress)

    async def take(self, *chunks: bytes) -> list[Any]:
        for chunk in chunks:
            await self.reader.feed(chunk)
        await self.reader.finish()
        return [self.progress.current, self.progress.total, self.progress.message]


@pytest.mark.parametrize("line", [b"\n", b" \n", b"1\n", b"{}\n"])
async def test_others_have_a_turn_while_many_lines_are_skipped(line):
    async with counting_turns() as turns:
        await Recording().take(line * 6400)
    assert turns.count >= 90


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b'{"progress": 3}\n', [3, 1, None]),
        (b'{"progress": 3, "total": 9, "message": "m"}\n', [3, 9, "m"]),
        (b'{"progress": 3, "total": null, "message": null}', [3, 1, None]),
        (b'{"total": 9}\n{"message": "m"}\n{"progress": 3}\n', [3, 9, "m"]),
        (b'{"progress": 3}\n{"increment": 2}\n{"increment": 0.5}\n', [5.5, 1, None]),
        (b'{"progress": 3}\n{"progress": 1, "message": "back"}\n', [3, 1, "back"]),
        (b'{"message": "m"}\r\n\r\n  \n{"message": null}\r\n', [None, 1, None]),
        (b'{"progress": 3, "future": [1, {}]}\n', [3, 1, None]),
        ('{"message": "\N{SNOWMAN}"}\n'.encode(), [None, 1, "\N{SNOWMAN}"]),
        (b'{"message": "' + b"m" * 20_000 + b'"}\n', [None, 1, "m" * 16_384]),
    ],
)
async def test_each_line_changes_the_reporter(lines, expected, caplog):
    assert await Recording().take(lines) == expected
    assert await Recording().take(*(lines[i : i + 1] for i in range(len(lines)))) == expected
    assert not caplog.records


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"3",
        b"[]",
        b"{}",
        b'{"future": 1}',
        b'{"progress": "3"}',
        b'{"progress": true}',
        b'{"progress": null}',
        b'{"progress": NaN}',
        b'{"progress": 1e999}',
        b'{"increment": 0}',
        b'{"increment": 1, "progress": 1}',
        b'{"total": 0}',
        b'{"total": -1, "progress": 1}',
        b'{"message": 3}',
        b'{"message": "\\ud800"}',
        b'{"message": "\xff"}',
        b'{"message": "open',
        b"[" * 100_000,
        b'{"future": ' + b"[" * 100_000 + b"}",
        b'{"progress": 1, "message": "' + b"m" * MAX_LINE_BYTES + b'"}',
    ],
    ids=lambda line: repr(line[:30]),
)
async def test_malformed_lines_are_skipped(line, caplog):
    """They change nothing, and the lines after them count."""
    assert await Recording().take(line + b"\n") == [None, 1, None]
    assert await Recording().take(line + b'\n{"progress": 7}\n') == [7, 1, None]
    halves = line[: len(line) // 2], line[len(line) // 2 :] + b'\n{"progress": 7}\n'
    assert await Recording().take(*halves) == [7, 1, None]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert all(len(record.getMessage()) < 1000 for record in caplog.records)


async def test_an_endless_line_needs_bounded_memory(caplog):
    recording = Recording()
    for _ in range(100):
        await recording.reader.feed(b"x" * 65_536)
        assert len(recording.reader._rest) <= MAX_LINE_BYTES
    assert await recording.take(b'"}\n{"progress": 1}\n') == [1, 1, None]
    assert len(caplog.records) == 1


async def test_increments_that_would_overflow_are_ignored(caplog):
    assert await Recording().take(b'{"increment": 1e308}\n' * 3 + b'{"message": "on"}\n') == [1e308, 1, "on"]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_do_harm(chunks: list[bytes]) -> None:
    """Whatever is written, the reader goes on and handles the next valid line."""
    recording = Recording()

    async def main() -> list[Any]:
        return await recording.take(*chunks, b'\n{"message": "still here"}\n')

    assert trio.run(main)[2] == "still here"


async def test_each_line_is_a_cancellation_point():
    recording = Recording()
    with trio.CancelScope() as scope:
        scope.cancel()
        await recording.reader.feed(b'{"progress": 1}\n')
    assert scope.cancelled_caught


async def test_the_stream_of_the_caller_stays_open():
    send, receive = trio.testing.memory_stream_one_way_pair()
    async with send:
        await send.send_all(b'{"progress": 1}\n{"progress": 2}')

    async def tool(ctx: Context) -> None:
        await ctx.progress().follow_lines(receive)

    _, updates, _ = await run_tool(MEMORY, tool)
    assert updates == [(1, None, None), (2, None, None)], "the last line needs no end"
    assert await receive.receive_some() == b"", "not closed"


async def test_a_stage_and_a_loop_in_a_worker_thread_are_cancellation_checks(wire):
    """Entering, each item and leaving check for cancellation: the first of them after it raises."""
    server = Server("threads")
    done = threading.Event()
    outcome: list[str] = []

    def work(ctx: Context) -> None:
        try:
            with ctx.progress().stage("loop", weight=10) as stage:
                for _ in stage.track(range(10**9)):
                    pass
        except trio.Cancelled:  # noqa: ASYNC103  # it belongs to the thread, whose function returns
            outcome.append("told")
        finally:
            done.set()

    server.add_tool(work, name="work")
    async with wire.open(server) as client:
        with trio.CancelScope() as scope:

            def stop(progress: float, total: float | None, message: str | None) -> None:
                if progress > 0:
                    scope.cancel()

            await client.call_tool("work", progress_handler=stop)
        with trio.fail_after(HANG_SECONDS):
            await trio.to_thread.run_sync(done.wait)
    assert outcome == ["told"]
