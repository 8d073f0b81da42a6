"""A handler that asks and reports gives the same result and progress, however its questions travel."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio

from tests.conftest import MODERN, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Conflate,
    Context,
    Lossless,
    Server,
    ServerSettings,
    open_client,
    serve_http,
)
from trio_mcp.testing import WireRecorder

PROGRESS = "notifications/progress"
KEY = "a secret of the replicas, long enough to be one"


@attrs.frozen
class Name:
    name: str


def make_server(runs: list[str] | None = None, **settings: Any) -> Server:
    server = Server("asks", settings=ServerSettings(**settings))
    noted = [] if runs is None else runs

    @server.tool(task=True)
    async def introduce(ctx: Context, greeting: str) -> str:
        return await work(ctx, greeting)

    @server.tool
    async def introduce_now(ctx: Context, greeting: str) -> str:
        return await work(ctx, greeting)

    @server.prompt
    async def introduction(ctx: Context, greeting: str) -> str:
        return await work(ctx, greeting)

    @server.resource("introduction://{greeting}")
    async def introduced(ctx: Context, greeting: str) -> str:
        return await work(ctx, greeting)

    async def work(ctx: Context, greeting: str) -> str:
        noted.append(greeting)
        await ctx.report_progress(1, 4, "before all")
        first = await ctx.elicit("First name?", Name)
        await ctx.report_progress(2, 4, "one name")
        last = await ctx.elicit("Last name?", Name)
        assert first.data is not None
        assert last.data is not None
        name = f"{first.data.name} {last.data.name}"
        await ctx.report_progress(3, 4, f"asking about {name}")
        opinion = await ctx.sample(f"Is {name} a good name?", max_tokens=10)
        await ctx.report_progress(4, 4, "done")
        return f"{greeting}, {name}: {opinion.text}"

    return server


EXPECTED = "Hello, Ada Lovelace: yes"
REPORTS = [
    (1, 4, "before all"),
    (2, 4, "one name"),
    (3, 4, "asking about Ada Lovelace"),
    (4, 4, "done"),
]
NAMES = {"First name?": "Ada", "Last name?": "Lovelace"}
ANSWERS: dict[str, Any] = {
    "elicitation_handler": lambda request: {"name": NAMES[request.message]},
    "sampling_handler": lambda request: "yes",
}


@pytest.mark.parametrize("way", ["now", "task", "may be a task", "prompt", "resource"])
async def test_law_asking_changes_neither_result_nor_progress(wire: Wire, way: str) -> None:
    runs: list[str] = []
    seen: list[Any] = []
    options: dict[str, Any] = {"progress_handler": lambda *update: seen.append(update)}
    arguments = {"greeting": "Hello"}
    with trio.fail_after(HANG_SECONDS):
        async with wire.open(make_server(runs), **ANSWERS) as client:
            match way:
                case "now":
                    result: Any = (await client.call_tool("introduce_now", arguments, **options)).data
                case "may be a task":
                    result = (await client.call_tool("introduce", arguments, **options)).data
                case "task":
                    task = await client.call_tool("introduce", arguments, task=True, **options)
                    result = (await task.result()).data
                case "prompt":
                    found = await client.get_prompt("introduction", arguments, **options)
                    result = found.messages[0].content.text  # type: ignore[union-attr]  # it is text
                case "resource":
                    result = (await client.read_resource("introduction://Hello", **options)).text
    assert result == EXPECTED
    assert seen == REPORTS
    in_rounds = wire.protocol == MODERN and way in ("now", "prompt", "resource")
    assert len(runs) == (4 if in_rounds else 1)


@pytest.mark.parametrize(
    "policy", [Conflate(), Conflate(message="merge"), Conflate(min_interval=0.01), Lossless()], ids=repr
)
async def test_law_progress_increases_on_the_wire_over_all_rounds(wire: Wire, policy: Any) -> None:
    """Also if messages change without progress, which are sent as slightly larger numbers."""
    server = Server("asks", settings=ServerSettings(progress=policy))

    @server.tool
    async def work(ctx: Context) -> str:
        for stage in range(3):
            await ctx.report_progress(stage, 9, f"{stage} begins")
            for number in range(3):
                await ctx.report_progress(stage, 9, f"{stage} goes on {number}")
            await ctx.elicit(f"Stage {stage}?", Name)
        await ctx.report_progress(9, 9, "done")
        return "done"

    recorder = wire.recorder(server)
    seen: list[float] = []
    async with wire.open(recorder, elicitation_handler=lambda request: {"name": "x"}) as client:
        result = await client.call_tool("work", progress_handler=lambda *update: seen.append(update[0]))
    assert result.data == "done"
    sent = [update["progress"] for update in _progress(recorder)]
    assert sent == sorted(set(sent))
    assert sent[0] == 0
    assert sent[-1] == 9
    assert seen == sorted(seen)


def _progress(recorder: WireRecorder) -> list[dict[str, Any]]:
    return [message["params"] for message in recorder.received_messages(PROGRESS)]


@asynccontextmanager
async def open_proxy(urls: list[str]) -> AsyncIterator[str]:
    """A proxy that hands each request to the next of `urls`, whatever it is about."""
    nursery: trio.Nursery
    ports = itertools.cycle(int(url.rsplit(":", 1)[1].split("/")[0]) for url in urls)

    async def hand_over(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def handle(client: trio.SocketStream) -> None:
        async with client:
            # A new connection for each request, because the requests of one go to all replicas.
            head = b""
            while b"\r\n\r\n" not in head:
                data = await client.receive_some()
                if not data:
                    return
                head += data
            head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
            async with await trio.open_tcp_stream("127.0.0.1", next(ports)) as server:
                await server.send_all(head)
                async with trio.open_nursery() as both:
                    both.start_soon(hand_over, client, server)
                    await hand_over(server, client)
                    both.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        yield f"http://127.0.0.1:{port}/mcp"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["now", "prompt"])
async def test_law_replicas_behind_a_proxy_go_on_with_each_others_calls(way: str) -> None:
    runs: list[list[str]] = [[], []]
    seen: list[Any] = []
    options: dict[str, Any] = {"progress_handler": lambda *update: seen.append(update)}
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            urls: list[str] = []
            for noted in runs:
                serve = partial(serve_http, make_server(noted, state_keys=[KEY]), bind="127.0.0.1:0")
                urls += await nursery.start(serve)
            async with open_proxy(urls) as url:
                for _ in range(2):
                    async with open_client(url, protocol=MODERN, **ANSWERS) as client:
                        if way == "now":
                            result: Any = (
                                await client.call_tool("introduce_now", {"greeting": "Hello"}, **options)
                            ).data
                        else:
                            found = await client.get_prompt("introduction", {"greeting": "Hello"}, **options)
                            result = found.messages[0].content.text  # type: ignore[union-attr]  # it is text
                        assert result == EXPECTED
            nursery.cancel_scope.cancel()
    assert seen == REPORTS * 2
    assert [len(noted) for noted in runs] == [4, 4]


async def test_law_a_run_has_finished_before_the_next_begins(wire: Wire) -> None:
    """What a handler cleans up when it asks is done before the client is asked."""
    server = Server("asks")
    events: list[str] = []

    @server.tool
    async def work(ctx: Context) -> str:
        events.append("begin")
        try:
            answer = await ctx.elicit("Who?", Name)
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
            events.append("end")
        return answer.action

    def answer(request: Any) -> dict[str, str]:
        events.append("asked")
        return {"name": "Ada"}

    async with wire.open(server, elicitation_handler=answer) as client:
        await client.call_tool("work")
    if wire.protocol == MODERN:
        assert events == ["begin", "end", "asked", "begin", "end"]
    else:
        assert events == ["begin", "asked", "end"]
