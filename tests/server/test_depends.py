"""What `Depends` provides to handlers: what it may be, how often it is made, and where it works."""

import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Context,
    Depends,
    ProtocolError,
    Server,
    ServerSettings,
    TaskConfig,
    ToolError,
    open_client,
)
from trio_mcp.tasks.settings import Retry
from trio_mcp.wire.messages import PromptReference, ResourceTemplateReference

if TYPE_CHECKING:
    from decimal import Decimal


class Db:
    """A resource that knows whether it is open."""

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.is_open = True


class Log(list[str]):
    """What happened, in order."""

    def open_db(self, name: str = "main") -> Callable[[], AsyncIterator[Db]]:
        """A dependency that says when it is opened and closed."""

        async def open_db() -> AsyncIterator[Db]:  # noqa: ASYNC900
            await trio.lowlevel.checkpoint()
            db = Db(name)
            self.append(f"open {name}")
            try:
                yield db
            finally:
                await trio.lowlevel.checkpoint()  # noqa: ASYNC102
                db.is_open = False
                self.append(f"close {name}")

        return open_db


async def call(server: Server, name: str, arguments: dict[str, Any] | None = None) -> Any:
    async with open_client(server) as client:
        return (await client.call_tool(name, arguments)).data


async def test_a_tool_gets_what_it_depends_on_and_it_is_cleaned_up_before_the_result(wire: Wire) -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    async def get_user(db: Annotated[Db, Depends(get_db)], ctx: Context) -> str:
        return f"{ctx.request_meta.get('user', 'nobody')} of {db.name}"

    @server.tool
    async def find(
        item: int, db: Annotated[Db, Depends(get_db)], ctx: Context, user: str = Depends(get_user)
    ) -> str:
        await ctx.report_progress(item)
        log.append("find")
        return f"{item} for {user}, {db.is_open}"

    seen: list[float] = []
    async with wire.open(server) as client:
        (tool,) = await client.list_tools()
        assert list(tool.input_schema["properties"]) == ["item"]
        result = await client.call_tool(
            "find", {"item": 3}, progress_handler=lambda progress, total, message: seen.append(progress)
        )
        assert log == ["open main", "find", "close main"]
        assert (result.data, seen) == ("3 for nobody of main, True", [3])
        with pytest.raises(ToolError, match="unexpected argument 'db'"):
            await client.call_tool("find", {"item": 3, "db": "other"})


class Plain:
    def __init__(self, ctx: Context, limit: int = 10) -> None:
        self.name = f"plain {limit}"


class Entered:
    async def __aenter__(self) -> Db:
        await trio.lowlevel.checkpoint()
        return Db("entered class")

    async def __aexit__(self, *reason: object) -> None:
        await trio.lowlevel.checkpoint()  # noqa: ASYNC102


class EnteredInThread:
    def __enter__(self) -> Db:
        return Db(f"sync class in {threading.current_thread() is not threading.main_thread()}")

    def __exit__(self, *reason: object) -> None:
        pass


class Holder:
    async def get(self) -> Db:
        await trio.lowlevel.checkpoint()
        return Db("method")

    async def __call__(self) -> Db:
        await trio.lowlevel.checkpoint()
        return Db("callable")


def returned() -> Db:
    return Db("function")


async def awaited() -> Db:
    await trio.lowlevel.checkpoint()
    return Db("async function")


def yielded() -> Iterator[Db]:
    yield Db("generator")


async def async_yielded(name: str = "async generator") -> AsyncIterator[Db]:  # noqa: ASYNC900
    await trio.lowlevel.checkpoint()
    yield Db(name)


async def lazy() -> Awaitable[Db]:
    return awaited()


def annotated_manager() -> AbstractAsyncContextManager[Db]:
    return Entered()  # type: ignore[return-value]  # its exit returns no bool


def annotated_sync_manager() -> AbstractContextManager[Db]:
    return EnteredInThread()


@pytest.mark.parametrize(
    ("dependency", "name"),
    [
        (returned, "function"),
        (awaited, "async function"),
        (yielded, "generator"),
        (async_yielded, "async generator"),
        (contextmanager(yielded), "generator"),
        (asynccontextmanager(async_yielded), "async generator"),
        (functools.partial(async_yielded, name="partial"), "partial"),
        (functools.partial(asynccontextmanager(async_yielded), "partial"), "partial"),
        (lambda: Db("lambda"), "lambda"),
        (lambda: awaited(), "async function"),  # as some write it
        (lambda: asynccontextmanager(async_yielded)("of a lambda"), "of a lambda"),
        (annotated_manager, "entered class"),
        (annotated_sync_manager, "sync class in True"),
        (Db, "main"),
        (Plain, "plain 10"),
        (Entered, "entered class"),
        (EnteredInThread, "sync class in True"),
        (Holder().get, "method"),
        (Holder(), "callable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_dependency_may_be(dependency: Callable[..., Any], name: str) -> None:
    server = Server("depends")

    @server.tool
    async def find(db: Any = Depends(dependency)) -> str:
        return str(db.name)

    assert await call(server, "find") == name


async def test_what_a_function_returns_is_not_entered_because_others_may_share_it() -> None:
    lock = trio.Lock()
    server = Server("depends")

    @server.tool
    async def find(mine: trio.Lock = Depends(lambda: lock)) -> bool:
        return mine is lock and not lock.locked()

    assert await call(server, "find") is True


async def test_depends_alone_stands_for_the_class_of_the_annotation() -> None:
    server = Server("depends")

    @server.tool
    async def find(one: Annotated[Db, Depends()], other: Entered = Depends()) -> list[Any]:
        return [one.name, getattr(other, "name", None)]

    assert await call(server, "find") == ["main", "entered class"]


async def test_the_annotation_of_a_default_may_exist_for_type_checkers_only() -> None:
    server = Server("depends")

    @server.tool
    async def find(price: "Decimal" = Depends(lambda: 5)) -> int:
        return int(price)

    assert await call(server, "find") == 5


async def test_a_dependency_is_made_once_for_a_run_and_anew_for_the_next() -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    async def get_user(db: Annotated[Db, Depends(get_db)]) -> Db:
        return db

    @server.tool
    async def find(
        db: Annotated[Db, Depends(get_db)],
        user: Annotated[Db, Depends(get_user)],
        own: Annotated[Db, Depends(get_db, use_cache=False)],
    ) -> list[bool]:
        return [user is db, own is db]

    for _ in range(2):
        assert await call(server, "find") == [True, False]
        assert log == ["open main", "open main", "close main", "close main"]
        log.clear()


async def test_methods_of_one_object_are_one_dependency() -> None:
    server = Server("depends")
    holder = Holder()

    @server.tool
    async def find(one: Db = Depends(holder.get), other: Db = Depends(holder.get)) -> bool:
        return one is other

    assert await call(server, "find") is True


async def test_sync_dependencies_run_in_worker_threads_unless_they_are_cheap() -> None:
    server = Server("depends")
    places: list[bool] = []

    def note() -> None:
        places.append(threading.current_thread() is threading.main_thread())

    def get(value: int) -> int:
        note()
        return value

    def open_it(value: int) -> Iterator[int]:
        note()
        yield value
        note()

    @server.tool
    async def find(
        a: int = Depends(functools.partial(get, 1)),
        b: int = Depends(functools.partial(open_it, 2)),
        c: int = Depends(functools.partial(get, 3), thread=False),
        d: int = Depends(functools.partial(open_it, 4), thread=False),
    ) -> list[int]:
        return [a, b, c, d]

    assert await call(server, "find") == [1, 2, 3, 4]
    assert places == [False, False, True, True, True, False]


async def test_a_sync_tool_runs_in_a_thread_with_what_it_depends_on() -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    @server.tool
    def find(item: int, ctx: Context, db: Db = Depends(get_db)) -> list[Any]:
        ctx.check_cancelled()  # only worker threads may
        log.append("find")
        return [item, db.is_open]

    assert await call(server, "find", {"item": 3}) == [3, True]
    assert log == ["open main", "find", "close main"]


async def test_prompts_resources_and_templates_have_dependencies() -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    @server.prompt
    def ask(topic: str, db: Annotated[Db, Depends(get_db)]) -> str:
        log.append("ask")
        return f"{topic} in {db.name}"

    @server.resource("db://name")
    async def name(db: Annotated[Db, Depends(get_db)]) -> str:
        log.append("name")
        return db.name

    @server.resource("db://rows/{row}")
    async def read(row: int, db: Db = Depends(get_db)) -> dict[str, Any]:
        log.append("read")
        return {"row": row, "in": db.name}

    async with open_client(server) as client:
        (prompt,) = await client.list_prompts()
        assert [argument.name for argument in prompt.arguments or ()] == ["topic"]
        result = await client.get_prompt("ask", {"topic": "trees"})
        assert result.messages[0].content.text == "trees in main"  # type: ignore[union-attr]
        assert (await client.read_resource("db://name")).contents[0].text == "main"
        found = (await client.read_resource("db://rows/7")).contents[0]
        assert (found.text, found.mime_type) == ('{"row":7,"in":"main"}', "application/json")
    assert log == [step for name in ("ask", "name", "read") for step in ("open main", name, "close main")]


async def test_functions_that_complete_arguments_have_dependencies() -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    @server.prompt
    def ask(topic: str) -> str:
        return topic

    @ask.complete("topic")
    async def topics(db: Annotated[Db, Depends(get_db)], typed: str, known: dict[str, str]) -> list[str]:
        return [f"{typed} in {db.name} with {known['other']}"]

    @server.resource("db://rows/{row}")
    def read(row: int) -> str:
        return str(row)

    @read.complete("row")
    def rows(typed: str, db: Db = Depends(get_db)) -> list[str]:
        return [f"{typed}0 of {db.name}"]

    async with open_client(server) as client:
        found = await client.complete(
            PromptReference(name="ask"), {"name": "topic", "value": "t"}, {"other": "o"}
        )
        assert found.values == ["t in main with o"]
        found = await client.complete(
            ResourceTemplateReference(uri="db://rows/{row}"), {"name": "row", "value": "1"}
        )
        assert found.values == ["10 of main"]
    assert log == ["open main", "close main"] * 2


async def test_a_tool_that_another_calls_has_dependencies_of_its_own() -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    @server.tool
    async def inner(db: Annotated[Db, Depends(get_db)]) -> str:
        return db.name

    @server.tool
    async def outer(ctx: Context, db: Annotated[Db, Depends(get_db)]) -> str:
        found = (await ctx.call_tool("inner")).data
        log.append("outer goes on")
        return str(found)

    assert await call(server, "outer") == "main"
    assert log == ["open main", "open main", "close main", "outer goes on", "close main"]


@pytest.mark.parametrize("place", ["tool", "dependency"])
async def test_a_sync_function_with_dependencies_calls_a_tool_if_all_threads_are_taken(
    place: str,
) -> None:
    server = Server("depends", settings=ServerSettings(thread_limit=1))

    @server.tool
    def inner() -> str:
        return "inner"

    def ask(ctx: Context) -> str:
        return str(trio.from_thread.run(ctx.call_tool, "inner").data)

    if place == "tool":

        @server.tool
        def outer(ctx: Context, db: Db = Depends(Db)) -> str:
            return ask(ctx)
    else:

        @server.tool(name="outer")
        async def other(answer: str = Depends(ask)) -> str:
            return answer

    with trio.fail_after(HANG_SECONDS):
        assert await call(server, "outer") == "inner"


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_the_dependencies_of_a_task_last_as_long_as_its_handler(protocol: str) -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")
    began, go_on = trio.Event(), trio.Event()
    in_tasks: list[trio.lowlevel.Task] = []

    async def get_task() -> AsyncIterator[trio.lowlevel.Task]:  # noqa: ASYNC900
        yield trio.lowlevel.current_task()
        in_tasks.append(trio.lowlevel.current_task())

    @server.tool(task=True)
    async def work(task: trio.lowlevel.Task = Depends(get_task), db: Db = Depends(get_db)) -> list[bool]:
        in_tasks.append(trio.lowlevel.current_task())
        began.set()
        await go_on.wait()
        return [db.is_open, task is trio.lowlevel.current_task()]

    async with open_client(server, protocol=protocol) as client:
        task = await client.call_tool("work", task=True)
        await began.wait()
        assert log == ["open main"]
        go_on.set()
        assert (await task.result()).data == [True, True]
    assert log == ["open main", "close main"]
    assert len(set(in_tasks)) == 1


async def test_each_attempt_of_a_task_has_its_dependencies_anew(autojump_clock: Any) -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    @server.tool(task=TaskConfig(retry=Retry(attempts=2, backoff=1), promote_after=0))
    async def work(ctx: Context, db: Db = Depends(get_db)) -> int:
        if ctx.attempt == 1:
            raise OSError("away")
        return ctx.attempt

    async with open_client(server) as client:
        task = await client.call_tool("work", task=True)
        assert (await task.result()).data == 2
    assert log == ["open main", "close main"] * 2


async def test_a_run_that_ends_because_it_asks_its_client_cleans_up_and_begins_anew() -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", str)
        return answer.action

    @server.tool
    async def find(db: Annotated[Db, Depends(get_db)], who: Annotated[str, Depends(ask)]) -> str:
        return who

    async with open_client(server, elicitation_handler=lambda request: {"value": "Ada"}) as client:
        assert (await client.call_tool("find")).data == "accept"
    assert log == ["open main", "close main"] * 2


async def test_what_a_dependency_raises_is_the_failure_of_the_call() -> None:
    log = Log()
    get_db = log.open_db()
    server = Server("depends")

    async def get_user(ctx: Context, db: Annotated[Db, Depends(get_db)]) -> str:
        raise ToolError("nobody is logged in")

    async def refuse(ctx: Context) -> None:
        raise ProtocolError(-32099, "not today")

    @server.tool
    async def find(user: Annotated[str, Depends(get_user)]) -> str:
        log.append("find")
        return user

    @server.prompt
    async def ask(user: Annotated[None, Depends(refuse)]) -> str:
        return "never"

    async with open_client(server) as client:
        with pytest.raises(ToolError, match="nobody is logged in"):
            await client.call_tool("find")
        with pytest.raises(ProtocolError, match="not today"):
            await client.get_prompt("ask")
    assert log == ["open main", "close main"]


async def test_a_tool_with_a_given_schema_has_dependencies() -> None:
    server = Server("depends")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}

    @server.tool(input_schema=schema, validate=False)
    async def whole(arguments: dict[str, Any], db: Db = Depends(Db)) -> str:
        return f"{arguments} {db.name}"

    @server.tool(input_schema=schema, validate=False)
    async def rest(db: Annotated[Db, Depends(Db)], **arguments: Any) -> str:
        return f"{arguments} {db.name}"

    for name in ("whole", "rest"):
        assert await call(server, name, {"n": 1}) == "{'n': 1} main"


async def test_a_handler_keeps_its_name_its_docstring_and_is_called_directly_as_before() -> None:
    server = Server("depends")

    class Finder:
        """Not this."""

        async def __call__(self, item: int, db: Db = Depends(Db)) -> str:
            """Find an item.

            Args:
                item: Its number.
                db: Not shown.
            """
            return f"{item} {db.name}"

    server.add_tool(Finder(), name="finder")

    @server.prompt
    async def ask(db: Db = Depends(Db)) -> str:
        """Ask."""
        return db.name

    tool = server.tools["finder"].listing
    assert tool.description == "Find an item."
    assert tool.input_schema["properties"] == {"item": {"type": "integer", "description": "Its number."}}
    assert server.prompts["ask"].listing.description == "Ask."
    assert await ask(Db("mine")) == "mine"
    assert await call(server, "finder", {"item": 1}) == "1 main"


@attrs.define
class Repository:
    """Has methods that are tools."""

    name: str

    async def find(self, item: int, db: Annotated[Db, Depends(Db)]) -> str:
        return f"{item} of {self.name} in {db.name}"


async def test_a_method_and_a_partial_have_dependencies() -> None:
    server = Server("depends")
    server.add_tool(Repository("trees").find)
    server.add_tool(functools.partial(Repository("leaves").find, 5), name="five")
    server.add_tool(functools.partial(Repository("roots").find, db=Db("bound")), name="bound")
    assert await call(server, "find", {"item": 3}) == "3 of trees in main"
    assert await call(server, "five") == "5 of leaves in main"
    assert await call(server, "bound", {"item": 4}) == "4 of roots in bound"
