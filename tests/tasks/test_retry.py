"""A handler that fails is begun again in the same process: when, how often, and what those who watch see."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio

from tests.conftest import MODERN
from tests.tasks.task_server import Name
from trio_mcp import (
    Context,
    Lossless,
    ProtocolError,
    Retry,
    Server,
    TaskCancelled,
    TaskConfig,
    TaskSettings,
    ToolError,
    open_client,
    open_server,
)

RETRY = Retry(attempts=3, backoff=10)


def make_server(retry: Retry = RETRY, *, settings: TaskSettings | None = None, **options: Any) -> Server:
    return Server(
        "retry", task_settings=settings, default_task=TaskConfig(retry=retry, promote_after=0, **options)
    )


async def test_a_handler_that_fails_is_begun_again_until_it_succeeds(wire, autojump_clock, caplog):
    server = make_server()
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> str:
        begun.append(ctx.attempt)
        if ctx.attempt < 3:
            raise KeyError("not yet")
        return f"done at {ctx.attempt}"

    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "done at 3"
        record = await running.fetch_task(task.id)
    assert begun == [1, 2, 3]
    assert record.attempt == 3
    assert record.status_message is None
    assert [line.message for line in caplog.records] == [
        f"tool 'work' failed in task {record.id}, attempt {number} of 3" for number in (1, 2)
    ]


async def test_the_last_failure_is_the_answer(wire, autojump_clock, caplog):
    server = make_server()
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context) -> None:
        begun.append(ctx.attempt)
        raise ToolError(f"attempt {ctx.attempt} has failed")

    async with wire.open(server) as client:
        task = await client.call_tool("work", task=True)
        result = await task.result(raise_on_error=False)
    assert result.is_error
    assert result.text == "attempt 3 has failed"
    assert begun == [1, 2, 3]


async def test_only_the_chosen_failures_are_followed_by_another_attempt(autojump_clock, caplog):
    server = make_server(Retry(attempts=5, backoff=1, on=(OSError, ValueError)))
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context, failures: list[str]) -> None:
        begun.append(ctx.attempt)
        kinds: dict[str, type[Exception]] = {"os": OSError, "value": ValueError, "key": KeyError}
        raise ExceptionGroup("all of them", [kinds[name]("on purpose") for name in failures])

    async with open_client(server) as client:
        for failures, attempts in ((["os", "value"], 5), (["os", "key"], 1)):
            begun.clear()
            task = await client.call_tool("work", {"failures": failures}, task=True)
            assert (await task.result(raise_on_error=False)).is_error
            assert len(begun) == attempts


async def test_a_protocol_error_and_wrong_arguments_end_the_task_at_once(autojump_clock):
    server = make_server()
    begun: list[int] = []

    @server.tool
    async def work(ctx: Context, n: int) -> None:
        begun.append(ctx.attempt)
        raise ProtocolError(-32050, "refused")

    async with open_client(server) as client:
        task = await client.call_tool("work", {"n": 1}, task=True)
        with pytest.raises(ProtocolError, match="refused"):
            await task.result()
        assert begun == [1]
        task = await client.call_tool("work", {"n": "many"}, task=True)
        assert (await task.result(raise_on_error=False)).is_error
        assert trio.current_time() < 5, "nothing waited for another attempt"


async def test_the_record_says_what_it_waits_for_and_the_time_doubles_up_to_the_most(autojump_clock, caplog):
    server = make_server(Retry(attempts=5, backoff=10, max_backoff=30))
    begun: list[float] = []

    @server.tool
    async def work(ctx: Context) -> None:
        begun.append(trio.current_time())
        raise ToolError("no")

    messages: list[str | None] = []
    async with open_server(server) as running, open_client(running) as client:
        task = await client.call_tool("work", task=True)
        async with running.watch_task(task.id) as records:
            async for record in records:
                messages.append(record.status_message)
    waited = [later - earlier for earlier, later in itertools.pairwise(begun)]
    for seconds, most in zip(waited, (10, 20, 30, 30), strict=True):
        assert most / 2 <= seconds <= most
    told = list(dict.fromkeys(message for message in messages if message))  # a record may be shown twice
    assert [message.partition(";")[0] for message in told] == [
        f"Attempt {number} of 5 failed" for number in (1, 2, 3, 4)
    ]
    assert all("; the next begins in " in message for message in told)


async def test_a_task_that_waits_for_its_next_attempt_is_cancelled_at_once(wire, autojump_clock, caplog):
    server = make_server(Retry(attempts=2, backoff=1000, max_backoff=1000))
    failed = trio.Event()

    @server.tool
    async def work(ctx: Context) -> None:
        assert ctx.attempt == 1
        failed.set()
        raise ToolError("no")

    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", task=True)
        await failed.wait()
        await trio.sleep(1)
        begun = trio.current_time()
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        await running.await_task(task.id)
        assert trio.current_time() - begun < 100


async def test_others_run_while_a_task_waits_for_its_next_attempt(autojump_clock, caplog):
    server = make_server(settings=TaskSettings(max_running=1))
    order: list[str] = []

    @server.tool
    async def fails_once(ctx: Context) -> str:
        order.append(f"fails {ctx.attempt}")
        if ctx.attempt == 1:
            raise ToolError("no")
        return "done"

    @server.tool
    async def other(ctx: Context) -> str:
        order.append("other")
        return "other"

    async with open_client(server) as client:
        first = await client.call_tool("fails_once", task=True)
        second = await client.call_tool("other", task=True)
        assert (await second.result()).data == "other"
        assert (await first.result()).data == "done"
    assert order == ["fails 1", "other", "fails 2"]


async def test_a_place_is_free_after_a_task_was_cancelled_while_it_waited(autojump_clock, caplog):
    server = make_server(settings=TaskSettings(max_running=1))

    @server.tool
    async def work(ctx: Context, fails: bool) -> str:
        if fails:
            raise ToolError("no")
        return "done"

    async with open_server(server) as running, open_client(running) as client:
        for _ in range(3):
            task = await client.call_tool("work", {"fails": True}, task=True)
            await trio.sleep(1)
            await task.cancel()
        task = await client.call_tool("work", {"fails": False}, task=True)
        assert (await task.result()).data == "done"


async def test_the_timeout_counts_for_each_attempt(autojump_clock, caplog):
    server = make_server(timeout=5)
    left: list[float] = []

    @server.tool
    async def work(ctx: Context) -> str:
        left.append(ctx.deadline - trio.current_time())
        await trio.sleep(6 if ctx.attempt == 1 else 4)
        return "done"

    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "done"
    assert left == pytest.approx([5, 5])


async def test_a_task_that_waits_has_not_stalled(autojump_clock, caplog):
    server = make_server(Retry(attempts=2, backoff=100), stall_after=20, on_stall="cancel")

    @server.tool
    async def work(ctx: Context) -> str:
        if ctx.attempt == 1:
            raise ToolError("no")
        return "done"

    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "done"


@pytest.mark.parametrize("how", ["report", "increment", "stage"])
async def test_progress_never_goes_back_when_an_attempt_begins(wire, autojump_clock, caplog, how):
    server = make_server()

    @server.tool
    async def work(ctx: Context) -> str:
        progress = ctx.progress()
        assert progress.current is None
        for step in range(10):
            if how == "report":
                await ctx.report_progress(step + 1, 10, f"attempt {ctx.attempt}")
            elif how == "increment":
                progress.set_total(10)
                progress.increment()
            else:
                progress.set_total(10)
                with progress.stage(f"step {step}", weight=1):
                    await trio.sleep(1)
            await trio.sleep(1)
            if step == 4 and ctx.attempt == 1:
                raise ToolError("half way")
        return "done"

    seen: list[float | None] = []
    watched: list[float | None] = []
    async with open_server(server) as running, wire.open_running(running) as client:
        task = await client.call_tool("work", task=True, progress_handler=lambda now, *rest: seen.append(now))
        async with running.watch_task(task.id) as records:
            async for record in records:
                watched.append(None if record.progress is None else record.progress.current)
        assert (await task.result()).data == "done"
    numbers = [number for number in watched if number is not None]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 10
    told = [number for number in seen if number is not None]
    assert told == sorted(told)
    assert told[-1] == 10


async def test_a_direct_call_that_may_become_a_task_shows_one_progress_over_its_attempts(
    wire, autojump_clock, caplog
):
    server = Server("retry")

    @server.tool(task=TaskConfig(retry=Retry(attempts=2, backoff=1), promote_after=100), progress=Lossless())
    async def work(ctx: Context) -> str:
        for step in range(6):
            await ctx.report_progress(step + 1, 6)
            if step == 2 and ctx.attempt == 1:
                raise ToolError("no")
        return f"attempt {ctx.attempt}"

    seen: list[float] = []
    async with wire.open(server) as client:
        result = await client.call_tool(
            "work", raise_on_error=False, progress_handler=lambda now, *rest: seen.append(now)
        )
    if wire.protocol == MODERN:
        assert result.data == "attempt 2"
        assert seen == [1, 2, 3, 4, 5, 6]
    else:  # this revision answers such a call directly, without another attempt
        assert result.is_error
        assert seen == [1, 2, 3]


async def test_a_question_that_was_answered_is_not_asked_again(wire, autojump_clock, caplog):
    server = make_server()
    asked: list[str] = []

    @server.tool
    async def work(ctx: Context) -> list[str]:
        answers = [(await ctx.elicit(text, Name)).data.name for text in ("Who?", "Where?", "Who?")]
        if ctx.attempt == 1:
            raise ToolError("no")
        answers.append((await ctx.elicit("When?", Name)).data.name)
        return answers

    def answer(request: Any) -> dict[str, str]:
        asked.append(request.message)
        return {"name": f"{request.message}-{len(asked)}"}

    async with wire.open(server, elicitation_handler=answer) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == ["Who?-1", "Where?-2", "Who?-3", "When?-4"]
    assert asked == ["Who?", "Where?", "Who?", "When?"]


async def test_a_checkpoint_of_one_attempt_is_found_by_the_next(wire, autojump_clock, caplog):
    server = make_server()
    found: list[Any] = []

    @server.tool
    async def work(ctx: Context) -> str:
        found.append(ctx.restored)
        for step in range(ctx.restored["step"] if ctx.restored else 0, 6):
            if step == 3 and ctx.attempt == 1:
                raise ToolError("no")
            await ctx.checkpoint({"step": step + 1})
        return "done"

    async with wire.open(server) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "done"
    assert found == [None, {"step": 3}]


async def test_a_sync_tool_keeps_a_checkpoint_from_its_thread():
    server = make_server(Retry(attempts=2, backoff=0))

    @server.tool
    def work(ctx: Context) -> str:
        if ctx.attempt == 1:
            ctx.checkpoint("kept")
            raise ToolError("no")
        return str(ctx.restored)

    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == "kept"


async def test_a_checkpoint_must_be_json_and_not_too_large():
    server = make_server()
    refused: list[str] = []

    @server.tool
    async def work(ctx: Context) -> str:
        for value in (object(), {"a": float("nan")}, "x" * 2_000_000):
            try:
                await ctx.checkpoint(value)
            except ValueError as error:
                refused.append(str(error))
        assert ctx.restored is None
        return "done"

    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        await task.result()
    assert len(refused) == 3
    assert "1048576 bytes" in refused[2]


async def test_a_call_that_is_no_task_has_one_attempt_and_keeps_nothing(wire):
    server = Server("plain")

    @server.tool
    async def work(ctx: Context) -> list[Any]:
        await ctx.checkpoint(1)
        return [ctx.attempt, ctx.restored]

    async with wire.open(server) as client:
        assert (await client.call_tool("work")).data == [1, None]


async def test_a_tool_that_another_calls_does_not_touch_its_checkpoint(autojump_clock, caplog):
    server = make_server()

    @server.tool
    async def inner(ctx: Context) -> list[Any]:
        await ctx.checkpoint("of the inner one")
        return [ctx.attempt, ctx.restored]

    @server.tool
    async def outer(ctx: Context) -> list[Any]:
        found = (await ctx.call_tool("inner")).data
        if ctx.attempt == 1:
            await ctx.checkpoint("of the outer one")
            await ctx.call_tool("inner")
            raise ToolError("no")
        return [*found, ctx.restored]

    async with open_client(server) as client:
        task = await client.call_tool("outer", task=True)
        assert (await task.result()).data == [1, None, "of the outer one"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 1}, "attempts must be at least 2"),
        ({"attempts": 0}, "attempts must be an integer larger than 0"),
        ({"backoff": -1}, "backoff must be a finite number of at least 0"),
        ({"on": ()}, "on must be exception types"),
        ({"on": (trio.Cancelled,)}, "on must be exception types"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Retry(**options)


def test_the_wait_before_an_attempt_is_bounded_for_every_number():
    retry = Retry(attempts=10_000, backoff=0.5, max_backoff=60)
    assert [retry.find_backoff(failed) for failed in (1, 2, 3, 9_999)] == [0.5, 1, 2, 60]


def test_a_task_that_is_to_be_run_again_needs_more_than_one_attempt():
    with pytest.raises(ValueError, match="attempts must be at least 2"):
        TaskConfig(recover="restart")
    assert TaskConfig(recover="restart", attempts=2).attempts == 2
