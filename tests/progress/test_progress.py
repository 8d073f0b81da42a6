"""Reporting progress through the helper and the context, also from threads, and what each refuses."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from tests.support.turns import counting_turns
from trio_mcp import CallTimeout, Client, Context, RequestCancelled, Server, ServerSettings

PROGRESS = "notifications/progress"


async def run_tool(wire: Any, tool: Any, **settings: Any) -> tuple[Any, list[Any], list[Any]]:
    """Call `tool` and return its result, the updates of the handler, and the parameters sent."""
    server = Server("progress", version="1", settings=ServerSettings(show_errors=True, **settings))
    server.add_tool(tool, name="tool")
    recorder = wire.recorder(server)
    updates: list[Any] = []
    async with wire.open(recorder) as client:
        result = await client.call_tool("tool", progress_handler=lambda *update: updates.append(update))
    return result.data, updates, [message["params"] for message in recorder.received_messages(PROGRESS)]


async def test_the_helper_shows_its_values(wire):
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        fresh = [progress.current, progress.total, progress.message]
        progress.set_total(10)
        progress.increment()
        progress.increment(2)
        progress.set_message("Testing")
        assert ctx.progress().current == 3
        return [*fresh, progress.current, progress.total, progress.message]

    data, updates, _ = await run_tool(wire, tool)
    assert data == [None, 1, None, 3, 10, "Testing"]
    assert updates == [(3, 10, "Testing")], "without a checkpoint between them they leave as one"


async def test_updates_with_a_checkpoint_between_them_leave_apart(wire):
    async def tool(ctx: Context) -> None:
        progress = ctx.progress()
        progress.increment()
        await trio.lowlevel.checkpoint()
        progress.set_message("second")
        await trio.lowlevel.checkpoint()
        progress.set_total(5)

    _, updates, params = await run_tool(wire, tool)
    assert updates == [(1, None, None), (1, None, "second"), (1, 5, "second")]
    assert params[0]["progress"] == 1
    assert params[1]["progress"] == 1.00000001
    assert params[2]["progress"] > params[1]["progress"]


async def test_no_total_is_sent_before_it_is_set(wire):
    async def tool(ctx: Context) -> None:
        ctx.progress().increment()

    _, updates, params = await run_tool(wire, tool)
    assert updates == [(1, None, None)]
    assert set(params[0]) == {"progressToken", "progress"}, "absent, never null"


async def test_a_message_before_the_first_increment_sends_zero(wire):
    async def tool(ctx: Context) -> Any:
        ctx.progress().set_message("starting")
        await trio.lowlevel.checkpoint()
        return ctx.progress().current

    data, updates, params = await run_tool(wire, tool)
    assert data is None
    assert updates == [(0, None, "starting")]
    assert params[0]["progress"] == 0


async def test_message_only_updates_increase_for_foreign_clients_and_stay_for_ours(wire):
    async def tool(ctx: Context) -> None:
        for word in ("a", "b", "c"):
            await ctx.report_progress(7, None, word)

    _, updates, params = await run_tool(wire, tool)
    assert updates == [(7, None, "a"), (7, None, "b"), (7, None, "c")]
    assert params[0]["progress"] < params[1]["progress"] < params[2]["progress"] < 7.0001


async def test_report_sets_all_three_and_none_clears(wire):
    async def tool(ctx: Context) -> list[Any]:
        await ctx.report_progress(1, 2, "words")
        await ctx.report_progress(1.5)
        progress = ctx.progress()
        return [progress.current, progress.total, progress.message]

    data, updates, params = await run_tool(wire, tool)
    assert data == [1.5, None, None]
    assert updates == [(1, 2, "words"), (1.5, None, None)]
    assert set(params[1]) == {"progressToken", "progress"}, "absent, never null"


async def test_integers_stay_integers_and_floats_floats(wire):
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(0)
        await ctx.report_progress(0.25, 1.0)
        await ctx.report_progress(2**62, 2**62)
        await ctx.report_progress(2**70, 2**70)

    _, updates, _ = await run_tool(wire, tool)
    assert updates == [(0, None, None), (0.25, 1.0, None), (2**62, 2**62, None), (2.0**70, 2.0**70, None)]
    assert [type(update[0]) for update in updates] == [int, float, int, float]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "3", None, [], 10**400])
async def test_report_refuses_anything_but_a_number(wire, value):
    async def tool(ctx: Context) -> None:
        with pytest.raises(ValueError, match="finite int or float"):
            await ctx.report_progress(value)
        if value is not None:
            with pytest.raises(ValueError, match="finite int or float"):
                await ctx.report_progress(1, value)

    _, updates, _ = await run_tool(wire, tool)
    assert updates == []


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("set_total", 0, "larger than 0"),
        ("set_total", -5, "larger than 0"),
        ("set_total", math.inf, "finite"),
        ("set_total", "10", "finite int or float"),
        ("increment", 0, "larger than 0"),
        ("increment", -1, "larger than 0"),
        ("increment", "1", "finite int or float"),
        ("increment", math.nan, "finite int or float"),
        ("increment", True, "finite int or float"),
        ("set_message", 5, "str or None"),
        ("set_message", b"bytes", "str or None"),
        ("set_message", "\ud800", "UTF-8"),
        ("set_message", "x" * 20_000, "16384"),
    ],
)
async def test_the_helper_refuses_bad_values_and_says_what_is_allowed(wire, method, value, words):
    async def tool(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        with pytest.raises((ValueError, TypeError), match=words):
            getattr(progress, method)(value)
        return [progress.current, progress.total, progress.message]

    data, updates, _ = await run_tool(wire, tool)
    assert data == [None, 1, None], "a refused update changes nothing"
    assert updates == []


async def test_a_message_of_the_wrong_type_is_refused(wire):
    async def tool(ctx: Context) -> None:
        with pytest.raises(TypeError, match="str or None"):
            await ctx.report_progress(1, 2, 3)  # type: ignore[arg-type]

    assert (await run_tool(wire, tool))[1] == []


async def test_report_is_always_a_cancellation_point(wire):
    async def tool(ctx: Context) -> str:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ctx.report_progress(1)
            return "went on"
        return "cancelled"

    assert (await run_tool(wire, tool))[0] == "cancelled"


async def test_a_loop_of_reports_lets_other_tasks_run(wire):
    """Reports yield by elapsed time: a tight loop starves no other task."""

    async def tool(ctx: Context) -> int:
        async with counting_turns() as turns:
            for i in range(5_000):
                await ctx.report_progress(i)
        return turns.count

    assert (await run_tool(wire, tool))[0] > 10


async def test_strict_yield_yields_at_every_report(wire):
    async def tool(ctx: Context) -> int:
        async with counting_turns() as turns:
            await trio.lowlevel.checkpoint()
            for i in range(100):
                await ctx.report_progress(i)
        return turns.count

    turns = (await run_tool(wire, tool, strict_yield=True))[0]
    assert turns >= 99, "one round for each report, but for the order within the first and last"


async def test_sync_tools_report_from_their_thread(wire):
    def tool(ctx: Context) -> list[Any]:
        assert threading.current_thread() is not threading.main_thread()
        ctx.report_progress(1, 3, "reported")
        progress = ctx.progress()
        progress.increment()
        progress.set_message("helped")
        with pytest.raises(ValueError, match="finite"):
            ctx.report_progress(math.nan)
        with pytest.raises(ValueError, match="larger than 0"):
            progress.increment(0)
        trio.from_thread.run(ctx.report_progress, 3, 3)
        return [progress.current, progress.total, progress.message]

    data, updates, _ = await run_tool(wire, tool)
    assert data == [3, 3, None]
    assert updates == [(1, 3, "reported"), (2, 3, "reported"), (2, 3, "helped"), (3, 3, None)]


async def test_a_thread_that_trio_did_not_start_can_report(wire):
    def tool(ctx: Context) -> None:
        with ThreadPoolExecutor(2) as pool:
            for i in range(1, 4):
                pool.submit(ctx.report_progress, i, 3).result(HANG_SECONDS)
            pool.submit(ctx.check_cancelled).result(HANG_SECONDS)

    _, updates, _ = await run_tool(wire, tool)
    assert updates == [(1, 3, None), (2, 3, None), (3, 3, None)]


async def test_an_abandoned_thread_is_cancelled_by_its_next_report(wire):
    """A cancelled sync tool runs on in its thread until it reports or checks for cancellation."""
    server = Server("threads", version="1")
    outcomes: list[str] = []
    reached, cancelled, done = threading.Event(), threading.Event(), threading.Event()

    @server.tool
    def work(ctx: Context) -> None:
        ctx.report_progress(1)
        reached.set()
        assert cancelled.wait(HANG_SECONDS)
        for name, attempt in (
            ("report", lambda: ctx.report_progress(2)),
            ("helper", ctx.progress().increment),
            ("check", ctx.check_cancelled),
        ):
            try:
                attempt()
            except trio.Cancelled:  # noqa: ASYNC103  # it belongs to the thread, whose function returns
                outcomes.append(name)
        with ThreadPoolExecutor(1) as pool:
            try:
                pool.submit(ctx.report_progress, 3).result(HANG_SECONDS)
            except RequestCancelled:
                outcomes.append("foreign")
        done.set()

    async with wire.open(server) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("work", progress_handler=lambda *update: scope.cancel())
        with trio.fail_after(HANG_SECONDS):
            await client.ping()
        await trio.testing.wait_all_tasks_blocked(0.01)
        cancelled.set()
        with trio.fail_after(HANG_SECONDS):
            await trio.to_thread.run_sync(done.wait)
    assert outcomes == ["report", "helper", "check", "foreign"]


async def test_check_cancelled_is_refused_outside_threads(wire):
    async def tool(ctx: Context) -> None:
        with pytest.raises(RuntimeError, match="checkpoint"):
            ctx.check_cancelled()

    await run_tool(wire, tool)


async def test_a_report_after_the_end_is_ignored(wire, caplog):
    caplog.set_level("DEBUG", "trio_mcp")
    server = Server("late", version="1")
    kept: list[Context] = []

    @server.tool
    async def keep(ctx: Context) -> None:
        kept.append(ctx)

    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.call_tool("keep", progress_handler=lambda *update: None)
        await kept[0].report_progress(5)
        kept[0].progress().increment()
        await client.ping()
    assert recorder.received_messages(PROGRESS) == []
    assert "after the end of the call" in caplog.text


async def test_interleaved_calls_never_see_each_other(wire):
    server = Server("two", version="1")

    @server.tool
    async def count(ctx: Context, base: int) -> None:
        for i in range(100):
            await ctx.report_progress(base + i)
            await trio.lowlevel.checkpoint()

    seen: dict[int, list[float]] = {0: [], 1000: []}
    async with wire.open(server) as client, trio.open_nursery() as nursery:

        async def call(base: int) -> None:
            await client.call_tool(
                "count", {"base": base}, progress_handler=lambda progress, *rest: seen[base].append(progress)
            )

        for base in seen:
            nursery.start_soon(call, base)
    assert seen == {base: list(range(base, base + 100)) for base in seen}


async def test_a_raising_handler_does_not_disturb_the_call(wire, caplog):
    async def tool(ctx: Context) -> str:
        for i in range(3):
            await ctx.report_progress(i)
        return "fine"

    server = Server("raise", version="1")
    server.add_tool(tool)
    calls = 0

    def handler(*update: Any) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("from the handler")

    async with wire.open(server) as client:
        assert (await client.call_tool("tool", progress_handler=handler)).data == "fine"
    assert calls == 3
    assert "a progress handler failed" in caplog.text


async def test_a_handler_may_call_the_same_client(wire):
    server = Server("nested", version="1")

    @server.tool
    async def outer(ctx: Context) -> str:
        await ctx.report_progress(1)
        await ctx.report_progress(2)
        return "outer"

    @server.tool
    async def inner() -> str:
        return "inner"

    answers: list[str] = []

    async with wire.open(server) as client:

        async def handler(*update: Any) -> None:
            answers.append((await client.call_tool("inner")).data)

        assert (await client.call_tool("outer", progress_handler=handler)).data == "outer"
    assert answers == ["inner", "inner"]


async def test_the_call_s_handler_replaces_the_client_s(wire):
    async def tool(ctx: Context) -> None:
        await ctx.report_progress(1)

    server = Server("handlers", version="1")
    server.add_tool(tool)
    general: list[float] = []
    special: list[float] = []
    async with wire.open(server, progress_handler=lambda progress, *rest: general.append(progress)) as client:
        await client.call_tool("tool")
        await client.call_tool("tool", progress_handler=lambda progress, *rest: special.append(progress))
    assert (general, special) == ([1], [1])
    with pytest.raises(TypeError, match="callable"):
        async with wire.open(server, progress_handler="print"):
            raise AssertionError("never reached")


async def idle_server() -> Server:
    server = Server("idle", version="1")

    @server.tool
    async def work(ctx: Context, reports: int, pause: float, then: float = 0) -> str:
        for i in range(reports):
            await trio.sleep(pause)
            await ctx.report_progress(i)
        await trio.sleep(then)
        return "worked"

    return server


async def test_progress_moves_the_idle_timeout(wire, autojump_clock):
    async with wire.open(await idle_server()) as client:
        arguments = {"reports": 20, "pause": 0.5}
        result = await client.call_tool("work", arguments, idle_timeout=1, max_timeout=60)
        assert result.data == "worked"


async def _expect_timeout(client: Client, arguments: dict[str, Any], **timeouts: float) -> float:
    started = trio.current_time()
    with pytest.raises(CallTimeout) as caught:
        await client.call_tool("work", arguments, **timeouts)
    assert isinstance(caught.value, trio.TooSlowError)
    return trio.current_time() - started


async def test_idle_and_total_timeouts_end_a_call(wire, autojump_clock):
    async with wire.open(await idle_server()) as client:
        silent = {"reports": 4, "pause": 0.5, "then": 100}
        assert await _expect_timeout(client, silent, idle_timeout=1) == pytest.approx(3, abs=0.1)
        endless = {"reports": 1000, "pause": 0.5}
        assert await _expect_timeout(client, endless, idle_timeout=1) == pytest.approx(10, abs=0.1)
        assert await _expect_timeout(client, endless, max_timeout=4) == pytest.approx(4, abs=0.1)
        for bad in (0, -1, math.nan, "1", True):
            with pytest.raises(ValueError, match="larger than 0"):
                await client.call_tool("work", endless, idle_timeout=bad)


async def test_a_slow_handler_is_no_timeout_of_the_server(wire, autojump_clock):
    """Once the response has arrived, the progress handler may take as long as it likes."""

    async def tool(ctx: Context) -> str:
        for i in range(5):
            await ctx.report_progress(i)
        return "fine"

    server = Server("slow handler", version="1")
    server.add_tool(tool)

    async def handler(*update: Any) -> None:
        await trio.sleep(30)

    async with wire.open(server) as client:
        result = await client.call_tool("tool", progress_handler=handler, idle_timeout=1)
        assert result.data == "fine"
