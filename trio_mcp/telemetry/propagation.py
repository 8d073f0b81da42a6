"""The W3C trace context and baggage in the `_meta` of requests, of all revisions.

Owns how the three keys are read and written, which have no prefix (MCP base protocol 2026-07-28,
"OpenTelemetry trace context"). Other keys of `_meta` are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from trio_mcp.wire.messages import META_TRACE

_propagator: Final = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


def write_context(meta: Any, context: Context) -> None:
    """Put the context into the `_meta` of a request that is about to be sent."""
    _propagator.inject(meta, context)


def read_context(meta: Mapping[str, Any], context: Context) -> Context:
    """`context`, with what the `_meta` of a request says in its place; what is malformed is left out."""
    carrier = {key: value for key in META_TRACE if isinstance(value := meta.get(key), str)}
    return _propagator.extract(carrier, context) if carrier else context
