"""Handlers of a mounted server run as if it were served alone: with its server, its lifespan, its threads."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.durable_store import DurableMemoryStore
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Client,
    ClientSettings,
    Context,
    ElicitRequest,
    Heartbeat,
    Lossless,
    Message,
    PromptReference,
    ProtocolError,
    ResourceLink,
    ResourceTemplateReference,
    Retry,
    Server,
    ServerSettings,
    TaskConfig,
    ToolError,
    open_client,
    open_server,
    run_worker,
)

ERAS = pytest.mark.parametrize("protocol", [MODERN, LEGACY])


def mounted(child: Server, prefix: str | None = "sub", **settings: Any) -> Server:
    parent = Server("parent", settings=ServerSettings(**settings))
    parent.mount(child, prefix)
    return parent


async def test_a_handler_finds_its_own_server_and_lifespan(wire: Wire) -> None:
    child, parent = Server("child"), Server("parent")

    @child.lifespan
    @asynccontextmanager
    async def live(server: Server) -> AsyncIterator[str]:
        yield f"life of {server.name}"

    @parent.lifespan
    @asynccontextmanager
    async def live_around(server: Server) -> AsyncIterator[str]:
        yield f"life of {server.name}"

    def tell(ctx: Context) -> str:
        return f"{ctx.server.name}, {ctx.lifespan}"

    for server in (child, parent):
        server.add_tool(tell, name="tell")
        server.add_prompt(tell, name="tell")
        server.add_resource("x://tell", tell, name="tell")
    parent.mount(child, "sub")
    async with wire.open(parent) as client:
        for name, told in (("tell", "parent, life of parent"), ("sub_tell", "child, life of child")):
            uri = "x://tell" if name == "tell" else "x://sub/tell"
            assert (await client.call_tool(name)).data == told
            assert (await client.get_prompt(name)).messages[0].content.text == told  # type: ignore[union-attr]
            assert (await client.read_resource(uri)).text == told


async def test_a_lifespan_is_entered_once_with_that_around_it() -> None:
    events: list[str] = []

    def make(name: str) -> Server:
        server = Server(name)

        @server.lifespan
        @asynccontextmanager
        async def live(server: Server) -> AsyncIterator[None]:
            events.append(f"+{server.name}")
            try:
                yield
            finally:
                events.append(f"-{server.name}")

        return server

    parent, one, two = make("parent"), make("one"), make("two")
    one.mount(two, "a")
    parent.mount(one, "b")
    parent.mount(two, "c")
    async with open_server(parent):
        assert events == ["+parent", "+one", "+two"]
    assert events[3:] == ["-two", "-one", "-parent"]


async def test_lifespans_may_hold_nurseries() -> None:
    """The tasks of the server around, and of another mounted one, go on meanwhile."""
    events: list[str] = []

    async def serve(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            events.append(name)

    def make(name: str) -> Server:
        server = Server(name)

        @server.lifespan
        @asynccontextmanager
        async def live(server: Server) -> AsyncIterator[trio.Nursery]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, server.name)  # noqa: ASYNC113  # nobody waits for it
                yield nursery
                nursery.cancel_scope.cancel()

        return server

    parent, one, two, late = make("parent"), make("one"), make("two"), make("late")
    late.add_tool(lambda: None, name="t")
    parent.mount(one)
    parent.mount(two)
    async with open_server(parent) as running, open_client(running) as client:
        parent.mount(late)
        await client.call_tool("t")
        assert events == []
    assert events == ["late", "two", "one", "parent"]


async def test_a_server_that_is_mounted_while_another_runs_begins_at_its_first_call() -> None:
    events: list[str] = []
    child, parent = Server("child"), Server("parent")

    @child.lifespan
    @asynccontextmanager
    async def live(server: Server) -> AsyncIterator[str]:
        events.append("begins")
        await trio.lowlevel.checkpoint()
        yield "alive"
        events.append("ends")

    @child.tool
    async def tell(ctx: Context) -> str:
        return str(ctx.lifespan)

    @child.tool
    async def wait(ctx: Context) -> None:
        events.append("waits")
        try:
            await trio.sleep_forever()
        finally:
            events.append("unwinds")

    async with open_server(parent) as running, open_client(running) as client, trio.open_nursery() as nursery:
        parent.mount(child, "sub")
        assert events == []
        async with trio.open_nursery() as callers:
            for _ in range(3):
                callers.start_soon(client.call_tool, "sub_tell")
        assert (await client.call_tool("sub_tell")).data == "alive"
        assert events == ["begins"]
        nursery.start_soon(client.call_tool, "sub_wait")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert events == ["begins", "waits", "unwinds", "ends"]


async def test_a_lifespan_that_fails_fails_the_calls_that_need_it() -> None:
    child, parent = Server("child", settings=ServerSettings(show_errors=True)), Server("parent")
    attempts: list[int] = []

    @child.lifespan
    @asynccontextmanager
    async def live(server: Server) -> AsyncIterator[str]:
        attempts.append(1)
        if len(attempts) < 3:
            raise OSError("no database")
        yield "alive"

    child.add_tool(lambda ctx: ctx.lifespan, name="wrong", input_schema={"type": "object"}, validate=False)

    @child.tool
    async def tell(ctx: Context) -> str:
        return str(ctx.lifespan)

    async with open_server(parent) as running, open_client(running) as client:
        parent.mount(child)
        for _ in range(2):
            with pytest.raises(ToolError, match="OSError: no database"):
                await client.call_tool("tell")
        assert (await client.call_tool("tell")).data == "alive"
    attempts.clear()
    with pytest.raises(OSError, match="no database"):
        await open_server(parent).__aenter__()


async def test_a_tool_calls_its_siblings_by_their_own_names(wire: Wire) -> None:
    child = Server("child")

    @child.tool
    async def inner(ctx: Context, n: int) -> int:
        await ctx.report_progress(1, 2, "half")
        ctx.state["n"] = n
        return n + len(ctx.state)

    @child.tool
    async def outer(ctx: Context) -> int:
        ctx.state["outer"] = True
        with pytest.raises(ProtocolError, match="Unknown tool: sub_inner"):
            await ctx.call_tool("sub_inner", {"n": 1})
        async with ctx.progress().stage("work") as stage:
            return int((await ctx.call_tool("inner", {"n": 3}, progress=stage)).data)

    @child.tool
    def threaded(ctx: Context) -> int:
        call = partial(ctx.call_tool, "inner", {"n": 5})
        return int(trio.from_thread.run(call).data)

    parent = mounted(child)

    @parent.tool
    async def around(ctx: Context) -> int:
        async with ctx.progress().stage("all") as stage:
            return int((await ctx.call_tool("sub_outer", progress=stage)).data)

    told: list[str | None] = []

    def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message)

    async with wire.open(parent) as client:
        assert (await client.call_tool("sub_outer", progress_handler=note)).data == 4
        assert "work: half" in told
        assert (await client.call_tool("sub_threaded")).data == 6
        assert (await client.call_tool("around", progress_handler=note)).data == 4
        assert "all: work: half" in told


async def test_progress_arrives_in_order_and_before_the_result(wire: Wire) -> None:
    child = Server("child", settings=ServerSettings(progress=Lossless()))

    @child.tool
    async def count(ctx: Context) -> str:
        for number in range(1000):
            await ctx.report_progress(number)
        return "done"

    middle = Server("middle")
    middle.mount(child, "b")
    parent = Server("parent")
    parent.mount(middle, "a")
    numbers: list[float] = []
    async with wire.open(parent, settings=ClientSettings(progress=Lossless())) as client:
        called = await client.call_tool(
            "a_b_count", progress_handler=lambda progress, *rest: numbers.append(progress)
        )
        assert called.data == "done"
        assert numbers == list(range(1000))


def test_the_policy_of_progress_is_that_of_its_own_server_if_it_has_one() -> None:
    child = Server("child", settings=ServerSettings(progress=Lossless()))
    child.add_tool(lambda: "", name="a")
    child.add_tool(lambda: "", name="b", progress=Heartbeat(every=5))
    plain = Server("plain")
    plain.add_tool(lambda: "", name="c")
    parent = mounted(child)
    parent.mount(plain, "sub")
    found = {name: tool.progress for name, tool in parent.tools.items()}
    assert found == {"sub_a": Lossless(), "sub_b": Heartbeat(every=5, policy=Lossless()), "sub_c": None}


@ERAS
async def test_cancelling_reaches_the_handler(protocol: str) -> None:
    child = Server("child")
    began, ended = trio.Event(), trio.Event()

    @child.tool
    async def work() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with open_client(mounted(child), protocol=protocol) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "sub_work")
            await began.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(HANG_SECONDS):
            await ended.wait()


async def test_what_clients_see_of_errors_is_decided_by_its_own_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(ctx: Context) -> str:
        raise KeyError("secret")

    def make(name: str, *, show_errors: bool) -> Server:
        server = Server(name, settings=ServerSettings(show_errors=show_errors))
        server.add_tool(fail, name="t")
        server.add_prompt(fail, name="p")
        server.add_resource("x://{r}", lambda r: fail(r), name="r").complete("r")(lambda text: fail(text))

        @server.tool
        async def outer(ctx: Context) -> str:
            result = await ctx.call_tool("t", raise_on_error=False)
            return str(result.content[0].text)  # type: ignore[union-attr]

        return server

    async def messages(client: Client, prefix: str) -> list[str]:
        found = [(await client.call_tool(f"{prefix}_outer")).data]
        for ask in (
            partial(client.call_tool, f"{prefix}_t"),
            partial(client.get_prompt, f"{prefix}_p"),
            partial(client.read_resource, f"x://{prefix}/7"),
            partial(
                client.complete,
                ResourceTemplateReference(uri=f"x://{prefix}/{{r}}"),
                {"name": "r", "value": "7"},
            ),
        ):
            with pytest.raises((ToolError, ProtocolError)) as refused:
                await ask()
            found.append(str(refused.value))
        return found

    open_one, closed = make("open", show_errors=True), make("closed", show_errors=False)
    for around in (True, False):
        parent = mounted(open_one, "open", show_errors=around)
        parent.mount(closed, "closed")
        async with open_client(parent) as client:
            assert all("KeyError" in text for text in await messages(client, "open"))
            assert not any("KeyError" in text for text in await messages(client, "closed"))
    assert any("failed" in record.message for record in caplog.records)


async def test_its_threads_are_its_own() -> None:
    child = Server("child", settings=ServerSettings(thread_limit=1))
    inside, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with lock:
            inside -= 1

    child.add_tool(work, name="work")
    held, release = trio.Event(), threading.Event()
    parent = mounted(child, thread_limit=1)

    @parent.tool
    def hold() -> None:
        trio.from_thread.run_sync(held.set)
        release.wait()

    async with open_client(parent) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call_tool, "hold")
        await held.wait()
        for _ in range(5):  # although the only thread of the server around is held
            nursery.start_soon(client.call_tool, "sub_work")
        await client.call_tool("sub_work")
        release.set()
    assert most == 1


async def test_a_sync_tool_that_calls_a_sync_tool_needs_no_second_thread() -> None:
    child = Server("child", settings=ServerSettings(thread_limit=1))

    @child.tool
    def inner() -> int:
        return 7

    @child.tool
    def outer(ctx: Context) -> int:
        return int(trio.from_thread.run(partial(ctx.call_tool, "inner")).data)

    parent = mounted(child, thread_limit=1)

    @parent.tool
    def around(ctx: Context) -> int:
        return int(trio.from_thread.run(partial(ctx.call_tool, "sub_outer")).data)

    async with open_client(parent) as client:
        assert (await client.call_tool("sub_outer")).data == 7
        assert (await client.call_tool("around")).data == 7


async def test_completions_come_from_its_own_server() -> None:
    child = Server("child")

    @child.prompt
    def greet(style: str) -> str:
        return style

    @child.resource("x://{name}/all")
    def read(name: str) -> str:
        return name

    parent = mounted(mounted(child, "b"), "a")

    @greet.complete("style")
    async def styles(text: str, ctx: Context) -> list[str]:
        return [f"{text} {ctx.server.name}"]

    @read.complete("name")
    def names(text: str, ctx: Context) -> Sequence[str]:
        return [f"{text} {ctx.server.name}"]

    async with open_client(parent) as client:
        prompt = await client.complete(PromptReference(name="a_b_greet"), {"name": "style", "value": "f"})
        assert prompt.values == ["f child"]
        template = await client.complete(
            ResourceTemplateReference(uri="x://a/b/{name}/all"), {"name": "name", "value": "n"}
        )
        assert template.values == ["n child"]


async def test_links_lead_to_the_resources_where_they_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("file")
    child = Server("child")
    child.add_directory("file://docs", tmp_path)
    child.add_resource("x://r", lambda: "r", name="r")
    links = [
        ResourceLink(uri=uri, name="n") for uri in ("x://r", "file://docs/a%20b.txt", "https://example.com/")
    ]
    child.add_tool(lambda: links, name="links")
    child.add_prompt(lambda: [Message(links[0])], name="link")
    async with open_client(mounted(child)) as client:
        found = (await client.call_tool("sub_links")).content
        shown = [block.uri for block in found if isinstance(block, ResourceLink)]
        assert shown == ["x://sub/r", "file://sub/docs/a%20b.txt", "https://example.com/"]
        read = await client.read_resource(shown[1])
        assert (read.text, read.contents[0].uri) == ("file", shown[1])
        message = (await client.get_prompt("sub_link")).messages[0]
        assert message.content.uri == "x://sub/r"  # type: ignore[union-attr]


@attrs.frozen
class Chosen:
    name: str


async def choose(ctx: Context, arguments: Any) -> Chosen:
    """Gathers for a task; another process gets it from JSON, by the annotation."""
    return Chosen(ctx.server.name)


async def accept(request: ElicitRequest) -> Any:
    """Answers a form with what it asks."""
    return dict.fromkeys(request.schema["properties"], request.message)


def ask_and_remember(child: Server) -> list[str]:
    """A tool that asks twice, and does something once; returns what it did."""
    done: list[str] = []

    @child.tool(task=True)
    async def ask(ctx: Context) -> str:
        first = await ctx.elicit("one?", str)
        await ctx.once("key", lambda: done.append("once"))
        second = await ctx.elicit("two?", str)
        return f"{first.data} {second.data}"

    @child.tool
    async def outer(ctx: Context) -> str:
        return str((await ctx.call_tool("ask")).data)

    return done


async def test_questions_and_rounds_are_those_of_the_call(wire: Wire) -> None:
    child = Server("child")
    done = ask_and_remember(child)
    parent = mounted(child)

    @parent.tool
    async def around(ctx: Context) -> str:
        return str((await ctx.call_tool("sub_outer")).data)

    async with wire.open(parent, elicitation_handler=accept) as client:
        for number, name in enumerate(("sub_ask", "sub_outer", "around"), 1):
            assert (await client.call_tool(name)).data == "one? two?"
            assert len(done) == number


async def test_a_task_of_a_mounted_tool_is_one_of_the_server_around(
    wire: Wire, autojump_clock: trio.testing.MockClock
) -> None:
    child = Server("child")

    @child.tool(task=True)
    async def work(ctx: Context) -> str:
        for step in range(3):
            await ctx.report_progress(step)
            await trio.sleep(10)
        answer = await ctx.elicit("go on?", str)
        return f"{ctx.server.name} {answer.data} {ctx.task_id is not None}"

    updates: list[float] = []
    parent = mounted(child)
    async with wire.open(parent, elicitation_handler=accept) as client:
        task = await client.call_tool(
            "sub_work", task=True, progress_handler=lambda progress, *rest: updates.append(progress)
        )
        result = await task.result()
        assert result.data == "child go on? True"
        assert updates[-1] == 2
        assert updates == sorted(updates)


@ERAS
async def test_a_task_is_gathered_retried_and_resumed_in_its_own_server(
    protocol: str, autojump_clock: trio.testing.MockClock
) -> None:
    child = Server("child")
    attempts: list[Any] = []

    async def gather(ctx: Context, arguments: Any) -> str:
        answer = await ctx.elicit("what?", str)
        return f"{ctx.server.name} {answer.data}"

    @child.tool(task=TaskConfig(gather=gather, retry=Retry(attempts=2, on=OSError)))
    async def work(ctx: Context) -> str:
        attempts.append((ctx.attempt, ctx.restored))
        await ctx.checkpoint(ctx.attempt)
        if ctx.attempt == 1:
            raise OSError("once")
        return str(ctx.gathered)

    @child.tool
    async def outer(ctx: Context) -> str:
        return str((await ctx.call_tool("work")).data)

    parent = mounted(child)

    @parent.tool
    async def around(ctx: Context) -> str:
        with pytest.raises(ToolError, match="Error in tool 'sub_work'"):
            await ctx.call_tool("sub_work")
        return "failed"

    async with open_client(parent, protocol=protocol, elicitation_handler=accept) as client:
        task = await client.call_tool("sub_work", task=True)
        assert (await task.result()).data == "child what?"
        assert attempts == [(1, None), (2, 1)]
        assert (await client.call_tool("around")).data == "failed"


async def test_a_worker_runs_a_mounted_tool_in_its_own_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = DurableMemoryStore()
    child, parent = Server("child"), Server("parent", task_store=store)
    lives: list[int] = []

    @child.lifespan
    @asynccontextmanager
    async def live(server: Server) -> AsyncIterator[int]:
        lives.append(1)
        yield len(lives)

    @child.tool(task=TaskConfig(recover="restart", attempts=2, gather=choose))
    async def work(ctx: Context, n: int) -> str:
        return f"{ctx.server.name} {ctx.lifespan} {n} {ctx.gathered!r}"

    parent.mount(child, "sub")
    async with open_server(parent, runs_tasks=False) as running, open_client(running) as client:
        task = await client.call_tool("sub_work", {"n": 3}, task=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(run_worker, parent)
            assert (await task.result()).data == "child 2 3 Chosen(name='child')"
            nursery.cancel_scope.cancel()


async def test_the_scopes_of_a_mounted_tool_hold() -> None:
    from trio_mcp.session.principal import Principal

    child = Server("child")
    child.add_tool(lambda: "secret", name="t", scopes=["admin"])
    async with open_server(mounted(child)) as running:
        async with open_client(running.authenticated(Principal("ada", scopes={"read"}))) as client:
            assert await client.list_tools() == []
            with pytest.raises(ProtocolError, match="admin"):
                await client.call_tool("sub_t")
        async with open_client(running.authenticated(Principal("bob", scopes={"admin"}))) as client:
            assert (await client.call_tool("sub_t")).data == "secret"
