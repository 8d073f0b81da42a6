"""The metrics of servers and clients.

Owns the instruments of a meter. The durations of requests and sessions have the names of OpenTelemetry's
semantic conventions for MCP, with the boundaries that these recommend; all others are our own.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.metrics import Histogram, Meter

from trio_mcp.instruments import ObservedCall, ObservedRefusal, ObservedSession, ObservedTask, Side
from trio_mcp.telemetry.attributes import TOOL_NAME, Attributes, measure_call, measure_session

BOUNDARIES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
"""Seconds."""

_SIDES: Final[tuple[Side, ...]] = ("server", "client")


class Measures:
    """The metrics of one OpenTelemetry instrument; durations are in seconds of Trio's clock."""

    def __init__(self, meter: Meter) -> None:
        def measure(name: str, what: str) -> Histogram:
            return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=BOUNDARIES)

        self._calls = {
            side: measure(f"mcp.{side}.operation.duration", f"How long a request takes at the {side}")
            for side in _SIDES
        }
        self._sessions = {
            side: measure(f"mcp.{side}.session.duration", f"How long a session lasts at the {side}")
            for side in _SIDES
        }
        self._task_seconds = measure("trio_mcp.task.duration", "How long a background task lasts")
        self._active_tasks = meter.create_up_down_counter(
            "trio_mcp.tasks.active", "{task}", "Background tasks that have begun and not ended"
        )
        self._active_calls = meter.create_up_down_counter(
            "trio_mcp.requests.active", "{request}", "Requests that are being worked on or waited for"
        )
        self._reports = meter.create_counter(
            "trio_mcp.progress.reports", "{report}", "Reports of progress of handlers, or that have arrived"
        )
        self._dropped = meter.create_counter(
            "trio_mcp.progress.dropped", "{report}", "Reports that a full buffer has pushed out at the server"
        )
        self._refusals = meter.create_counter(
            "trio_mcp.refusals", "{refusal}", "Requests and connections that a server has refused"
        )

    def start_call(self, call: ObservedCall) -> None:
        """Count a request that begins."""
        self._active_calls.add(1, {"trio_mcp.side": call.side})

    def end_call(self, call: ObservedCall) -> None:
        """Measure a request that has ended."""
        self._active_calls.add(-1, {"trio_mcp.side": call.side})
        attributes = measure_call(call)
        self._calls[call.side].record(call.duration or 0, attributes)
        if call.reports:
            self._reports.add(call.reports, self._label(call.side, attributes))
        if call.dropped:
            self._dropped.add(call.dropped, self._label(call.side, attributes))

    def begin_task(self, task: ObservedTask) -> None:
        """Count a task that begins."""
        self._active_tasks.add(1, {TOOL_NAME: task.tool})

    def end_task(self, task: ObservedTask) -> None:
        """Measure a task that has ended."""
        self._active_tasks.add(-1, {TOOL_NAME: task.tool})
        attributes: Attributes = {TOOL_NAME: task.tool, "trio_mcp.task.status": task.status}
        self._task_seconds.record(task.duration or 0, attributes)
        if task.reports:
            self._reports.add(task.reports, {TOOL_NAME: task.tool, "trio_mcp.side": "server"})

    def end_session(self, session: ObservedSession) -> None:
        """Measure a session that has ended."""
        self._sessions[session.side].record(session.duration or 0, measure_session(session))

    def refuse(self, refusal: ObservedRefusal) -> None:
        """Count a refusal."""
        attributes: Attributes = {"trio_mcp.refusal.kind": refusal.kind}
        if refusal.code is not None:
            attributes["rpc.response.status_code"] = str(refusal.code)
        self._refusals.add(1, attributes)

    @staticmethod
    def _label(side: str, attributes: Attributes) -> Attributes:
        named: Attributes = {
            key: attributes[key] for key in ("mcp.method.name", TOOL_NAME) if key in attributes
        }
        return {"trio_mcp.side": side, **named}
