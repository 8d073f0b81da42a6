"""Stages: their shares, messages and ends, and the updates that the client sees."""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import LEGACY, MODERN, Wire
from tests.progress.test_progress import run_tool
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    ClientSettings,
    Context,
    Lossless,
    ProgressHelper,
    Server,
    ServerSettings,
    ToolError,
    open_client,
    open_server,
)
from trio_mcp.progress.exact_sum import ExactSum
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.progress.shares import KEPT_SHARES
from trio_mcp.progress.stages import open_stage, plan_stages
from trio_mcp.wire.codec import decode_lines, encode_lines
from trio_mcp.wire.frames import Notification, ProgressRun, StageState
from trio_mcp.wire.progress_codec import STAGES_META

turn = trio.lowlevel.checkpoint
MEMORY = Wire("memory", MODERN)


async def updates_of(tool: Callable[..., Any], **settings: Any) -> list[Any]:
    """Call `tool` in memory and return the updates that the client's handler sees."""
    return (await run_tool(MEMORY, tool, **settings))[1]


async def test_four_parallel_stages_show_one_smooth_total(wire, autojump_clock):
    """At uneven speeds one number rises: each step of each stage moves it by its own part."""

    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        weights = {"validate": 10, "export": 20, "upload": 30, "index": 40}
        progress.plan(weights)

        async def work(name: str, steps: int, seconds: float) -> None:
            async with progress.stage(name, total=steps) as stage:
                for step in range(1, steps + 1):
                    await trio.sleep(seconds)
                    stage.set_message(f"{step}/{steps}")
                    stage.increment()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, "validate", 5, 0.101)
            nursery.start_soon(work, "export", 10, 0.203)
            nursery.start_soon(work, "upload", 15, 0.307)
            nursery.start_soon(work, "index", 80, 0.013)

    _, updates, params = await run_tool(wire, tool)
    values = [progress for progress, _, _ in updates]
    assert {total for _, total, _ in updates} == {100}
    assert values[0] == 0
    assert values[-1] == 100
    assert all(a <= b for a, b in itertools.pairwise(values)), "monotonic"
    assert max(b - a for a, b in itertools.pairwise(values)) < 4, "smooth: the largest step is 2 of 100"
    assert {message.partition(":")[0] for _, _, message in updates if message is not None} == {
        "validate", "export", "upload", "index"
    }  # fmt: skip
    assert updates[-1][2] is None, "no stage is open any more"
    sent = [param["progress"] for param in params]
    assert all(a < b for a, b in itertools.pairwise(sent)), "MCP progress, MUST increase"


async def test_a_plan_sets_the_total_and_the_shares(wire):
    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        progress.plan({"validate": 25, "export": 35, "publish": 40})
        async with progress.stage("validate"):
            await turn()
        async with progress.stage("export", total=7) as export:
            for table in range(1, 8):
                export.set_message(f"table {table}/7")
                export.increment()
                await turn()
        async with progress.stage("publish"):
            await turn()

    _, updates, _ = await run_tool(wire, tool)
    assert updates == [
        (0, 100, "validate"),
        # An end and a beginning without a checkpoint between them are one notification.
        *((25 + 5 * n, 100, f"export: table {n}/7") for n in range(1, 8)),
        (60, 100, "publish"),
        (100, 100, None),
    ]
    assert all(type(progress) is int for progress, _, _ in updates), "whole numbers are ints"


async def test_weights_without_a_total_are_shares():
    """If no total was set, the sum of the known weights is the total."""

    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("first", weight=30) as first:
            await first.report_progress(1, 2)
        await turn()
        async with ctx.progress().stage("second", weight=70):
            await turn()

    assert await updates_of(tool) == [
        (0, 30, "first"),
        (15, 30, "first"),
        (30, 30, None),
        (30, 100, "second"),
        (100, 100, None),
    ]


async def test_weights_with_a_total_are_counts():
    """If a total was set, a stage counts for as much of it as its weight; other increments still count."""

    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.set_total(10)
        progress.increment()
        await turn()
        async with progress.stage("tables", weight=8, total=2) as tables:
            tables.increment()
            await turn()
            progress.increment()
            await turn()
        return [progress.current, progress.total, progress.message]

    data, updates, _ = await run_tool(MEMORY, tool)
    assert updates == [(1, 10, None), (5, 10, "tables"), (6, 10, "tables"), (10, 10, None)]
    assert data == [10, 10, None]


async def test_a_stage_without_a_weight_is_one_step():
    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        progress.set_total(3)
        for name in ("a", "b", "c"):
            async with progress.stage(name):
                await turn()

    assert await updates_of(tool) == [(0, 3, "a"), (1, 3, "b"), (2, 3, "c"), (3, 3, None)]


async def test_a_total_that_is_set_overrides_the_weights():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({"a": 50})
        seen = [progress.total]
        progress.set_total(200)
        seen.append(progress.total)
        async with progress.stage("a"):
            pass
        async with progress.stage("more", weight=25):
            pass
        return [*seen, progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [50, 200, 75, 200]


async def test_a_cleared_total_is_the_sum_of_the_weights_again():
    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=4, total=4) as stage:
            await ctx.report_progress(0, None, "cleared")
            stage.increment()

    assert [total for _, total, _ in await updates_of(tool)] == [4, None, 4]


async def test_stages_nest_to_any_depth():
    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=16, total=2) as a, a.stage("b", total=4) as b:
            async with b.stage("c", weight=2) as c:
                c.set_total(2)
                c.set_message("halfway")
                c.increment()
                await turn()
            b.set_message("more")
            await turn()

    assert await updates_of(tool) == [
        (2, 16, "a: b: c: halfway"),
        (4, 16, "a: b: more"),
        (16, 16, None),
    ]


async def test_a_stage_of_a_stage_takes_its_weight_from_that_stage_s_plan():
    async def tool(ctx: Context) -> list[Any]:
        async with ctx.progress().stage("all", weight=10) as stage:
            stage.plan({"a": 1, "b": 4})
            async with stage.stage("a"):
                pass
            seen = [stage.current, stage.total, ctx.progress().current]
            async with stage.stage("b", total=8) as b:
                b.increment()
            return [*seen, stage.current, stage.total]

    assert (await run_tool(MEMORY, tool))[0] == [1, 5, 2, 5, 5]


async def test_an_unplanned_stage_keeps_room_for_another_part():
    """Otherwise it would be almost complete after its first part, and progress never decreases."""

    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        seen = []
        async with progress.stage("all", weight=60) as stage:
            for name in ("a", "b"):
                async with stage.stage(name, weight=5):
                    pass
                seen.append(progress.current)
        return [*seen, progress.current]

    assert (await run_tool(MEMORY, tool))[0] == [30, 40, 60]


async def test_an_indeterminate_stage_counts_when_it_ends():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        async with progress.stage("crawl", weight=5) as crawl:
            crawl.increment(57)
            seen = [crawl.current, crawl.total, progress.current]
        return [*seen, progress.current]

    assert (await run_tool(MEMORY, tool))[0] == [57, None, None, 5]


async def test_a_stage_that_counted_too_little_or_too_much_is_complete_at_its_end():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({"little": 10, "much": 10})
        async with progress.stage("little", total=10) as little:
            little.increment(2)
        seen = [progress.current]
        async with progress.stage("much", total=10) as much:
            much.increment(25)
            seen.append(progress.current)
        return [*seen, progress.current]

    assert (await run_tool(MEMORY, tool))[0] == [10, 20, 20]


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_a_stage_that_ends_early_does_not_move_its_parent(wire, end):
    """Progress neither jumps to complete nor goes back; a retry moves it only beyond the old position."""

    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({"export": 50, "publish": 50})
        with trio.CancelScope() as scope:
            try:
                async with progress.stage("export", total=10) as first:
                    await first.report_progress(4, None, "first")
                    if end == "failed":
                        raise KeyError("export")
                    scope.cancel()
                    await turn()
            except KeyError:
                pass
        seen = [progress.current, progress.message]
        async with progress.stage("export", total=10) as second:
            for n in range(1, 7):
                await second.report_progress(n, None, "second")
                seen.append(progress.current)
        return [*seen, progress.current]

    data, updates, params = await run_tool(wire, tool)
    assert data == [20, None, 20, 20, 20, 20, 25, 30, 50]
    assert [update for update in updates if update[2] == "export: second"] == [
        (20, 100, "export: second"),
        (25, 100, "export: second"),
        (30, 100, "export: second"),
    ]
    assert all(a["progress"] < b["progress"] for a, b in itertools.pairwise(params))


async def test_a_failed_stage_without_a_plan_is_retried_by_name_and_weight():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()

        async def fail(name: str, weight: float | None) -> None:
            with contextlib.suppress(KeyError):
                async with progress.stage(name, weight, total=2) as stage:
                    stage.increment()
                    raise KeyError

        await fail("a", 10)
        await fail("a", 10)
        seen = [progress.current, progress.total]
        await fail("a", None)
        seen += [progress.current, progress.total]
        await fail("a", 20)
        return [*seen, progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [5, 10, 5, 10, 15, 30]


async def test_an_exception_leaves_its_stage_unchanged():
    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("outer") as outer, outer.stage("inner"):
            raise ToolError("as it was")

    with pytest.raises(ToolError, match="as it was"):
        await run_tool(MEMORY, tool)


async def test_the_message_is_that_of_the_open_stage_that_reported_last():
    async def tool(ctx: Context) -> list[str | None]:
        progress = ctx.progress()
        progress.set_message("preparing")
        seen = []
        async with progress.stage("a", total=9) as a:
            seen.append(progress.message)
            async with progress.stage("b") as b:
                a.set_message("table 3/9")
                seen.append(progress.message)
                async with b.stage("c") as c:
                    c.set_message("x")
                    seen.append(progress.message)
                    b.increment()
                    seen.append(progress.message)
                    progress.set_message("my own")
                    seen.append(progress.message)
                    c.set_message("y")
                seen += [progress.message, b.message]
                a.increment()
                seen.append(progress.message)
            seen.append(progress.message)
            a.set_message(None)
            seen.append(progress.message)
        return [*seen, progress.message]

    assert (await run_tool(MEMORY, tool))[0] == [
        "a",
        "a: table 3/9",
        "b: c: x",
        "b",
        "my own",
        "b",
        None,
        "a: table 3/9",
        "a: table 3/9",
        "a",
        "my own",
    ]


async def test_a_message_with_its_path_obeys_the_limit_of_messages():
    async def tool(ctx: Context) -> int:
        async with ctx.progress().stage("path") as stage:
            stage.set_message("x" * 16_384)
            return len(ctx.progress().message or "")

    assert (await run_tool(MEMORY, tool))[0] == 16_384


async def test_a_spinner_shows_a_message_and_counts_for_nothing(wire):
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.set_total(4)
        progress.increment()
        with progress.spinner("waiting for the lock") as spinner:
            await turn()
            spinner.set_message("third attempt")
            spinner.increment()
            await turn()
        await turn()
        async with progress.stage("a", weight=3) as a:
            with a.spinner("connecting"):
                await turn()
        return [progress.current, progress.total]

    data, updates, _ = await run_tool(wire, tool)
    assert data == [4, 4]
    assert updates == [
        (1, 4, "waiting for the lock"),
        (1, 4, "waiting for the lock: third attempt"),
        (1, 4, None),
        (1, 4, "a: connecting"),
        (4, 4, None),
    ]


async def test_a_spinner_alone_has_no_total():
    async def tool(ctx: Context) -> None:
        with ctx.progress().spinner("connecting"):
            await turn()

    assert await updates_of(tool) == [(0, None, "connecting"), (0, None, None)]


async def test_thirds_add_up_to_the_whole():
    """However the numbers are rounded, a complete run ends exactly at the total."""

    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({str(n): 0.1 for n in range(10)})
        async with trio.open_nursery() as nursery:

            async def work(name: str) -> None:
                async with progress.stage(name, total=0.7) as stage:
                    for _ in range(7):
                        stage.increment(0.1)
                        await turn()
                    assert stage.current == pytest.approx(0.7, abs=1e-15)

            for n in range(10):
                nursery.start_soon(work, str(n))
        return [progress.current, progress.total]

    data, updates, _ = await run_tool(MEMORY, tool)
    assert data == [1, 1]
    assert updates[-1] == (1, 1, None)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"a": 0}, "larger than 0"),
        ({"a": -1}, "larger than 0"),
        ({"a": math.nan}, "finite"),
        ({"a": math.inf}, "finite"),
        ({"a": "1"}, "finite int or float"),
        ({"a": True}, "finite int or float"),
        ({"": 1}, "needs a name"),
        ({"\ud800": 1}, "UTF-8"),
        ({"a": 1.5e308, "b": 1.5e308}, "the sum of the weights"),
        ({"a": 1, "known": 2}, "planned already"),
    ],
)
async def test_a_plan_is_refused_as_a_whole(weights, words):
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({"known": 5})
        with pytest.raises(ValueError, match=words):
            progress.plan(weights)
        return [progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [None, 5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "other"}, "stage 'other' needs a weight: it is not among the planned 'open', 'ended'"),
        ({"name": "open"}, "stage 'open' of the plan is open already"),
        ({"name": "ended"}, "stage 'ended' of the plan is open or complete already"),
        ({"name": "open", "weight": 3}, "planned with weight 1, not 3"),
        ({"name": "new", "weight": 0}, "larger than 0"),
        ({"name": "new", "weight": 1, "total": 0}, "larger than 0"),
        ({"name": ""}, "needs a name"),
    ],
)
async def test_a_stage_is_refused_when_it_is_entered(arguments, words):
    async def refused(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({"open": 1, "ended": 1})
        async with progress.stage("ended"):
            pass
        async with progress.stage("open"):
            before = [progress.current, progress.total, progress.message]
            with pytest.raises(ValueError, match=words):
                async with progress.stage(**arguments):
                    raise AssertionError("not reached")
            return [before, [progress.current, progress.total, progress.message]]

    before, after = (await run_tool(MEMORY, refused))[0]
    assert before == after


async def test_the_weights_of_unplanned_stages_stay_finite():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        async with progress.stage("a", weight=1.7e308):
            with pytest.raises(ValueError, match="the sum of the weights must be a finite"):
                await progress.stage("b", weight=1.7e308).__aenter__()
        return [progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [1.7e308, 1.7e308]


async def test_changes_of_a_stage_after_its_end_are_ignored_or_refused():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        async with progress.stage("outer", weight=2, total=2) as outer:
            scope = outer.stage("inner", total=2)
            inner = await scope.__aenter__()
        inner.increment()
        inner.set_message("late")
        outer.increment()
        outer.set_message("late")
        outer.set_total(50)
        await outer.report_progress(1, 100, "late")
        await scope.__aexit__(None, None, None)
        with pytest.raises(RuntimeError, match="stage 'outer' has ended"):
            outer.plan({"more": 1})
        with pytest.raises(RuntimeError, match="stage 'outer: inner' has ended"):
            async with inner.stage("more"):
                pass
        with pytest.raises(RuntimeError, match="was entered before"):
            async with scope:
                pass
        return [progress.current, progress.total, progress.message]

    assert (await run_tool(MEMORY, tool))[0] == [2, 2, None]


async def test_entering_and_leaving_a_stage_are_cancellation_points():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        with trio.CancelScope() as entering:
            entering.cancel()
            async with progress.stage("never", weight=5):
                raise AssertionError("not reached")
        seen = [progress.current, progress.total]
        with trio.CancelScope() as leaving:
            async with progress.stage("done", weight=5):
                leaving.cancel()
            raise AssertionError("not reached")
        return [*seen, entering.cancelled_caught, leaving.cancelled_caught, progress.current, progress.total]

    assert (await run_tool(MEMORY, tool))[0] == [None, 1, True, True, 5, 5]


async def test_each_report_of_a_stage_is_a_notification_and_lossless_keeps_all(autojump_clock):
    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=1_000) as stage:
            for n in range(1, 2_001):
                await stage.report_progress(n, 2_000)

    server = Server("stages", settings=ServerSettings(progress=Lossless(buffer=10)))
    server.add_tool(tool)
    seen: list[Any] = []

    async def slow(*update: Any) -> None:
        seen.append(update)
        if len(seen) % 100 == 0:
            await trio.sleep(1)

    async with open_client(server, settings=ClientSettings(progress=Lossless())) as client:
        await client.call_tool("tool", progress_handler=slow)
    assert [update[0] for update in seen[:-1]] == [n / 2 for n in range(2_001)]
    assert seen[-1] == (1_000, 1_000, None)


async def test_a_report_of_a_stage_never_decreases_and_keeps_the_total():
    async def tool(ctx: Context) -> list[Any]:
        async with ctx.progress().stage("a", weight=10, total=10) as stage:
            await stage.report_progress(5, None, "up")
            await stage.report_progress(3)
            return [stage.current, stage.total, stage.message, ctx.progress().current]

    assert (await run_tool(MEMORY, tool))[0] == [5, 10, None, 5]


async def test_a_report_of_the_request_counts_beside_open_stages():
    """It sets the progress of the whole request; the work left in the stages is added to it."""

    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        async with progress.stage("a", weight=50, total=10) as stage:
            stage.increment()
            await ctx.report_progress(60, 100, "jump")
            stage.increment()
            return [progress.current, progress.total, progress.message]

    assert (await run_tool(MEMORY, tool))[0] == [65, 100, "a"]


async def test_stages_work_in_worker_threads(wire):
    async def tool(ctx: Context) -> list[Any]:
        return await trio.to_thread.run_sync(work, ctx.progress())

    def work(progress: ProgressHelper) -> list[Any]:
        progress.plan({"a": 1, "b": 3})
        with progress.stage("a", total=2) as a:
            a.increment()
            a.report_progress(2)
        try:
            with progress.stage("b", total=3) as b:
                for _ in b.track("xyz"):
                    if b.current:
                        raise KeyError
        except KeyError:
            pass
        with progress.spinner("resting"):
            seen = [progress.message]
        return [*seen, progress.current, progress.total, progress.message]

    data, updates, _ = await run_tool(wire, tool)
    assert data == ["resting", 2, 4, None]
    assert updates[-1] == (2, 4, None)
    assert (0.5, 4, "a") in updates


async def test_a_stage_in_a_cancelled_thread_ends_with_it():
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        entered = trio.Event()

        def work() -> None:
            with progress.stage("a", weight=3, total=3) as stage:
                stage.increment()
                trio.from_thread.run_sync(entered.set)
                while True:
                    trio.from_thread.run(trio.sleep, 0)

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, work)
                await entered.wait()
                scope.cancel()
        await turn()
        return [progress.current, progress.total, progress.message]

    assert (await run_tool(MEMORY, tool))[0] == [1, 3, None]


async def test_stages_without_a_token_send_nothing(wire):
    async def tool(ctx: Context) -> list[Any]:
        async with ctx.progress().stage("a", weight=4, total=2) as stage:
            stage.increment()
            await stage.report_progress(1, 2, "half")
            return [ctx.progress().current, ctx.progress().total, ctx.progress().message]

    server = Server("silent")
    server.add_tool(tool)
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        assert (await client.call_tool("tool")).data == [2, 4, "a: half"]
    assert recorder.received_messages("notifications/progress") == []


async def test_stages_of_a_background_task_are_on_its_record(wire):
    """Their sum is on the task's record, and reaches the client before the result."""
    server = Server("tasks")
    release = trio.Event()

    @server.tool(task=True)
    async def work(ctx: Context) -> str:
        progress = ctx.progress()
        progress.plan({"a": 1, "b": 3})
        async with progress.stage("a"):
            pass
        async with progress.stage("b", total=3) as b:
            b.increment()
            b.set_message("1/3")
            await release.wait()
        return "worked"

    updates: list[Any] = []
    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool(
            "work", task=True, progress_handler=lambda *update: updates.append(update)
        )
        with trio.fail_after(HANG_SECONDS):
            while (snapshot := await client.fetch_task(task.id)).message != "b: 1/3":
                await turn()
        assert (snapshot.current, snapshot.total) == (2, 4)
        release.set()
        assert (await task.result()).data == "worked"
    assert updates[-1] == (4, 4, None)
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(updates))


def count_calls(function: Callable[[], Any]) -> int:
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


async def test_an_update_costs_as_much_beside_a_thousand_open_stages():
    def cost(siblings: int) -> int:
        progress = ProgressReporter(None)
        plan_stages(progress, {str(n): 0.1 + n for n in range(siblings)})
        stages = [open_stage(progress, str(n), None, 1000) for n in range(siblings)]
        for stage in stages:
            stage.increment(0.3)
        return count_calls(lambda: stages[0].increment(0.3))

    assert cost(1_000) < 2 * cost(2), "an exact sum may have a few more parts"


async def test_the_memory_of_failed_stages_is_bounded():
    progress = ProgressReporter(None)
    for n in range(3 * KEPT_SHARES):
        open_stage(progress, str(n), 1, None).end(complete=False)
    assert progress.stages is not None
    shares = progress.stages.shares
    assert len(shares._failed) == KEPT_SHARES
    assert not shares.open
    assert shares.weights.value == 3 * KEPT_SHARES


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(-1e9, 1e9),
)


@given(st.lists(NUMBERS, max_size=30), st.data())
def test_an_exact_sum_is_the_sum_of_what_is_in_it(numbers, data):
    total = ExactSum()
    for number in numbers:
        total.add(number)
    for index, old in enumerate(numbers):
        numbers[index] = data.draw(NUMBERS)
        total.replace(old, numbers[index])
    exact = sum(map(Fraction, numbers), Fraction())
    assert total.value in (exact, float(exact)), "rounded once, or not at all"


async def test_the_open_stages_travel_beside_the_progress(wire, autojump_clock):
    """They are in `_meta` of the last update of a write if they have changed; the list ends up empty."""

    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        async with progress.stage("a", weight=4, total=2) as a:
            a.set_message("first")
            await trio.sleep(1)
            a.increment()
            async with a.stage("b") as b, progress.stage("c", weight=4, total=2):
                b.increment(57)
                await trio.sleep(1)
                await ctx.report_progress(4, 8, "only the request moves")
                await trio.sleep(1)
        await trio.sleep(1)
        await ctx.report_progress(8, 8)

    _, updates, params = await run_tool(wire, tool)
    told = [param.get("_meta", {}).get(STAGES_META) for param in params]
    assert [stages for stages in told if stages is not None] == [
        [{"path": ["a"], "total": 2, "message": "first"}],
        [
            {"path": ["a"], "progress": 1, "total": 2, "message": "first"},
            {"path": ["a", "b"], "progress": 57},
            {"path": ["c"], "total": 2},
        ],
        [],
    ]
    assert (4, 8, "only the request moves") in updates


async def test_at_most_sixteen_stages_with_short_texts_are_sent(autojump_clock):
    async def tool(ctx: Context) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stage = ctx.progress()
            for n in range(20):
                stage = await stack.enter_async_context(stage.stage(f"{n} " + "x" * 1_000))
                stage.set_message("y" * 1_000)
            await trio.sleep(1)

    _, _, params = await run_tool(MEMORY, tool)
    # On a busy machine the writer may write before all of them are open.
    stages = max((param.get("_meta", {}).get(STAGES_META, []) for param in params), key=len)
    assert len(stages) == 16
    assert {len(name) for stage in stages for name in stage["path"]} == {256}
    assert {len(stage["message"]) for stage in stages} == {256}


async def test_a_task_keeps_sending_its_open_stages_to_its_client(autojump_clock):
    """In 2025-11-25 the token lives on with the task; its client keeps getting only changes of the stages."""
    server = Server("tasks")

    @server.tool(task=True)
    async def work(ctx: Context) -> None:
        async with ctx.progress().stage("a", weight=2, total=2) as a:
            await trio.sleep(1)
            a.increment()
            await trio.sleep(1)

    wire = Wire("memory", LEGACY)
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.call_tool("work", progress_handler=lambda *update: None)
    params = [message["params"] for message in recorder.received_messages("notifications/progress")]
    told = [param["_meta"][STAGES_META] for param in params if STAGES_META in param["_meta"]]
    assert told == [[{"path": ["a"], "total": 2}], [{"path": ["a"], "progress": 1, "total": 2}], []]


def test_open_stages_are_decoded_with_the_run_that_carries_them():
    stages = (StageState(("a", "b"), 1, 2.5, "words"), StageState(("c",)))
    updates = [(1, None, None, None), (2, None, None, None)]
    for later in (None, (), stages[:1]):
        frames = [ProgressRun(0, list(updates), None, stages), ProgressRun(0, list(updates), None, later)]
        data = encode_lines(frames)
        log = Notification("notifications/message")
        assert decode_lines(data) == [ProgressRun(0, updates * 2, None, stages if later is None else later)]
        assert decode_lines(data + encode_lines([log])) == [*decode_lines(data), log], "among other messages"
    assert decode_lines(encode_lines([ProgressRun(0, updates)])) == [ProgressRun(0, updates)]


@pytest.mark.parametrize("stages", ["5", '[{"path":5}]', '[{"path":["a"],"progress":"x"}]'])
def test_malformed_stages_are_left_out_of_the_progress(stages):
    """They are for display only, so the progress beside them arrives."""
    line = (
        '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":2,'
        f'"_meta":{{"{STAGES_META}":{stages}}}}}}}\n'
    )
    (frame,) = decode_lines(line.encode())
    assert frame == ProgressRun(1, [(2, None, None, None)])
