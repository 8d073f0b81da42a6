"""Every handler of a client may be sync or async, a function, a method or a callable object."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_mcp import (
    Change,
    Context,
    ElicitAnswer,
    ElicitRequest,
    ElicitUrlRequest,
    LogMessage,
    MCPError,
    Progress,
    ProgressHandler,
    ProgressReceiver,
    ProgressSink,
    ResourceUpdated,
    SampleAnswer,
    SampleRequest,
    Server,
    StdioServer,
    detailed,
    open_client,
    open_group,
    rate_limited,
    watch_stalls,
)

server = Server("ticker")
seen: list[float] = []


@server.tool
async def tick(ctx: Context) -> str:
    for number in range(3):
        await ctx.report_progress(number, 3)
    return "done"


def on_progress(progress: float, total: float | None, message: str | None) -> None:
    seen.append(progress)


async def on_progress_slowly(progress: float, total: float | None, message: str | None) -> None:
    await trio.lowlevel.checkpoint()
    seen.append(progress)


class Meter:
    """A handler that is an object."""

    async def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        await on_progress_slowly(progress, total, message)

    def note(self, update: Progress) -> None:
        if update.eta is not None and update.share is not None:
            seen.append(update.share)


class Bar(ProgressSink):
    @asynccontextmanager
    async def open_call(self, tool: str) -> AsyncGenerator[ProgressReceiver]:
        yield Meter().note


def on_log(message: LogMessage) -> None:
    print(message.level, message.data)


async def on_log_slowly(message: LogMessage) -> None:
    on_log(message)


def on_error(error: MCPError) -> None:
    print(error)


def on_change(change: Change) -> None:
    if isinstance(change, ResourceUpdated):
        print(change.uri)


async def on_change_slowly(change: Change) -> None:
    on_change(change)


def fill_in(request: ElicitRequest) -> dict[str, Any] | None:
    return request.defaults or None


async def fill_in_slowly(request: ElicitRequest) -> ElicitAnswer | Mapping[str, Any]:
    return ElicitAnswer("cancel")


def open_page(request: ElicitUrlRequest) -> bool:
    return request.host == "example.org"


async def open_page_slowly(request: ElicitUrlRequest) -> ElicitAnswer | None:
    return None


def answer(request: SampleRequest) -> str:
    return "yes"


async def answer_slowly(request: SampleRequest) -> SampleAnswer:
    return SampleAnswer("yes", model="parrot")


def on_stall(seconds: float) -> None:
    print(seconds)


async def main() -> None:
    handlers: list[ProgressHandler | ProgressSink] = [
        on_progress,
        on_progress_slowly,
        Meter(),
        lambda progress, total, message: seen.append(progress),
        Bar(),
        detailed(Meter().note),
        rate_limited(on_progress_slowly, per_second=1000),
    ]
    async with open_client(
        server,
        progress_handler=on_progress,
        log_handler=on_log,
        on_error=on_error,
        change_handler=on_change,
        elicitation_handler=fill_in,
        elicitation_url_handler=open_page,
        sampling_handler=answer,
        roots=["file:///tmp"],
    ) as client:
        for handler in handlers:
            await client.call_tool("tick", progress_handler=handler)
        async with watch_stalls(on_progress, after=60, on_stall=on_stall) as watched:
            await client.call_tool("tick", progress_handler=watched)
    async with open_client(
        server,
        progress_handler=on_progress_slowly,
        log_handler=on_log_slowly,
        change_handler=on_change_slowly,
        elicitation_handler=fill_in_slowly,
        elicitation_url_handler=open_page_slowly,
        sampling_handler=answer_slowly,
    ) as client:
        await client.call_tool("tick", progress_handler=None)
    async with open_group(
        {"ticker": server}, log_handler=on_log_slowly, progress_handler=rate_limited(Bar(), per_second=10)
    ) as group:
        await group.call_tool("ticker_tick")
    assert seen


async def connect_elsewhere() -> None:
    """Every kind of target is one for a type checker."""
    async with open_client("https://example.org/mcp", auth="token", headers={"X-Team": "blue"}):
        pass
    async with open_client(["python", "server.py"], settings=None):
        pass
    async with open_client(StdioServer("python", ["server.py"], env={"LEVEL": "1"})):
        pass


if __name__ == "__main__":
    trio.run(main)
