"""The instrument that makes spans and metrics of what servers and clients do.

Owns the spans that are open, which of them is current in a handler, and how they end. What they are called is
in `attributes.py`, how a trace goes from process to process in `propagation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

from opentelemetry import context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from trio_mcp.instruments import (
    Instrument,
    ObservedCall,
    ObservedRefusal,
    ObservedSession,
    ObservedTask,
)
from trio_mcp.telemetry.attributes import (
    ERROR_TYPE,
    Attributes,
    cut,
    describe_call,
    describe_error,
    describe_task,
    name_span,
)
from trio_mcp.telemetry.measures import Measures
from trio_mcp.telemetry.propagation import read_context, write_context
from trio_mcp.version import __version__

RemoteContext: TypeAlias = Literal["parent", "link", "ignore"]
"""What the trace of a client is to the span of its request at a server."""

_SCOPE: Final = "trio_mcp"


class OpenTelemetry(Instrument):
    """An instrument for servers and clients: `server.add_instrument(OpenTelemetry())`.

    Each request has a span, of kind SERVER at a server and CLIENT at a client, and each background task has
    one, which begins within that of the call that has made it. In a handler, and in the threads of sync ones,
    its span is the current one. The trace and its baggage go along in the `_meta` of requests, both ways (MCP
    base protocol 2026-07-28, "OpenTelemetry trace context").

    `tracer_provider` and `meter_provider` are those of the program by default. With `progress_events`, each
    report is an event of its span. `metrics=False` measures nothing. `remote_context` is what a server makes
    of the trace of its client: the "parent" of its own spans, a "link" of them, as a public server may
    prefer, or nothing ("ignore"). One object may serve several servers and clients at once.

    Raises ValueError for another `remote_context`.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        progress_events: bool = False,
        metrics: bool = True,
        remote_context: RemoteContext = "parent",
    ) -> None:
        if remote_context not in get_args(RemoteContext):
            raise ValueError(f'remote_context must be "parent", "link" or "ignore", not {remote_context!r}')
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        self._measures = Measures(_get_meter(meter_provider)) if metrics else None
        self._has_progress_events = progress_events
        self._remote_context = remote_context
        self._spans: dict[ObservedCall | ObservedTask, Span] = {}
        self._tokens: dict[ObservedCall, Any] = {}  # what ends the span's being current
        if not progress_events and not metrics:
            self.progress = None  # type: ignore[assignment,method-assign]  # then reports are not observed at all

    def __repr__(self) -> str:
        return f"<OpenTelemetry: {len(self._spans)} open spans>"

    def call_started(self, call: ObservedCall) -> None:
        """Begin the span of a request; at a server it is current from now on, at a client it goes along."""
        if call.side == "server":
            self._begin_served(call)
        else:
            span = self._begin(call, SpanKind.CLIENT, None)
            write_context(call.meta, trace.set_span_in_context(span))
        if self._measures is not None:
            self._measures.start_call(call)

    def call_ended(self, call: ObservedCall) -> None:
        """End the span of a request."""
        if self._measures is not None:
            self._measures.end_call(call)
        token = self._tokens.pop(call, None)
        if token is not None:
            context.detach(token)
        span = self._spans.pop(call)
        if span.is_recording():
            self._describe_end(span, call)
        span.end()

    def progress(
        self,
        source: ObservedCall | ObservedTask,
        progress: float | None,
        total: float | None,
        message: str | None,
    ) -> None:
        """Add a report to the span, if that is wanted."""
        span = self._spans.get(source)
        if self._has_progress_events and span is not None and span.is_recording():
            values = {
                "progress": progress,
                "total": total,
                "message": None if message is None else cut(message),
            }
            told = {f"trio_mcp.progress.{key}": value for key, value in values.items() if value is not None}
            span.add_event("progress", told)

    def task_changed(self, task: ObservedTask) -> None:
        """Begin or end the span of a task, or note its new status there."""
        if task.previous is None:
            self._begin_task(task)
            if self._measures is not None:
                self._measures.begin_task(task)
        elif task.is_final:
            if self._measures is not None:
                self._measures.end_task(task)
            span = self._spans.pop(task)
            span.set_attribute("trio_mcp.task.status", task.status)
            if task.status in ("failed", "lost"):
                span.set_attribute(ERROR_TYPE, task.status)
                span.set_status(Status(StatusCode.ERROR, None if task.message is None else cut(task.message)))
            span.end()
        else:
            self._spans[task].add_event("task status", {"trio_mcp.task.status": task.status})

    def task_entered(self, task: ObservedTask) -> None:
        """Let the span of a task be current in its handler, with whose Trio task that ends."""
        context.attach(trace.set_span_in_context(self._spans[task]))

    def session_ended(self, session: ObservedSession) -> None:
        """Measure a session."""
        if self._measures is not None:
            self._measures.end_session(session)

    def refused(self, refusal: ObservedRefusal) -> None:
        """Count a refusal."""
        if self._measures is not None:
            self._measures.refuse(refusal)

    def _begin_served(self, call: ObservedCall) -> None:
        around = context.get_current()
        remote = around if self._remote_context == "ignore" else read_context(call.meta, around)
        links: list[Link] = []
        parent = remote
        ambient, named = _find_span(around), _find_span(remote)
        if self._remote_context == "link" and named is not ambient:
            # The client's trace is a link, and what surrounds the request goes on as the parent.
            parent = trace.set_span_in_context(trace.get_current_span(around), remote)
            links.append(Link(named))
        elif ambient.is_valid and named.trace_id != ambient.trace_id:
            links.append(Link(ambient))
        span = self._begin(call, SpanKind.SERVER, parent, links)
        current = trace.set_span_in_context(span, parent)
        write_context(call.trace, current)
        self._tokens[call] = context.attach(current)

    def _begin_task(self, task: ObservedTask) -> None:
        call = None if task.call is None else self._spans.get(task.call)
        # A task that was taken over from the store has the context that another of our servers has put there.
        within = read_context(task.trace, Context()) if call is None else trace.set_span_in_context(call)
        self._spans[task] = self._tracer.start_span(
            f"task {task.tool}", within, attributes=describe_task(task)
        )

    def _begin(
        self, call: ObservedCall, kind: SpanKind, within: Context | None, links: Sequence[Link] = ()
    ) -> Span:
        attributes: Attributes = describe_call(call)
        span = self._tracer.start_span(name_span(call), within, kind, attributes, links)
        self._spans[call] = span
        return span

    def _describe_end(self, span: Span, call: ObservedCall) -> None:
        failed = describe_error(call)
        if call.outcome == "cancelled":
            span.set_attribute("trio_mcp.outcome", "cancelled")
        if call.task_id is not None:
            span.set_attribute("trio_mcp.task.id", call.task_id)
        if not failed:
            return
        span.set_attributes(failed)
        error = call.error
        text = call.error_message or (None if error is None else str(error))
        span.set_status(Status(StatusCode.ERROR, None if text is None else cut(text)))
        if error is not None and call.side == "server" and call.error_code is None:
            span.record_exception(error)


def _get_meter(provider: metrics.MeterProvider | None) -> metrics.Meter:
    return metrics.get_meter(_SCOPE, __version__, provider)


def _find_span(within: Context) -> trace.SpanContext:
    return trace.get_current_span(within).get_span_context()
