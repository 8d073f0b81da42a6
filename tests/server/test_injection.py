"""What registration refuses of `Depends`, and what takes the place of a dependency in a test."""

import functools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
import trio

from trio_mcp import (
    Context,
    DefinitionError,
    Depends,
    PromptDefinitionError,
    ResourceDefinitionError,
    Server,
    ToolDefinitionError,
    open_client,
)


def get_db() -> str:
    return "db"


def needs_dsn(dsn: str) -> str:
    return dsn


def needs_position(db: Annotated[str, Depends(get_db)], /) -> str:
    return db


def needs_itself(one: Any) -> Any:
    return one


def needs_first(one: Annotated[Any, Depends(needs_itself)]) -> Any:
    return one


needs_itself.__annotations__["one"] = Annotated[Any, Depends(needs_first)]


def unresolved(one: "Annotated[Nothing, Depends(get_db)]") -> Any:  # type: ignore[name-defined]  # noqa: F821
    return one


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (
            Annotated[str, Depends(needs_dsn)],
            "dependency needs_dsn, parameter 'dsn': nobody gives it a value: a parameter of a dependency "
            "needs a Depends, a default, or the annotation Context",
        ),
        (
            Annotated[str, Depends(needs_first)],
            "dependency needs_first: it needs itself: needs_first -> needs_itself -> needs_first",
        ),
        (Annotated[str, Depends(needs_position)], "dependency needs_position, parameter 'db': it cannot be"),
        (
            Annotated[str, Depends(unresolved)],
            "dependency unresolved, parameter 'one': .* be resolved",
        ),
        (Annotated[str, Depends(int)], "dependency int has no usable signature"),
        (Annotated[str, Depends(get_db), Depends(needs_dsn)], "parameter 'db': it has several dependencies"),
        (Depends(get_db), "parameter 'db': Depends stands beside the whole type"),
        (list[Annotated[str, Depends(get_db)]], "parameter 'db': Depends stands beside the whole type"),
        (Annotated[str, Depends(get_db)] | None, "parameter 'db': Depends stands beside the whole type"),
        (Annotated[list[str], Depends()], r"parameter 'db': Depends\(\) stands for the class"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_provided_is_refused_at_registration(annotation: Any, message: str) -> None:
    def find(item: str, db: str) -> str:
        return db

    find.__annotations__["db"] = annotation
    server = Server("injection")
    with pytest.raises(ToolDefinitionError, match=f"^tool 'find', {message}"):
        server.add_tool(find)
    with pytest.raises(PromptDefinitionError, match=f"^prompt 'find', {message}"):
        server.add_prompt(find)
    with pytest.raises(ResourceDefinitionError, match=r"^resource 'db://{item}', "):
        server.add_resource("db://{item}", find)

    @server.prompt
    def ask(topic: str) -> str:
        return topic

    with pytest.raises(PromptDefinitionError, match=f"^prompt 'ask', argument 'topic', {message}"):
        ask.complete("topic")(find)
    assert list(server.tools) == []


def test_a_dependency_in_the_annotation_and_another_as_the_default_are_refused() -> None:
    server = Server("injection")

    def find(db: Annotated[str, Depends(get_db)] = Depends(needs_dsn)) -> str:
        return db

    with pytest.raises(ToolDefinitionError, match="it has several dependencies"):
        server.add_tool(find)


def test_the_depends_of_another_library_is_refused() -> None:
    class _Depends:  # as those of FastMCP and FastAPI are called
        pass

    def of_default(topic: str, db: Server = _Depends()) -> str:  # type: ignore[assignment]  # noqa: B008
        return topic

    def of_annotation(topic: str, db: Annotated[Server, _Depends()]) -> str:
        return topic

    server = Server("injection")

    @server.prompt
    def ask(topic: str) -> str:
        return topic

    for function in (of_default, of_annotation):
        for register in (server.add_tool, server.add_prompt, ask.complete("topic")):
            with pytest.raises(DefinitionError, match=r"parameter 'db': .*: import Depends from trio_mcp"):
                register(function)


def test_a_plain_default_beside_a_dependency_is_for_direct_calls() -> None:
    server = Server("injection")

    @server.tool
    def find(db: Annotated[str, Depends(get_db)] = "none") -> str:
        return db

    assert find() == "none"
    assert server.tools["find"].listing.input_schema["properties"] == {}


async def test_depends_refuses_what_is_no_function() -> None:
    async def get() -> str:
        await trio.lowlevel.checkpoint()
        return "db"

    called = get()
    with pytest.raises(TypeError, match="pass the function itself, and do not call it"):
        Depends(called)  # type: ignore[call-overload]
    await called
    with pytest.raises(TypeError, match="pass a function that returns it, such as a lambda"):
        Depends("db")  # type: ignore[call-overload]


def test_a_server_without_dependencies_imports_nothing_for_them() -> None:
    program = (
        "import sys; from trio_mcp import Server; Server('plain').add_tool(lambda: 1, name='a');"
        "print([name for name in sys.modules if 'depend' in name or 'injection' in name])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_what_is_needed_in_many_ways_is_read_once() -> None:
    def make(depth: int) -> Callable[..., Any]:
        if depth == 0:
            return get_db
        below = make(depth - 1)

        def provide(a: Annotated[str, Depends(below)], b: Annotated[str, Depends(below)]) -> str:
            return a + b

        return provide

    server = Server("injection")

    @server.tool
    def find(a: Annotated[str, Depends(make(40))]) -> str:  # 2 ** 40 ways lead to get_db
        return a

    assert list(server.tools) == ["find"]


def make_server() -> Server:
    server = Server("injection")

    async def get_user(db: Annotated[str, Depends(get_db)]) -> str:
        await trio.lowlevel.checkpoint()
        return f"user of {db}"

    @server.tool
    async def find(user: Annotated[str, Depends(get_user)], db: Annotated[str, Depends(get_db)]) -> str:
        return f"{user}, {db}"

    return server


async def test_a_dependency_is_replaced_for_as_long_as_the_block_lasts() -> None:
    server = make_server()
    async with open_client(server) as client:

        async def find() -> Any:
            return (await client.call_tool("find")).data

        assert await find() == "user of db, db"
        with server.override_dependency(get_db, lambda: "fake"):
            assert await find() == "user of fake, fake"
            with server.override_dependency(get_db, lambda: "newer"):
                assert await find() == "user of newer, newer"
            assert await find() == "user of fake, fake"
        assert await find() == "user of db, db"
        assert await make_other_call() == "user of db, db"


async def make_other_call() -> Any:
    async with open_client(make_server()) as client:
        return (await client.call_tool("find")).data


async def test_a_replacement_counts_for_its_server_only() -> None:
    server = make_server()
    with server.override_dependency(get_db, lambda: "fake"):
        assert await make_other_call() == "user of db, db"


async def test_blocks_of_replacements_may_end_in_any_order() -> None:
    server = make_server()
    first = server.override_dependency(get_db, lambda: "first")
    second = server.override_dependency(get_db, lambda: "second")
    async with open_client(server) as client:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert (await client.call_tool("find")).data == "user of second, second"
        second.__exit__(None, None, None)
        assert (await client.call_tool("find")).data == "user of db, db"


async def test_a_replacement_may_depend_on_what_it_replaces_and_have_the_context() -> None:
    server = make_server()
    ended: list[str] = []

    async def around(db: Annotated[str, Depends(get_db)], ctx: Context) -> AsyncIterator[str]:  # noqa: ASYNC900
        yield f"a fake {db} for {ctx.protocol_version}"
        ended.append(db)

    with server.override_dependency(get_db, around):
        async with open_client(server, protocol="2026-07-28") as client:
            fake = "a fake db for 2026-07-28"
            assert (await client.call_tool("find")).data == f"user of {fake}, {fake}"
    assert ended == ["db"]


async def test_a_sync_replacement_runs_in_the_thread_of_trio(autojump_clock: Any) -> None:
    server = make_server()
    threads: list[threading.Thread] = []

    def fake() -> str:
        threads.append(threading.current_thread())
        return "fake"

    with server.override_dependency(get_db, fake):
        async with open_client(server) as client:
            await client.call_tool("find")
    assert threads == [threading.main_thread()]


async def test_a_call_goes_on_with_what_it_began_with() -> None:
    server = Server("injection")
    began, go_on = trio.Event(), trio.Event()

    async def wait() -> None:
        began.set()
        await go_on.wait()

    @server.tool
    async def find(waited: Annotated[None, Depends(wait)], db: Annotated[str, Depends(get_db)]) -> str:
        return db

    async with open_client(server) as client:
        found: list[Any] = []

        async def call() -> None:
            found.append((await client.call_tool("find")).data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await began.wait()
            with server.override_dependency(get_db, lambda: "fake"):
                go_on.set()
                assert (await client.call_tool("find")).data == "fake"
    assert found == ["db"]


@pytest.mark.parametrize(
    ("dependency", "replacement", "error", "message"),
    [
        (get_db, "fake", TypeError, "one function takes the place of another, and 'fake' is none"),
        ("get_db", get_db, TypeError, "and 'get_db' is none"),
        (
            get_db,
            needs_dsn,
            DefinitionError,
            "replacement of get_db, dependency needs_dsn, parameter 'dsn'",
        ),
        (get_db, needs_first, DefinitionError, "dependency needs_first: it needs itself"),
    ],
)
def test_what_cannot_replace_a_dependency_is_refused(
    dependency: Callable[..., Any], replacement: Any, error: type[Exception], message: str
) -> None:
    server = make_server()
    with pytest.raises(error, match=message), server.override_dependency(dependency, replacement):
        pytest.fail("it was taken")


async def test_partials_with_other_arguments_are_other_dependencies() -> None:
    server = Server("injection")
    first, second = functools.partial(needs_dsn, dsn="first"), functools.partial(needs_dsn, dsn="second")

    @server.tool
    async def find(a: Annotated[str, Depends(first)], b: Annotated[str, Depends(second)]) -> list[str]:
        return [a, b]

    with server.override_dependency(second, lambda: "fake"):
        async with open_client(server) as client:
            assert (await client.call_tool("find")).data == ["first", "fake"]
