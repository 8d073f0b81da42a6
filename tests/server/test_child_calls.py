"""Tools that call tools: their progress as a stage of the caller's, their failures, their end."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN, Wire
from tests.progress.test_progress import PROGRESS, run_tool
from trio_mcp import (
    Client,
    Context,
    ProtocolError,
    RemoteProtocolError,
    Server,
    ServerSettings,
    TaskConfig,
    ToolError,
    open_client,
)
from trio_mcp.server.child_calls import MAX_DEPTH

MEMORY = Wire("memory", MODERN)

turn = trio.lowlevel.checkpoint


async def copy(ctx: Context, files: list[str]) -> int:
    """A tool that knows nothing of who calls it."""
    for done, name in enumerate(files, 1):
        await ctx.report_progress(done, len(files), name)
        await turn()
    return len(files)


async def nested(ctx: Context) -> str:
    """A tool with stages of its own."""
    progress = ctx.progress()
    progress.plan({"read": 1, "write": 1})
    async with progress.stage("read", total=2) as read:
        read.set_message("a")
        read.increment()
        await turn()
    async with progress.stage("write"):
        await turn()
    return "nested"


EXPECTED = [
    (20, 100, "copy: a"),
    (40, 100, "copy: b"),
    # The end of one stage and the start of the next leave as one notification.
    (55, 100, "nested: read: a"),
    (70, 100, "nested: write"),
    (100, 100, None),
]
"""What `copy` of two files with weight 40 and `nested` with 60 show."""


def check(updates: list[Any], params: list[Any]) -> None:
    assert [update for update in updates if update in EXPECTED] == EXPECTED
    assert all(a["progress"] < b["progress"] for a, b in itertools.pairwise(params)), "MUST increase"
    assert {message.partition(":")[0] for *_, message in updates if message} == {"copy", "nested"}


async def test_a_child_in_process_is_a_stage_of_its_parent(wire):
    """Its total maps into the stage's share, its messages show the path, its stages nest."""
    server = Server("children")
    server.add_tool(copy)
    server.add_tool(nested)

    @server.tool
    async def parent(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.plan({"copy": 40, "nested": 60})
        async with progress.stage("copy") as stage:
            copied = await ctx.call_tool("copy", {"files": ["a", "b"]}, progress=stage)
        async with progress.stage("nested") as stage:
            answer = await ctx.call_tool("nested", progress=stage)
        return [copied.data, answer.data]

    recorder = wire.recorder(server)
    updates: list[Any] = []
    async with wire.open(recorder) as client:
        result = await client.call_tool("parent", progress_handler=lambda *update: updates.append(update))
    assert result.data == [2, "nested"]
    check(updates, [message["params"] for message in recorder.received_messages(PROGRESS)])


async def test_a_child_through_a_client_is_a_stage_of_its_parent(wire):
    """A stage is a progress handler."""
    backend = Server("backend")
    backend.add_tool(copy)
    backend.add_tool(nested)
    async with wire.open(backend) as back:

        async def parent(ctx: Context) -> list[Any]:
            progress = ctx.progress()
            progress.plan({"copy": 40, "nested": 60})
            async with progress.stage("copy") as stage:
                copied = await back.call_tool("copy", {"files": ["a", "b"]}, progress_handler=stage)
            async with progress.stage("nested") as stage:
                answer = await back.call_tool("nested", progress_handler=stage)
            return [copied.data, answer.data]

        data, updates, params = await run_tool(wire, parent)
    assert data == [2, "nested"]
    check(updates, params)


async def test_the_whole_request_can_be_handed_down(wire):
    server = Server("children")
    server.add_tool(copy)

    @server.tool
    async def parent(ctx: Context) -> int:
        return (await ctx.call_tool("copy", {"files": ["a", "b"]}, progress=ctx.progress())).data  # type: ignore[no-any-return]

    updates: list[Any] = []
    async with wire.open(server) as client:
        await client.call_tool("parent", progress_handler=lambda *update: updates.append(update))
    assert updates == [(1, 2, "a"), (2, 2, "b")]


async def test_parallel_children_add_up(wire, autojump_clock):
    """One in process, one behind a client, one smooth total."""
    backend = Server("backend")

    async def work(ctx: Context, seconds: float) -> None:
        for step in range(1, 11):
            await trio.sleep(seconds)
            await ctx.report_progress(step, 10)

    backend.add_tool(work)
    async with wire.open(backend) as back:
        server = Server("children")
        server.add_tool(work)

        @server.tool
        async def parent(ctx: Context) -> None:
            progress = ctx.progress()
            progress.plan({"here": 50, "there": 50})

            async def here() -> None:
                async with progress.stage("here") as stage:
                    await ctx.call_tool("work", {"seconds": 0.31}, progress=stage)

            async def there() -> None:
                async with progress.stage("there") as stage:
                    await back.call_tool("work", {"seconds": 0.17}, progress_handler=stage)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(here)
                nursery.start_soon(there)

        values: list[float] = []
        async with wire.open(server) as client:
            await client.call_tool("parent", progress_handler=lambda progress, *_: values.append(progress))
    assert values[-1] == 100
    steps = [b - a for a, b in itertools.pairwise(values)]
    assert all(0 <= step <= 10 for step in steps)


@asynccontextmanager
async def hanging(wire: Wire, ended: trio.Event) -> AsyncIterator[tuple[Server, Client]]:
    """A server whose tool hangs until it is cancelled, and a client of another one like it."""

    async def hang(ctx: Context) -> None:
        try:
            await ctx.report_progress(1, 2, "hanging")
            await trio.sleep_forever()
        finally:
            ended.set()

    server, backend = Server("children"), Server("backend")
    server.add_tool(hang)
    backend.add_tool(hang)
    async with wire.open(backend) as back:
        yield server, back


@pytest.mark.parametrize("where", ["here", "there"])
async def test_cancelling_the_parent_cancels_the_child(wire, where):
    ended = trio.Event()
    async with hanging(wire, ended) as (server, back):

        @server.tool
        async def parent(ctx: Context) -> None:
            async with ctx.progress().stage("child") as stage:
                if where == "here":
                    await ctx.call_tool("hang", progress=stage)
                else:
                    await back.call_tool("hang", progress_handler=stage)

        async with wire.open(server) as client:
            with trio.CancelScope() as scope:

                def stop(progress: float, total: float | None, message: str | None) -> None:
                    if message == "child: hanging":
                        scope.cancel()

                await client.call_tool("parent", progress_handler=stop)
            assert scope.cancelled_caught
            with trio.fail_after(5):
                await ended.wait()
            await client.ping()


async def test_a_child_can_be_cancelled_alone():
    """The stage keeps what was shown, and the parent goes on."""
    ended = trio.Event()
    async with hanging(MEMORY, ended) as (server, _):

        @server.tool
        async def parent(ctx: Context) -> str:
            progress = ctx.progress()
            progress.plan({"child": 50, "rest": 50})
            with trio.CancelScope() as scope:
                async with progress.stage("child") as stage, trio.open_nursery() as nursery:
                    nursery.start_soon(partial(ctx.call_tool, "hang", progress=stage))
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert ended.is_set()
            async with progress.stage("rest"):
                await turn()
            return "went on"

        updates: list[Any] = []
        async with open_client(server) as client:
            result = await client.call_tool("parent", progress_handler=lambda *update: updates.append(update))
    assert result.data == "went on"
    assert updates[-1][:2] == (75, 100), "what the child had done stays; what it had not is missing"


async def test_a_childs_errors_are_those_that_a_client_would_get(wire, caplog):
    server = Server("children")

    @server.tool
    async def refuse(words: str) -> None:
        raise ToolError(words)

    @server.tool
    async def crash() -> None:
        raise KeyError("a secret")

    @server.tool
    async def unsendable() -> Any:
        return {"value": float("nan")}

    @server.tool
    async def number(value: int) -> int:
        return value

    @server.tool
    async def parent(ctx: Context) -> dict[str, str]:
        told: dict[str, str] = {}

        async def attempt(
            key: str, name: str, arguments: dict[str, Any] | None = None, **options: Any
        ) -> None:
            try:
                await ctx.call_tool(name, arguments, **options)
            except Exception as error:
                told[key] = f"{type(error).__name__}: {error}"

        await attempt("refuse", "refuse", {"words": "not today"})
        await attempt("crash", "crash")
        await attempt("unsendable", "unsendable")
        await attempt("wrong type", "number", {"value": "three"})
        await attempt("missing", "number")
        await attempt("unexpected", "number", {"value": 1, "more": 2})
        await attempt("unknown", "nothing")
        await attempt("no JSON", "number", {"value": float("inf")})
        await attempt("another type", "number", {"value": 3}, result_type=str)
        result = await ctx.call_tool("refuse", {"words": "no"}, raise_on_error=False)
        told["result"] = f"{result.is_error} {result.text}"
        return told

    async with wire.open(server) as client:
        told = (await client.call_tool("parent")).data
        # The same calls, over the wire.
        for key, name, arguments in (
            ("refuse", "refuse", {"words": "not today"}),
            ("crash", "crash", {}),
            ("unsendable", "unsendable", {}),
            ("wrong type", "number", {"value": "three"}),
            ("missing", "number", {}),
            ("unexpected", "number", {"value": 1, "more": 2}),
            ("unknown", "nothing", {}),
            ("no JSON", "number", {"value": float("inf")}),
        ):
            with pytest.raises((ToolError, ProtocolError, ValueError)) as caught:
                await client.call_tool(name, arguments)
            assert told[key] == f"{type(caught.value).__name__}: {caught.value}"
        with pytest.raises(RemoteProtocolError) as wrong:
            await client.call_tool("number", {"value": 3}, result_type=str)
    assert told["another type"] == f"RemoteProtocolError: {wrong.value}"
    assert told["result"] == "True no"
    assert told["crash"] == "ToolError: Error in tool 'crash'"
    assert sum("a secret" in str(record.exc_info) for record in caplog.records) == 1, "then it is counted"
    assert caplog.text.count("tool 'crash' failed 2 times with KeyError") == 1


async def test_an_error_of_the_child_is_the_parents_unless_it_is_caught(wire):
    server = Server("children")

    @server.tool
    async def child() -> None:
        raise ToolError("the child's words")

    @server.tool
    async def parent(ctx: Context) -> None:
        async with ctx.progress().stage("child") as stage:
            await ctx.call_tool("child", progress=stage)

    async with wire.open(server) as client:
        with pytest.raises(ToolError, match=r"^the child's words$"):
            await client.call_tool("parent")


async def test_a_crash_while_being_cancelled_is_logged(caplog):
    """Cancelled passes on; the failure that came with it does not get lost."""
    server = Server("children")

    @server.tool
    async def child() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("while leaving")

    @server.tool
    async def parent(ctx: Context) -> bool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await ctx.call_tool("child")
        return scope.cancelled_caught

    async with open_client(server) as client:
        assert (await client.call_tool("parent")).data is True
    assert "tool 'child' failed while being cancelled" in caplog.text


async def test_a_childs_result_is_a_copy():
    """As over a wire, no two tools share mutable objects."""
    server = Server("children")
    kept: list[list[int]] = []

    @server.tool
    async def child() -> list[int]:
        kept.append([1, 2])
        return kept[0]

    @server.tool
    async def parent(ctx: Context) -> list[int]:
        data = (await ctx.call_tool("child", result_type=list[int])).data
        data.append(3)
        return kept[0]

    async with open_client(server) as client:
        assert (await client.call_tool("parent")).data == [1, 2]


async def test_calls_deeper_than_the_limit_fail(wire):
    server = Server("children")
    deepest = 0

    @server.tool
    async def again(ctx: Context, depth: int = 0) -> int:
        nonlocal deepest
        deepest = max(deepest, depth)
        return (await ctx.call_tool("again", {"depth": depth + 1})).data  # type: ignore[no-any-return]

    async with wire.open(server) as client:
        with pytest.raises(ToolError, match=rf"^tool 'again' was called more than {MAX_DEPTH} calls deep"):
            await client.call_tool("again")
        await client.ping()
    assert deepest == MAX_DEPTH


async def test_a_child_has_a_context_of_its_own(wire):
    """State and values of the child are its own; the request and the session are the caller's."""
    server = Server("children")

    @server.tool
    async def child(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        progress.increment(5)
        ctx.state["mine"] = True
        return [progress.current, progress.total, ctx.request_id, sorted(ctx.state), ctx.lifespan]

    @server.tool
    async def parent(ctx: Context) -> list[Any]:
        ctx.state["theirs"] = True
        answer = (await ctx.call_tool("child")).data
        return [*answer, ctx.request_id, sorted(ctx.state), ctx.progress().current]

    @server.lifespan
    @asynccontextmanager
    async def lifespan(server: Server) -> AsyncIterator[str]:
        yield "shared"

    updates: list[Any] = []
    async with wire.open(server) as client:
        result = await client.call_tool("parent", progress_handler=lambda *update: updates.append(update))
    current, total, child_id, child_state, shared, parent_id, parent_state, parent_current = result.data
    assert (current, total, shared) == (5, 1, "shared")
    assert child_id == parent_id
    assert (child_state, parent_state) == (["mine"], ["theirs"])
    assert parent_current is None
    assert updates == [], "a child that was given no reporter shows nothing"


async def test_sync_tools_call_each_other_on_one_thread_of_the_limit(wire):
    """A child of a sync tool never waits for the thread that its parent keeps."""
    server = Server("children", settings=ServerSettings(thread_limit=1))

    @server.tool
    def leaf(ctx: Context) -> str:
        ctx.report_progress(1, 2, (threading.current_thread().name != "MainThread" and "in a thread") or "")
        return "leaf"

    @server.tool
    async def middle(ctx: Context) -> str:
        return (await ctx.call_tool("leaf", progress=ctx.progress())).data  # type: ignore[no-any-return]

    @server.tool
    def parent(ctx: Context) -> list[Any]:
        with ctx.progress().stage("first", weight=1) as stage:
            first = trio.from_thread.run(partial(ctx.call_tool, "leaf", progress=stage)).data
        with ctx.progress().stage("second", weight=1) as stage:
            second = trio.from_thread.run(partial(ctx.call_tool, "middle", progress=stage)).data
        return [first, second]

    updates: list[Any] = []
    async with wire.open(server) as client:
        with trio.fail_after(10):
            result = await client.call_tool("parent", progress_handler=lambda *update: updates.append(update))
    assert result.data == ["leaf", "leaf"]
    assert (0.5, 1, "first: in a thread") in updates
    assert (1.5, 2, "second: in a thread") in updates
    assert updates[-1] == (2, 2, None)


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_child_of_a_background_task_is_a_part_of_it(protocol, autojump_clock):
    """It runs as a part of the task, whatever its own `task` says."""
    server = Server("children", default_task=TaskConfig(mode="required"))
    server.add_tool(copy)
    ids: list[str | None] = []

    @server.tool
    async def child(ctx: Context) -> None:
        ids.append(ctx.task_id)
        await ctx.report_progress(1, 2, "half")
        await trio.sleep(1)

    @server.tool
    async def parent(ctx: Context) -> str:
        async with ctx.progress().stage("child", weight=10) as stage:
            await ctx.call_tool("child", progress=stage)
        return "done"

    updates: list[Any] = []
    async with open_client(server, protocol=protocol) as client:
        task = await client.call_tool(
            "parent", task=True, progress_handler=lambda *update: updates.append(update)
        )
        assert (await task.result()).data == "done"
    assert ids == [task.id]
    assert (5, 10, "child: half") in updates
    assert updates[-1] == (10, 10, None)


async def test_a_child_gathers_its_input_first():
    """What its `gather` returned is the child's, and so is the state in between."""
    server = Server("children")

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        assert arguments == {"greeting": "Hello"}
        ctx.state["gathered"] = True
        return "gathered"

    @server.tool(task=TaskConfig(gather=gather))
    async def child(ctx: Context, greeting: str) -> list[Any]:
        return [ctx.gathered, ctx.state, greeting]

    @server.tool
    async def parent(ctx: Context) -> list[Any]:
        assert ctx.gathered is None
        return (await ctx.call_tool("child", {"greeting": "Hello"})).data  # type: ignore[no-any-return]

    async with open_client(server) as client:
        assert (await client.call_tool("parent")).data == ["gathered", {"gathered": True}, "Hello"]


async def test_progress_of_another_server_that_cannot_be_shown_is_left_out(caplog):
    """What a stage cannot show of a foreign report is left out; the rest counts."""

    async def tool(ctx: Context) -> None:
        async with ctx.progress().stage("child", weight=10) as stage:
            await stage(-3, 0, "x" * 20_000)
            await stage(2, 8, "two")
            await stage(float("nan"), float("inf"), "half of what there is")
            await stage(4)

    _, updates, _ = await run_tool(MEMORY, tool)
    assert not caplog.records
    assert [progress for progress, _, _ in updates] == [0, 0, 2.5, 2.5, 5, 10]
    assert len(updates[1][2]) == 16_384
