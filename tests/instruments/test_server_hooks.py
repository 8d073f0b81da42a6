"""What the instruments of a server are told, and that a server without any runs no code of them."""

from __future__ import annotations

import logging
import random
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import trio_mcp
from tests.conftest import LEGACY, MODERN, Wire
from tests.instruments.recorder import Recorder
from tests.support.asgi_host import finish, open_host
from tests.support.raw_peer import open_raw
from trio_mcp import (
    Conflate,
    Context,
    Lossless,
    ProtocolError,
    Retry,
    Server,
    ServerSettings,
    TaskConfig,
    ToolError,
    asgi_app,
    open_client,
    open_server,
)
from trio_mcp.instruments import Instrument, ObservedCall
from trio_mcp.outgoing.observed_queue import ObservedQueue
from trio_mcp.outgoing.outbox import Outbox
from trio_mcp.outgoing.report import Report
from trio_mcp.session.server_session import ServerSession
from trio_mcp.testing import StepClock, WireRecorder

PACKAGE = str(Path(trio_mcp.__file__).parent)
OBSERVING = {
    *("instruments", "instrumentation", "instrumented_session", "observed_reporter", "observed_queue"),
    *("observed_tasks", "kinds"),
}
"""The modules that are there for instruments alone."""


def make_server(*instruments: object, **settings: Any) -> Server:
    server = Server("observed", version="1", settings=ServerSettings(**settings))
    for instrument in instruments:
        server.add_instrument(instrument)

    @server.tool
    async def count(ctx: Context, to: int) -> int:
        for number in range(to):
            await ctx.report_progress(number + 1, to)
        ctx.progress().set_message("done")
        return to

    @server.tool
    async def fail(kind: str) -> None:
        raise {"tool": ToolError, "value": ValueError}[kind]("no")

    @server.tool
    async def wait() -> None:
        await trio.sleep_forever()

    @server.prompt
    async def greet(name: str) -> str:
        return f"Hello {name}"

    @server.resource("photo://{name}")
    async def photo(name: str) -> str:
        return name

    return server


async def test_a_call_is_told_with_its_progress_and_its_end(wire: Wire) -> None:
    recorder = Recorder()
    async with wire.open(make_server(recorder)) as client:
        await client.call_tool("count", {"to": 2}, progress_handler=lambda *update: None)
        assert recorder.of("call_started", "progress", "call_ended") == [
            ("call_started", "tools/call", "count"),
            ("progress", "ObservedCall", 1, 2, None),
            ("progress", "ObservedCall", 2, 2, None),
            ("progress", "ObservedCall", 2, 2, "done"),
            ("call_ended", "tools/call", "result"),
        ]
        (call,) = [call for call in recorder.calls if call.method == "tools/call"]
        assert (call.side, call.protocol_version, call.dropped) == ("server", wire.protocol, 0)
        kinds = {"websocket-asgi": "websocket"}
        assert call.transport == kinds.get(wire.transport, wire.transport)
        has_session = wire.transport != "http" or wire.protocol == LEGACY
        assert (call.session is not None) is has_session
        assert len(recorder.sessions) == has_session
        if call.session is not None:
            assert call.session.protocol_version == wire.protocol
            assert call.session.peer_info is not None
            assert (call.session.id is None) is (wire.transport != "http")
    ended = [("session_ended", call.transport)] if has_session else []
    assert recorder.of("session_ended") == ended
    assert not ended or recorder.told[-1] == ended[0]


@pytest.mark.parametrize("policy", [Conflate(buffer=8), Lossless(buffer=8)], ids=repr)
async def test_what_is_reported_arrives_as_without_an_instrument(
    policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[bool, list[Any]] = {}
    for is_observed in (False, True):
        monkeypatch.setattr("trio._core._run._r", random.Random(7))  # the order within a round
        instruments = [Recorder()] if is_observed else []
        server = make_server(*instruments, progress=policy, turn_clock=StepClock())

        @server.tool
        async def mix(ctx: Context) -> None:
            for number in range(100):
                ctx.progress().increment()
                ctx.progress().increment()
                await ctx.report_progress(2.5 * number, 1000, str(number))
                ctx.progress().set_message("between")
            await trio.testing.wait_all_tasks_blocked()  # the writer has taken it all
            async with ctx.progress().stage("stage", weight=500) as stage:
                for _ in range(20):
                    stage.increment(0.05)

        recorder = WireRecorder(server)
        async with open_client(recorder) as client:
            await client.call_tool("mix", progress_handler=lambda *update: None)
        seen[is_observed] = [
            message["params"] for message in recorder.received_messages("notifications/progress")
        ]
    assert seen[True] == seen[False]
    assert len(seen[True]) > 2


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_each_way_to_end_has_an_outcome(protocol: str) -> None:
    recorder = Recorder()
    async with open_client(make_server(recorder), protocol=protocol) as client:
        for kind in ("tool", "value"):
            with pytest.raises(ToolError):
                await client.call_tool("fail", {"kind": kind})
        with pytest.raises(ProtocolError):
            await client.call_tool("unknown")
        async with client.start_call("wait"):
            await recorder.wait_call("wait")
        await client.call_tool("count", {"to": 1})
        ended = [told[2] for told in recorder.of("call_ended")]
        assert ended == ["tool_error", "tool_error", "error", "cancelled", "result"]
        errors = [call.error for call in recorder.calls if call.method == "tools/call"]
        assert [type(error).__name__ for error in errors] == [
            *("ToolError", "ValueError", "ProtocolError", "NoneType", "NoneType")
        ]
        assert [call.error_code for call in recorder.calls if call.error_code] == [-32602]


async def test_methods_that_never_wait_and_other_targets_are_told_as_well() -> None:
    recorder = Recorder()
    async with open_client(make_server(recorder), protocol=LEGACY) as client:
        await client.list_tools()
        await client.get_prompt("greet", {"name": "Ada"})
        await client.read_resource("photo://summer")
    assert [(call.method, call.target, call.outcome) for call in recorder.calls] == [
        ("initialize", None, "result"),
        ("tools/list", None, "result"),
        ("prompts/get", "greet", "result"),
        ("resources/read", "photo://summer", "result"),
    ]
    assert {call.session for call in recorder.calls} == {recorder.sessions[0]}


async def test_a_session_ends_behind_its_last_call() -> None:
    recorder = Recorder()
    async with open_server(make_server(recorder)) as running:
        with trio.CancelScope() as leaving:
            async with open_client(running) as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.call_tool, "wait")
                await recorder.wait_call("wait")
                leaving.cancel()
        await recorder.wait("session_ended")
    assert [told[0] for told in recorder.told][-2:] == ["call_ended", "session_ended"]
    assert recorder.of("call_ended") == [("call_ended", "tools/call", "cancelled")]


async def test_a_refused_request_is_told_once() -> None:
    recorder = Recorder()
    async with (
        open_client(make_server(recorder, max_requests=1), protocol=MODERN) as client,
        client.start_call("wait"),
    ):
        await recorder.wait_call("wait")
        with pytest.raises(ProtocolError, match="overloaded"):
            await client.list_tools()
    assert recorder.of("refused") == [("refused", "request", -32603)]


async def test_what_http_refuses_is_told_by_its_kind() -> None:
    recorder = Recorder()
    server = make_server(recorder)
    async with open_server(server) as running, open_host(asgi_app(running)) as host:
        await finish(host.start("PUT"))
        await finish(host.start("GET", path="/other"))
        assert recorder.of("refused") == [("refused", kind, None) for kind in running.refusals]
        assert sorted(running.refusals) == ["method", "path"]


async def test_a_call_says_for_whom_it_is() -> None:
    recorder = Recorder()
    async with (
        open_server(make_server(recorder)) as running,
        open_client(running.authenticated("ada")) as client,
    ):
        await client.call_tool("count", {"to": 1})
    assert {call.principal for call in recorder.calls} == {"ada"}
    assert recorder.sessions[0].principal == "ada"


async def test_each_request_of_a_batch_is_told() -> None:
    recorder = Recorder()
    async with open_raw("memory", make_server(recorder)) as peer:
        await peer.initialize("2025-03-26")
        members = [
            {"jsonrpc": "2.0", "id": ident, "method": method, "params": params}
            for ident, method, params in (
                (7, "tools/list", {}),
                (8, "tools/call", {"name": "count", "arguments": {"to": 1}}),
                (9, "nonsense", {}),
            )
        ]
        await peer.send(msgspec.json.encode(members))
        answers = await peer.receive()
    assert len(answers) == 3
    told = [(call.id, call.outcome) for call in recorder.calls if call.method != "initialize"]
    assert told == [(7, "result"), (8, "result")]
    assert recorder.of("refused") == [("refused", "request", -32601)]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_task_is_told_from_its_record_to_its_end(protocol: str) -> None:
    recorder = Recorder()
    server = make_server(recorder)

    @server.tool(task=True)
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return "worked"

    async with open_client(server, protocol=protocol) as client:
        task = await client.call_tool("work", task=True)
        await task.result()
    assert recorder.of("task_changed", "task_entered", "progress") == [
        ("task_changed", None, "working", False),
        ("task_entered", "work"),
        ("progress", "ObservedTask", 1, 2, None),
        ("task_changed", "working", "completed", True),
    ]
    (call,) = [call for call in recorder.calls if call.method == "tools/call"]
    assert call.task_id == task.id


async def test_a_promoted_call_tells_each_report_once(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    server = make_server(recorder)

    @server.tool(task=TaskConfig(promote_after=1))
    async def work(ctx: Context) -> None:
        await ctx.report_progress(1, 2)
        await trio.sleep(2)
        await ctx.report_progress(2, 2)

    async with open_client(server, protocol=MODERN) as client:
        await client.call_tool("work")
    assert recorder.of("task_changed", "progress") == [
        ("progress", "ObservedCall", 1, 2, None),
        ("task_changed", None, "working", False),
        ("progress", "ObservedTask", 2, 2, None),
        ("task_changed", "working", "completed", True),
    ]


@pytest.mark.parametrize("config", [False, TaskConfig(promote_after=1)], ids=["answered", "may be a task"])
async def test_a_call_with_a_key_tells_each_report_once(config: Any) -> None:
    recorder = Recorder()
    server = make_server(recorder)

    @server.tool(task=config)
    async def work(ctx: Context) -> None:
        await ctx.report_progress(1, 2)

    async with open_client(server, protocol=MODERN) as client:
        await client.call_tool("work", idempotency_key="a" * 30)
    source = "ObservedTask" if config else "ObservedCall"
    assert recorder.of("progress") == [("progress", source, 1, 2, None)]
    statuses = [told[2] for told in recorder.of("task_changed")]
    assert statuses == (["working", "completed"] if config else [])


async def test_a_task_that_expires_is_told_as_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    server = make_server(recorder)

    @server.tool(task=TaskConfig(ttl=1))
    async def work() -> None:
        await trio.sleep(10)

    async with open_client(server) as client:
        await client.call_tool("work", task=True)
        await trio.sleep(5)
    assert recorder.of("task_changed") == [
        ("task_changed", None, "working", False),
        ("task_changed", "working", "cancelled", True),
    ]


async def test_each_attempt_of_a_task_is_observed(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    server = make_server(recorder)

    @server.tool(task=TaskConfig(retry=Retry(attempts=2, on=(OSError,))))
    async def work(ctx: Context) -> None:
        await ctx.report_progress(ctx.attempt, 2)
        if ctx.attempt == 1:
            raise OSError("again")

    async with open_client(server) as client:
        await (await client.call_tool("work", task=True)).result()
    assert recorder.of("progress") == [
        ("progress", "ObservedTask", 1, 2, None),
        ("progress", "ObservedTask", 2, 2, None),
    ]


async def test_reports_that_a_full_buffer_pushes_out_are_counted() -> None:
    queue = ObservedQueue(Outbox(100), "token", Conflate(buffer=4), lambda: None)
    for number in range(10):
        queue.push(Report(number, None, None))
    assert (queue.reports, queue.dropped) == (4, 6)


async def test_an_instrument_that_fails_harms_nobody_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Instrument):
        def progress(self, *args: Any) -> None:
            raise ValueError("broken")

        def call_started(self, call: ObservedCall) -> None:
            raise KeyError(call.method)

    recorder = Recorder()
    async with open_client(make_server(Broken(), recorder)) as client:
        result = await client.call_tool("count", {"to": 30}, progress_handler=lambda *update: None)
    assert result.data == 30
    assert len(recorder.of("progress")) == 31
    records = [record for record in caplog.records if record.name == "trio_mcp.instruments"]
    assert all(record.levelno == logging.ERROR for record in records)
    told = [(record.getMessage().partition(" at ")[0], record.exc_info is not None) for record in records]
    assert told.count(("the hook progress of an instrument failed", True)) == 1
    assert ("the hook progress of an instrument failed 10 times with ValueError", False) in told


@pytest.mark.parametrize(
    ("instrument", "words"),
    [
        (object(), "none of the hooks"),
        (Recorder, "is a class"),
        (type("Odd", (), {"progress": 3})(), "is no function"),
    ],
)
def test_what_is_no_instrument_is_refused(instrument: object, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        Server("odd").add_instrument(instrument)


def test_a_hook_must_not_be_async() -> None:
    class Waiting:
        async def call_started(self, call: ObservedCall) -> None: ...

    with pytest.raises(TypeError, match="must not wait"):
        Server("odd").add_instrument(Waiting())


async def test_hooks_that_are_not_overridden_cost_nothing() -> None:
    class Calls(Instrument):
        def call_ended(self, call: ObservedCall) -> None:
            pass

    async with open_server(make_server(Calls())) as running, open_client(running) as client:
        seen: set[str] = set()
        await _run_traced(client, seen)
    assert "instrumented_session" in seen
    assert not seen & {"observed_reporter", "observed_queue", "observed_tasks"}


async def test_a_server_without_instruments_runs_no_code_of_them(wire: Wire) -> None:
    async with open_server(make_server()) as running:
        session = running.application.make_session
        assert session.func is ServerSession  # type: ignore[attr-defined]  # a partial
        async with wire.open_running(running) as client:
            seen: set[str] = set()
            await _run_traced(client, seen)
    assert "reporter" in seen
    assert not seen & OBSERVING


async def _run_traced(client: Any, seen: set[str]) -> None:
    def trace(frame: Any, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename.startswith(PACKAGE):
            seen.add(Path(frame.f_code.co_filename).stem)

    await client.call_tool("count", {"to": 2}, progress_handler=lambda *update: None)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await client.call_tool("count", {"to": 2}, progress_handler=lambda *update: None)
    finally:
        sys.settrace(before)
