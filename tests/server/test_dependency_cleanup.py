"""How what a handler depends on is cleaned up: in reverse, however the handler ends, and within a bound."""

import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp import Context, Depends, Server, ServerSettings, TaskCancelled, ToolError, open_client

wait = functools.partial(threading.Event.wait, timeout=HANG_SECONDS)


def make_opener(log: list[str]) -> Callable[[str], Callable[[], AsyncIterator[str]]]:
    """Makes async dependencies that log their beginning and how they end."""

    def name_it(name: str) -> Callable[[], AsyncIterator[str]]:
        async def opened() -> AsyncIterator[str]:  # noqa: ASYNC900
            log.append(f"open {name}")
            ended_by = "nothing"
            try:
                yield name
            except BaseException as error:
                ended_by = type(error).__name__
                raise
            finally:
                await trio.sleep(1)  # a checkpoint, which a cancelled call would not pass  # noqa: ASYNC102
                log.append(f"close {name} after {ended_by}")

        return opened

    return name_it


async def test_cleanup_runs_in_reverse_and_sees_the_error(autojump_clock: Any) -> None:
    log: list[str] = []
    opened = make_opener(log)
    server = Server("cleanup")

    @server.tool
    async def find(a: Annotated[str, Depends(opened("a"))], b: Annotated[str, Depends(opened("b"))]) -> str:
        raise ValueError("broken")

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="Error in tool 'find'"):
            await client.call_tool("find")
    assert log == ["open a", "open b", "close b after ValueError", "close a after ValueError"]


@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
async def test_a_cancelled_call_is_cleaned_up(protocol: str, autojump_clock: Any) -> None:
    log: list[str] = []
    opened = make_opener(log)
    server = Server("cleanup")
    began, closed = trio.Event(), trio.Event()

    async def watched(a: Annotated[str, Depends(opened("a"))]) -> AsyncIterator[str]:  # noqa: ASYNC900
        try:
            yield a
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            log.append("unwatched")

    async def last() -> AsyncIterator[None]:  # noqa: ASYNC900
        yield
        log.append("never")

    async def first() -> AsyncIterator[None]:  # noqa: ASYNC900
        try:
            yield
        finally:
            closed.set()

    @server.tool
    async def find(
        outer: Annotated[None, Depends(first)],
        b: Annotated[str, Depends(watched)],
        inner: Annotated[None, Depends(last)],
    ) -> str:
        began.set()
        await trio.sleep_forever()
        return b

    async with open_client(server, protocol=protocol) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call_tool, "find")
        await began.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await closed.wait()
    assert log == ["open a", "unwatched", "close a after Cancelled"]


async def test_dependencies_of_a_cancelled_task_are_cleaned_up(autojump_clock: Any) -> None:
    log: list[str] = []
    server = Server("cleanup")
    began = trio.Event()
    opened = make_opener(log)("a")

    @server.tool(task=True)
    async def find(a: Annotated[str, Depends(opened)]) -> str:
        began.set()
        await trio.sleep_forever()
        return a

    async with open_client(server) as client:
        task = await client.call_tool("find", task=True)
        await began.wait()
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        with trio.move_on_after(2):
            await trio.sleep_forever()
    assert log == ["open a", "close a after Cancelled"]


async def test_a_cleanup_that_fails_is_the_failure_of_the_call(caplog: pytest.LogCaptureFixture) -> None:
    server = Server("cleanup")

    async def opened() -> AsyncIterator[None]:  # noqa: ASYNC900
        yield
        raise ToolError("the transaction was not committed")

    def opened_in_thread() -> Iterator[None]:
        yield
        raise KeyError("lost")

    @server.tool
    async def find(a: Annotated[None, Depends(opened)]) -> str:
        return "found"

    @server.tool
    async def other(a: Annotated[None, Depends(opened_in_thread)]) -> str:
        return "found"

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="the transaction was not committed"):
            await client.call_tool("find")
        with pytest.raises(ToolError, match="Error in tool 'other'"):
            await client.call_tool("other")
    assert "KeyError: 'lost'" in caplog.text


async def test_a_dependency_may_translate_the_error_of_its_handler() -> None:
    server = Server("cleanup")

    async def translate() -> AsyncIterator[None]:  # noqa: ASYNC900
        try:
            yield
        except KeyError as error:
            raise ToolError(f"there is no {error}") from error

    @server.tool
    async def find(a: Annotated[None, Depends(translate)]) -> str:
        raise KeyError("tree")

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="there is no 'tree'"):
            await client.call_tool("find")


async def test_a_dependency_that_suppresses_an_error_is_told(caplog: pytest.LogCaptureFixture) -> None:
    server = Server("cleanup")

    @contextmanager
    def swallow() -> Iterator[None]:
        with suppress(ValueError):
            yield

    @server.tool
    async def find(a: Annotated[None, Depends(swallow)]) -> str:
        raise ValueError("broken")

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="Error in tool 'find'"):
            await client.call_tool("find")
    assert "a dependency suppressed what ended the handler" in caplog.text
    assert "ValueError: broken" in caplog.text


async def test_a_cancelled_call_is_no_failure_because_a_dependency_suppresses_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server("cleanup")
    began, ended = trio.Event(), trio.Event()

    async def first() -> AsyncIterator[None]:  # noqa: ASYNC900
        try:
            yield
        finally:
            ended.set()

    async def swallow(first: Annotated[None, Depends(first)]) -> AsyncIterator[None]:  # noqa: ASYNC900
        with suppress(BaseException):
            yield  # noqa: ASYNC119

    @server.tool
    async def find(a: Annotated[None, Depends(swallow)]) -> str:
        began.set()
        await trio.sleep_forever()
        return "found"

    async with open_client(server) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "find")
            await began.wait()
            nursery.cancel_scope.cancel()
        await ended.wait()
        await client.ping()
    assert caplog.text == ""


async def test_cleanup_takes_no_longer_than_its_bound(autojump_clock: Any) -> None:
    server = Server("cleanup", settings=ServerSettings(cleanup_timeout=5, show_errors=True))
    log: list[str] = []

    async def outer() -> AsyncIterator[None]:  # noqa: ASYNC900
        yield
        log.append("outer")

    async def stuck() -> AsyncIterator[None]:  # noqa: ASYNC900
        try:
            yield
        finally:
            await trio.sleep_forever()  # noqa: ASYNC102

    @server.tool
    async def find(a: Annotated[None, Depends(outer)], b: Annotated[None, Depends(stuck)]) -> str:
        return "found"

    async with open_client(server) as client:
        before = trio.current_time()
        with pytest.raises(ToolError, match="the cleanup of dependencies took longer than 5 seconds"):
            await client.call_tool("find")
        assert trio.current_time() - before == pytest.approx(5)
    assert log == []  # it was cancelled as well


async def test_a_cancelled_call_whose_cleanup_hangs_ends_at_the_bound(
    autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server("cleanup", settings=ServerSettings(cleanup_timeout=5))
    began, ended = trio.Event(), trio.Event()

    async def stuck() -> AsyncIterator[None]:  # noqa: ASYNC900
        try:
            yield
        finally:
            try:
                await trio.sleep_forever()  # noqa: ASYNC102
            finally:
                ended.set()

    @server.tool
    async def find(a: Annotated[None, Depends(stuck)]) -> str:
        began.set()
        await trio.sleep_forever()
        return "found"

    async with open_client(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call_tool, "find")
        await began.wait()
        before = trio.current_time()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await ended.wait()
        assert trio.current_time() - before == pytest.approx(5)
    assert "were not cleaned up within 5 seconds" in caplog.text


async def test_a_dependency_may_keep_a_nursery_or_a_time_limit_open(autojump_clock: Any) -> None:
    server = Server("cleanup", settings=ServerSettings(show_errors=True))

    async def get_nursery() -> AsyncIterator[trio.Nursery]:  # noqa: ASYNC900
        async with trio.open_nursery() as nursery:
            yield nursery  # noqa: ASYNC101, ASYNC119

    async def limit() -> AsyncIterator[None]:  # noqa: ASYNC900
        with trio.fail_after(3):
            yield  # noqa: ASYNC101, ASYNC119

    async def worker(done: list[int]) -> None:
        await trio.sleep(1)
        done.append(1)

    done: list[int] = []

    @server.tool
    async def find(nursery: Annotated[trio.Nursery, Depends(get_nursery)]) -> str:
        nursery.start_soon(worker, done)
        return "found"

    @server.tool
    async def slow(a: Annotated[None, Depends(limit)]) -> str:
        await trio.sleep(10)
        return "found"

    async with open_client(server) as client:
        assert (await client.call_tool("find")).data == "found"
        assert done == [1]
        with pytest.raises(ToolError, match="TooSlowError"):
            await client.call_tool("slow")


async def test_progress_of_a_cleanup_arrives_before_the_result() -> None:
    server = Server("cleanup")

    async def reporting(ctx: Context) -> AsyncIterator[None]:  # noqa: ASYNC900
        yield
        await ctx.report_progress(2, message="committed")

    @server.tool
    async def find(ctx: Context, a: Annotated[None, Depends(reporting)]) -> str:
        await ctx.report_progress(1)
        return "found"

    seen: list[Any] = []
    async with open_client(server) as client:
        await client.call_tool("find", progress_handler=lambda *report: seen.append(report))
        assert seen[-1] == (2, None, "committed")


async def test_cleanup_waits_for_the_abandoned_thread_that_may_use_the_resource() -> None:
    server = Server("cleanup")
    began, go_on = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    log: list[str] = []
    closed = trio.Event()

    async def opened() -> AsyncIterator[None]:  # noqa: ASYNC900
        try:
            yield
        finally:
            log.append("closed")
            closed.set()

    def blocking() -> None:
        token.run_sync_soon(began.set)
        wait(go_on)
        log.append("used")

    @server.tool
    def find(a: Annotated[None, Depends(opened)]) -> None:
        blocking()

    @server.tool
    async def other(a: Annotated[None, Depends(opened)], b: Annotated[None, Depends(blocking)]) -> None:
        log.append("never")

    async with open_client(server) as client:
        for name in ("find", "other"):
            began, closed = trio.Event(), trio.Event()
            go_on.clear()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.call_tool, name)
                await began.wait()
                nursery.cancel_scope.cancel()
            with trio.fail_after(HANG_SECONDS):
                await client.ping()
                assert not closed.is_set()
                go_on.set()
                await closed.wait()
            assert log == ["used", "closed"]
            log.clear()


async def test_what_a_thread_was_opening_when_the_call_was_cancelled_is_closed() -> None:
    server = Server("cleanup")
    began, go_on = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    log: list[str] = []
    closed = trio.Event()

    def opened() -> Iterator[None]:
        token.run_sync_soon(began.set)
        wait(go_on)
        log.append("opened")
        try:
            yield
        finally:
            log.append("closed")
            token.run_sync_soon(closed.set)

    @server.tool
    async def find(a: Annotated[None, Depends(opened)]) -> None:
        log.append("never")

    async with open_client(server) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "find")
            await began.wait()
            nursery.cancel_scope.cancel()
        go_on.set()
        with trio.fail_after(HANG_SECONDS):
            await closed.wait()
    assert log == ["opened", "closed"]


async def test_what_a_thread_opens_after_the_bound_of_cleanup_is_closed_by_it() -> None:
    server = Server("cleanup", settings=ServerSettings(cleanup_timeout=0.001))
    began, go_on = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    given_up, closed = trio.Event(), trio.Event()
    ends: list[Any] = []

    async def first() -> AsyncIterator[None]:  # noqa: ASYNC900
        try:
            yield
        finally:
            given_up.set()

    class Opened:
        def __init__(self, first: Annotated[None, Depends(first)]) -> None:
            pass

        def __enter__(self) -> None:
            token.run_sync_soon(began.set)
            wait(go_on)

        def __exit__(self, *reason: object) -> None:
            ends.append(reason)
            token.run_sync_soon(closed.set)

    @server.tool
    async def find(a: Annotated[None, Depends(Opened)]) -> None:
        ends.append("never")

    async with open_client(server) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "find")
            await began.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(HANG_SECONDS):
            await given_up.wait()
            go_on.set()
            await closed.wait()
    assert ends == [(None, None, None)]


async def test_what_no_thread_has_begun_to_open_is_not_opened() -> None:
    server = Server("cleanup", settings=ServerSettings(thread_limit=1))
    began, go_on = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    log: list[str] = []

    @server.tool
    def occupy() -> None:
        token.run_sync_soon(began.set)
        wait(go_on)

    waiting = trio.Event()

    async def note() -> None:
        waiting.set()

    def opened(first: Annotated[None, Depends(note)]) -> Iterator[None]:
        log.append("opened")
        yield

    @server.tool
    async def find(a: Annotated[None, Depends(opened)]) -> None:
        log.append("never")

    async with open_client(server) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "occupy")
            await began.wait()
            async with trio.open_nursery() as inner:
                inner.start_soon(client.call_tool, "find")
                await waiting.wait()
                inner.cancel_scope.cancel()
            await client.ping()
            go_on.set()
        assert (await client.call_tool("occupy")).data is None  # the thread is free again
    assert log == []


async def test_a_sync_cleanup_does_not_wait_for_a_thread_of_the_server() -> None:
    server = Server("cleanup", settings=ServerSettings(thread_limit=1))
    began, go_on, opened = trio.Event(), threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()
    closed = threading.Event()

    @server.tool
    def occupy() -> None:
        token.run_sync_soon(began.set)
        wait(go_on)

    def open_it() -> Iterator[None]:
        yield
        closed.set()

    leave = trio.Event()

    @server.tool
    async def find(a: Annotated[None, Depends(open_it)]) -> None:
        opened.set()
        await leave.wait()

    async with open_client(server) as client, trio.open_nursery() as nursery:
        with trio.fail_after(HANG_SECONDS):
            async with trio.open_nursery() as inner:
                inner.start_soon(client.call_tool, "find")
                await opened.wait()
                nursery.start_soon(client.call_tool, "occupy")
                await began.wait()
                leave.set()
            assert closed.is_set()
            go_on.set()
