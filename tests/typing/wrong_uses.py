"""Mistakes that type checkers must find: each in a line that says by which rules, and nothing else.

This module is never run. `test_checkers.py` reads the comments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trio_mcp import (
    CallResult,
    Client,
    ClientGroup,
    Context,
    Depends,
    ElicitRequest,
    LogMessage,
    ProgressSink,
    SampleRequest,
    Server,
    TaskConfig,
    TaskHandle,
    ToolAnnotations,
    open_client,
    open_group,
    serve_http,
)
from trio_mcp.middleware import CallNextTool, CallToolResult, ToolContext

server = Server("wrong")


@dataclass
class Photo:
    title: str


# Results


async def use_results(client: Client, group: ClientGroup, as_task: bool) -> None:
    taken = await client.call_tool("take", result_type=Photo)
    taken.data.name  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    size: int = taken.data  # mypy[assignment] pyright[reportAssignmentType]
    wrong: CallResult[int] = taken  # mypy[assignment] pyright[reportAssignmentType]
    taken.data = Photo("sea")  # mypy[misc] pyright[reportAttributeAccessIssue]
    several = await client.call_tool("find", result_type=list[Photo])
    several.data.title  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    grouped = await group.call_tool("photos_take", result_type=Photo)
    grouped.data.name  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    perhaps = await client.call_tool("take", task=as_task)
    perhaps.data  # mypy[union-attr] pyright[reportAttributeAccessIssue]
    forgotten = client.call_tool("take")
    forgotten.data  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    print(size, wrong)


async def use_tasks(client: Client) -> None:
    handle = await client.call_tool("take", task=True, result_type=Photo)
    handle.data  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    (await handle.result()).data.name  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    (await client.await_task(handle)).data.name  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    other: TaskHandle[int] = handle  # mypy[assignment] pyright[reportAssignmentType]
    await client.await_task(7)  # mypy[call-overload] pyright[reportCallIssue,reportArgumentType]
    print(other)


async def use_started_calls(client: Client) -> None:
    async with client.start_call("take", result_type=Photo) as handle:
        (await handle.result()).data.name  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    async with client.start_call("take", task=True):  # mypy[call-overload] pyright[reportCallIssue]
        pass


# Calls


async def call(client: Client, group: ClientGroup) -> None:
    await client.call_tool(7)  # mypy[call-overload] pyright[reportArgumentType]
    await client.call_tool("take", ["sea"])  # mypy[call-overload] pyright[reportArgumentType]
    await client.call_tool("take", timeout=3)  # mypy[call-overload] pyright[reportCallIssue]
    await client.call_tool("take", idle_timeout="3")  # mypy[call-overload] pyright[reportArgumentType]
    await client.call_tool("take", task="yes")  # mypy[call-overload] pyright[reportArgumentType]
    await group.call_tool("take", idle_timeout="3")  # mypy[call-overload] pyright[reportArgumentType]
    await group.read_resource("a://b", refesh=True)  # mypy[call-arg] pyright[reportCallIssue]
    await group.get_prompt("a", idle_timeout="3")  # mypy[arg-type] pyright[reportArgumentType]


# Handlers


def on_one_value(progress: float) -> None: ...


def on_progress_of_text(progress: str, total: float | None, message: str | None) -> None: ...


def on_text(message: str) -> None: ...


def fill_in_wrongly(request: ElicitRequest) -> list[str]:
    return [request.message]


async def answer_wrongly(request: SampleRequest) -> int:
    return request.max_tokens


class UnfinishedSink(ProgressSink):
    pass


async def connect() -> None:
    async with open_client(
        server,
        progress_handler=on_one_value,  # mypy[arg-type] pyright[reportArgumentType]
    ):
        pass
    async with open_client(
        server,
        progress_handler=on_progress_of_text,  # mypy[arg-type] pyright[reportArgumentType]
        log_handler=on_text,  # mypy[arg-type] pyright[reportArgumentType]
        elicitation_handler=fill_in_wrongly,  # mypy[arg-type] pyright[reportArgumentType]
        sampling_handler=answer_wrongly,  # mypy[arg-type] pyright[reportArgumentType]
        log_level="loud",  # mypy[arg-type] pyright[reportArgumentType]
        transport="carrier pigeon",  # mypy[arg-type] pyright[reportArgumentType]
    ) as client:
        see: Callable[[str], None] = on_text
        await client.call_tool("a", progress_handler=see)  # mypy[arg-type] pyright[reportArgumentType]
        await client.set_log_level("loud")  # mypy[arg-type] pyright[reportArgumentType]
    async with open_client(42):  # mypy[arg-type] pyright[reportArgumentType]
        pass
    async with open_group({"a": server}, log_level="loud"):  # mypy[arg-type] pyright[reportArgumentType]
        pass
    async with open_group({"a": server}, timeout=3):  # mypy[call-arg] pyright[reportCallIssue]
        pass
    UnfinishedSink()  # mypy[abstract] pyright[reportAbstractUsage]


def see_log(message: LogMessage) -> None:
    message.text  # mypy[attr-defined] pyright[reportAttributeAccessIssue]


# Servers


@server.tool(task="often")  # mypy[call-overload] pyright[reportArgumentType]
async def take(title: str) -> Photo:
    return Photo(title)


@server.tool(titel="Take")  # mypy[call-overload] pyright[reportCallIssue]
async def take_titled(title: str) -> Photo:
    return Photo(title)


@server.tool(annotations=ToolAnnotations(readOnly=True))  # mypy[call-arg] pyright[reportCallIssue]
async def find(title: str) -> list[Photo]:
    return [Photo(title)]


@server.tool
def count(titles: list[str]) -> int:
    return len(titles)


@server.prompt
def review(title: str) -> str:
    return title


@server.resource("photos://{title}")
async def read(title: str) -> str:
    return title


@server.resource(7)  # mypy[arg-type] pyright[reportArgumentType]
def read_seven() -> str:
    return "7"


async def call_directly() -> None:
    text: str = count(["sea"])  # mypy[assignment] pyright[reportAssignmentType]
    count("sea", 3)  # mypy[call-arg,arg-type] pyright[reportCallIssue]
    review(title=7)  # mypy[arg-type] pyright[reportArgumentType]
    number: int = review("sea")  # mypy[assignment] pyright[reportAssignmentType]
    photo: Photo = await read("sea")  # mypy[assignment] pyright[reportAssignmentType]
    review.finish("title")  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    TaskConfig(ttl="long")  # mypy[arg-type] pyright[reportArgumentType]
    await serve_http(server, bind=8000)  # mypy[arg-type] pyright[reportArgumentType]
    print(text, number, photo)


def run() -> None:
    server.run("pipe")  # mypy[call-overload] pyright[reportArgumentType]
    server.run("http", port=8000)  # mypy[call-overload] pyright[reportCallIssue]
    server.run("http", bind=8000)  # mypy[call-overload] pyright[reportArgumentType]
    server.run(path="/mcp")  # mypy[call-overload] pyright[reportCallIssue]


# Contexts


@server.tool
async def use_context(ctx: Context, title: str) -> int:
    ctx.progres()  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    await ctx.report_progress("half")  # mypy[arg-type] pyright[reportArgumentType]
    await ctx.log("loud", "text")  # mypy[arg-type] pyright[reportArgumentType]
    taken = await ctx.call_tool("take", {"title": title}, result_type=Photo)
    taken.data.name  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    answer = await ctx.elicit("Which?", Photo)
    answer.data.title  # mypy[union-attr] pyright[reportOptionalMemberAccess]
    answer.action == "accepted"  # mypy[comparison-overlap] pyright[reportUnnecessaryComparison]
    number: int = await ctx.once("title", lambda: title)  # mypy[arg-type] pyright[reportAssignmentType]
    await ctx.sample("What?")  # mypy[call-arg] pyright[reportCallIssue]
    ctx.principal.subject  # mypy[union-attr] pyright[reportOptionalMemberAccess]
    return number


# Dependencies and middleware


def get_photo() -> Photo:
    return Photo("sea")


@server.tool
async def look(
    text: str = Depends(get_photo),  # mypy[assignment] pyright[reportArgumentType]
    photo: Photo = Depends("get_photo"),  # mypy[call-overload] pyright[reportCallIssue]
) -> str:
    return f"{text} {photo.titel}"  # mypy[attr-defined] pyright[reportAttributeAccessIssue]


def wait_not(ctx: ToolContext, call_next: CallNextTool) -> CallToolResult:
    ctx.nam  # mypy[attr-defined] pyright[reportAttributeAccessIssue]
    return call_next(ctx)  # mypy[return-value] pyright[reportReturnType]


async def take_one(ctx: ToolContext) -> None: ...


async def return_text(ctx: ToolContext, call_next: CallNextTool) -> str:
    return str(await call_next(ctx))


server.add_tool_middleware(wait_not)  # mypy[type-var] pyright[reportArgumentType]
server.add_tool_middleware(take_one)  # mypy[type-var] pyright[reportArgumentType]
server.add_tool_middleware(return_text)  # mypy[type-var] pyright[reportArgumentType]
