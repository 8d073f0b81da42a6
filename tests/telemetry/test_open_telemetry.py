"""Spans, traces and metrics by OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import trio
from opentelemetry import baggage, context, trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import SpanKind, StatusCode

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.durable_store import DurableMemoryStore
from tests.telemetry.collected import Collected, chain
from trio_mcp import (
    Context,
    Elicited,
    ProtocolError,
    Server,
    TaskConfig,
    ToolError,
    create_proxy,
    open_client,
    open_server,
    run_worker,
)
from trio_mcp.telemetry import OpenTelemetry
from trio_mcp.testing import WireRecorder
from trio_mcp.wire.messages import Params


@pytest.fixture
def collected() -> Collected:
    return Collected()


def make_server(collected: Collected, **options: Any) -> Server:
    server = Server("spans", version="1")
    server.add_instrument(collected.instrument(**options))

    @server.tool
    async def count(ctx: Context, to: int = 1) -> int:
        for number in range(to):
            await ctx.report_progress(number + 1, to, "counting")
        return to

    @server.tool
    async def fail(kind: str = "tool") -> None:
        raise {"tool": ToolError, "value": ValueError}[kind]("no")

    @server.tool
    async def wait() -> None:
        await trio.sleep_forever()

    @server.tool
    def trace_in_thread() -> str:
        return format(trace.get_current_span().get_span_context().trace_id, "032x")

    @server.prompt
    async def greet(name: str) -> str:
        return f"Hello {name}"

    @server.resource("photo://{name}")
    async def photo(name: str) -> str:
        return name

    return server


async def test_a_call_has_one_span_at_each_side_and_one_trace(wire: Wire, collected: Collected) -> None:
    tracer = collected.tracing.get_tracer("test")
    async with wire.open(make_server(collected), instruments=[collected.instrument()]) as client:
        with tracer.start_as_current_span("root"):
            await client.call_tool("count", {"to": 2}, progress_handler=lambda *update: None)
    client_span, server_span = collected.of("tools/call")
    assert (client_span.kind, server_span.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    expected = ["INTERNAL root", "CLIENT tools/call count", "SERVER tools/call count"]
    assert chain(collected.spans, server_span) == expected
    assert not server_span.links
    attributes = dict(server_span.attributes or {})
    assert attributes["gen_ai.tool.name"] == "count"
    assert attributes["gen_ai.operation.name"] == "execute_tool"
    assert attributes["mcp.protocol.version"] == wire.protocol
    assert attributes["jsonrpc.request.id"] == (client_span.attributes or {})["jsonrpc.request.id"]
    network = {"memory": None, "stdio": "pipe"}.get(wire.transport, "tcp")
    assert attributes.get("network.transport") == network
    is_named = wire.transport == "http" and wire.protocol == LEGACY
    assert ("mcp.session.id" in attributes) is is_named
    if wire.transport != "websocket":  # which is in memory here
        assert ("client.address" in attributes) is (network == "tcp")
    assert server_span.status.status_code is StatusCode.UNSET
    assert server_span.events == ()


async def test_the_client_names_the_address_of_its_server(collected: Collected) -> None:
    wire = Wire("http", MODERN)
    async with wire.open(make_server(collected), instruments=[collected.instrument()]) as client:
        await client.call_tool("count")
    client_span = collected.of("tools/call")[0]
    assert client_span.kind is SpanKind.CLIENT
    assert (client_span.attributes or {})["network.protocol.name"] == "http"


@pytest.mark.parametrize(
    "wire", [Wire("memory", MODERN), Wire("http", MODERN), Wire("http", LEGACY)], ids=str
)
async def test_a_call_through_two_servers_is_one_trace(wire: Wire, collected: Collected) -> None:
    inner, outer = make_server(collected), Server("outer", version="1")
    outer.add_instrument(collected.instrument())
    async with wire.open(inner, instruments=[collected.instrument()]) as upstream:

        @outer.tool
        async def forward(ctx: Context) -> int:
            return int((await upstream.call_tool("count", {"to": 2})).data)

        async with wire.open(outer, instruments=[collected.instrument()]) as client:
            with collected.tracing.get_tracer("test").start_as_current_span("root"):
                await client.call_tool("forward")
    (last,) = [
        span for span in collected.spans if span.name.endswith("count") and span.kind is SpanKind.SERVER
    ]
    assert chain(collected.spans, last) == [
        "INTERNAL root",
        "CLIENT tools/call forward",
        "SERVER tools/call forward",
        "CLIENT tools/call count",
        "SERVER tools/call count",
    ]
    traces = {span.get_span_context().trace_id for span in collected.of("tools/call")}
    assert traces == {collected.one("root").get_span_context().trace_id}


async def test_a_call_through_a_proxy_of_a_proxy_is_one_trace(wire: Wire, collected: Collected) -> None:
    server = make_server(collected)
    for _ in range(2):
        server = create_proxy(server, instruments=[collected.instrument()], protocol=wire.protocol)
        server.add_instrument(collected.instrument())
    async with wire.open(server, instruments=[collected.instrument()]) as client:
        with collected.tracing.get_tracer("test").start_as_current_span("root"):
            assert (await client.call_tool("count", {"to": 2})).data == 2
    calls = collected.of("tools/call")
    spans = [f"{span.kind.name} {span.name}" for span in calls]
    assert sorted(spans) == ["CLIENT tools/call count"] * 3 + ["SERVER tools/call count"] * 3
    innermost = max(calls, key=lambda span: len(chain(collected.spans, span)))
    assert chain(collected.spans, innermost) == [
        "INTERNAL root",
        *["CLIENT tools/call count", "SERVER tools/call count"] * 3,
    ]


async def test_a_sync_tool_has_the_span_in_its_thread(collected: Collected) -> None:
    async with open_client(make_server(collected)) as client:
        seen = (await client.call_tool("trace_in_thread")).data
    assert seen == format(collected.one("tools/call trace_in_thread").get_span_context().trace_id, "032x")


async def test_the_keys_in_meta_have_no_prefix_and_baggage_goes_along(collected: Collected) -> None:
    server = make_server(collected)
    seen: list[Any] = []

    @server.tool
    async def look(ctx: Context) -> None:
        seen.append((baggage.get_baggage("user"), sorted(key for key in ctx.request_meta if "/" not in key)))

    recorder = WireRecorder(server)
    async with open_client(recorder, instruments=[collected.instrument()]) as client:
        token = context.attach(baggage.set_baggage("user", "ada"))
        await client.call_tool("look")
        context.detach(token)
        await client.list_tools()
    assert seen == [("ada", ["baggage", "traceparent"])]
    (sent,) = recorder.sent_messages("tools/list")
    assert "baggage" not in sent["params"]["_meta"]


@pytest.mark.parametrize(
    ("remote_context", "is_joined", "links"), [("parent", True, 0), ("link", False, 1), ("ignore", False, 0)]
)
async def test_a_server_chooses_what_the_trace_of_its_client_is(
    collected: Collected, remote_context: Any, is_joined: bool, links: int
) -> None:
    server = make_server(collected, remote_context=remote_context)
    async with Wire("stdio", MODERN).open(server, instruments=[collected.instrument()]) as client:
        await client.call_tool("count")
    client_span, server_span = collected.of("tools/call")
    same = client_span.get_span_context().trace_id == server_span.get_span_context().trace_id
    assert (same, len(server_span.links)) == (is_joined, links)
    if links:
        assert server_span.links[0].context.span_id == client_span.get_span_context().span_id


@pytest.mark.parametrize("value", ["", "nonsense", 3, None, ["00"], "00-" + "f" * 5000])
async def test_a_malformed_context_is_left_out(collected: Collected, value: Any) -> None:
    class Garbling:
        def call_started(self, call: Any) -> None:
            call.meta.update(traceparent=value, tracestate=value, baggage=value)

    async with open_client(make_server(collected), instruments=[Garbling()]) as client:
        assert (await client.call_tool("count")).data == 1
    assert collected.one("tools/call count").parent is None


async def test_failures_have_a_status_and_a_type(collected: Collected) -> None:
    async with open_client(make_server(collected), instruments=[collected.instrument()]) as client:
        for kind in ("tool", "value"):
            with pytest.raises(ToolError):
                await client.call_tool("fail", {"kind": kind})
        with pytest.raises(ProtocolError):
            await client.call_tool("unknown")
    spans = collected.of("tools/call")
    assert {span.status.status_code for span in spans} == {StatusCode.ERROR}
    types = [(span.attributes or {})["error.type"] for span in spans]
    assert types == ["tool_error", "tool_error", "tool_error", "tool_error", "-32602", "-32602"]
    assert (spans[-1].attributes or {})["rpc.response.status_code"] == "-32602"
    exceptions = [(event.attributes or {})["exception.type"] for span in spans for event in span.events]
    assert exceptions == ["trio_mcp.errors.ToolError", "ValueError"]


async def test_a_cancelled_call_is_no_error(collected: Collected) -> None:
    async with open_client(make_server(collected), instruments=[collected.instrument()]) as client:
        async with client.start_call("wait"):
            await trio.testing.wait_all_tasks_blocked()
        await client.call_tool("count")
    for span in collected.of("tools/call")[:2]:
        assert span.status.status_code is StatusCode.UNSET
        assert (span.attributes or {})["trio_mcp.outcome"] == "cancelled"


async def test_prompts_are_in_the_name_and_resources_are_not(collected: Collected) -> None:
    async with open_client(make_server(collected)) as client:
        await client.get_prompt("greet", {"name": "Ada"})
        await client.read_resource("photo://summer")
    assert (collected.one("prompts/get greet").attributes or {})["gen_ai.prompt.name"] == "greet"
    assert (collected.one("resources/read").attributes or {})["mcp.resource.uri"] == "photo://summer"


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_task_has_a_span_within_that_of_its_call(collected: Collected, protocol: str) -> None:
    server, inner = make_server(collected), make_server(collected)
    async with open_client(inner, instruments=[collected.instrument()]) as upstream:

        @server.tool(task=True)
        async def work(ctx: Context) -> None:
            await upstream.call_tool("count")

        async with open_client(server, protocol=protocol) as client:
            await (await client.call_tool("work", task=True)).result()
    (last,) = [
        span for span in collected.spans if span.name.endswith("count") and span.kind is SpanKind.SERVER
    ]
    assert chain(collected.spans, last) == [
        "SERVER tools/call work",
        "INTERNAL task work",
        "CLIENT tools/call count",
        "SERVER tools/call count",
    ]
    task = collected.one("task work")
    assert (task.attributes or {})["trio_mcp.task.status"] == "completed"
    assert task.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("remote_context", ["parent", "link", "ignore"])
async def test_a_task_of_a_worker_goes_on_with_the_trace_of_its_call(
    collected: Collected, remote_context: Any, autojump_clock: trio.testing.MockClock
) -> None:
    config = TaskConfig(recover="restart", attempts=3)
    server = Server("workers", version="1", task_store=DurableMemoryStore(), default_task=config)
    server.add_instrument(collected.instrument(remote_context=remote_context))

    @server.tool
    async def work(ctx: Context) -> None:
        await ctx.report_progress(1, 2)
        await trio.sleep(1)

    async with (
        open_server(server, runs_tasks=False) as running,
        trio.open_nursery() as nursery,
        open_client(running, instruments=[collected.instrument()]) as client,
    ):
        task = await client.call_tool("work", task=True)
        await nursery.start(run_worker, server)
        await running.await_task(task.id)
        nursery.cancel_scope.cancel()
    span, call = collected.one("task work"), collected.of("tools/call")[1]
    assert (span.attributes or {})["trio_mcp.task.status"] == "completed"
    assert call.kind is SpanKind.SERVER
    assert chain(collected.spans, span)[-2:] == ["SERVER tools/call work", "INTERNAL task work"]
    assert {point.value for point in collected.metrics()["trio_mcp.tasks.active"]} == {0}


async def test_the_status_of_a_task_is_an_event_and_its_failure_an_error(collected: Collected) -> None:
    server = make_server(collected)

    @server.tool(task=True)
    async def ask(ctx: Context) -> None:
        answer: Elicited[Any] = await ctx.elicit("Go on?")
        assert answer.action == "accept"
        raise ProtocolError(-32000, "broken")

    async with open_client(server, elicitation_handler=lambda request: {}) as client:
        task = await client.call_tool("ask", task=True)
        with pytest.raises(ProtocolError):
            await task.result()
    span = collected.one("task ask")
    statuses = [(event.attributes or {})["trio_mcp.task.status"] for event in span.events]
    assert statuses == ["input_required", "working"]
    assert span.status.status_code is StatusCode.ERROR


async def test_progress_is_an_event_if_that_is_wanted(collected: Collected) -> None:
    server = make_server(collected, progress_events=True)

    @server.tool(task=TaskConfig(mode="required"))
    async def work(ctx: Context) -> None:
        await ctx.report_progress(1, 2)

    async with open_client(server) as client:
        await client.call_tool("count", {"to": 2})
        await client.call_tool("work")
    events = [
        (event.name, dict(event.attributes or {})) for event in collected.one("tools/call count").events
    ]
    key = "trio_mcp.progress."
    assert events == [
        ("progress", {f"{key}progress": 1, f"{key}total": 2, f"{key}message": "counting"}),
        ("progress", {f"{key}progress": 2, f"{key}total": 2, f"{key}message": "counting"}),
    ]
    assert [event.name for event in collected.one("task work").events] == ["progress"]


async def test_requests_sessions_tasks_reports_and_refusals_are_measured(
    collected: Collected, autojump_clock: trio.testing.MockClock
) -> None:
    server = make_server(collected)

    @server.tool(task=True)
    async def work() -> None:
        await trio.sleep(3)

    async with (
        open_server(server) as running,
        open_client(running, instruments=[collected.instrument()]) as client,
    ):
        await client.call_tool("count", {"to": 5})
        task = await client.call_tool("work", task=True)
        (active,) = collected.metrics()["trio_mcp.tasks.active"]
        assert active.value == 1
        await task.result()
        for number in range(3):
            with pytest.raises(ProtocolError):
                await client.call_tool(f"unknown {number}")
        with pytest.raises(ProtocolError):
            await client._link.request("tools/unknown", Params())
    found = collected.metrics()
    durations = {
        (point.attributes["mcp.method.name"], point.attributes.get("gen_ai.tool.name")): point.count
        for point in found["mcp.server.operation.duration"]
    }
    assert durations["tools/call", "count"] == 1
    assert durations["tools/call", None] == 3, "what a client invents is no label"
    (lasted,) = found["trio_mcp.task.duration"]
    assert (lasted.sum, lasted.attributes["trio_mcp.task.status"]) == (3, "completed")
    assert {point.value for point in found["trio_mcp.tasks.active"]} == {0}
    assert {point.value for point in found["trio_mcp.requests.active"]} == {0}
    (reports,) = found["trio_mcp.progress.reports"]
    assert (reports.value, reports.attributes["gen_ai.tool.name"]) == (5, "count")
    (refusals,) = found["trio_mcp.refusals"]
    assert (refusals.value, refusals.attributes["trio_mcp.refusal.kind"]) == (1, "request")
    for side in ("server", "client"):
        (session,) = found[f"mcp.{side}.session.duration"]
        assert session.count == 1


async def test_without_an_sdk_a_trace_passes_through() -> None:
    server, seen = Server("bare", version="1"), []
    telemetry = OpenTelemetry(trace.NoOpTracerProvider(), NoOpMeterProvider())
    server.add_instrument(telemetry)

    @server.tool
    async def look() -> None:
        seen.append(trace.get_current_span().get_span_context().trace_id)

    async with Wire("stdio", MODERN).open(server, instruments=[telemetry]) as client:
        await client.call_tool("look")
        remote = trace.SpanContext(7, 9, is_remote=True, trace_flags=trace.TraceFlags(1))
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(remote)))
        await client.call_tool("look")
        context.detach(token)
    assert seen == [0, 7]


async def test_without_events_and_metrics_no_report_is_observed(collected: Collected) -> None:
    instrument = OpenTelemetry(collected.tracing, metrics=False)
    server = Server("quiet", version="1")
    server.add_instrument(instrument)
    seen: list[str] = []

    @server.tool
    async def look(ctx: Context) -> None:
        seen.append(type(ctx.progress().reporter).__name__)

    async with open_client(server) as client:
        await client.call_tool("look")
    assert seen == ["ProgressReporter"]
    assert repr(instrument) == "<OpenTelemetry: 0 open spans>"
    assert collected.metrics() == {}


def test_an_unknown_remote_context_is_refused() -> None:
    with pytest.raises(ValueError, match="remote_context"):
        OpenTelemetry(remote_context="child")  # type: ignore[arg-type]


def test_a_missing_package_is_named_with_its_extra() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try: import trio_mcp.telemetry\nexcept ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "trio_mcp.telemetry needs opentelemetry-api: pip install 'trio-mcp[otel]'\n"
