"""The spans and metrics that an OpenTelemetry instrument has made, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trio_mcp.telemetry import OpenTelemetry


class Collected:
    """Providers of their own, so that tests share nothing."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = TracerProvider(shutdown_on_exit=False)
        self.tracing.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.metering = MeterProvider([self._reader], shutdown_on_exit=False)

    def instrument(self, **options: Any) -> OpenTelemetry:
        return OpenTelemetry(self.tracing, self.metering, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        """All that have ended, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def of(self, method: str) -> list[ReadableSpan]:
        """The spans of requests of `method`."""
        return [span for span in self.spans if (span.attributes or {}).get("mcp.method.name") == method]

    def one(self, name: str) -> ReadableSpan:
        """The span of that name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def metrics(self) -> Mapping[str, list[Any]]:
        """The data points of each metric."""
        found: dict[str, list[Any]] = {}
        data = self._reader.get_metrics_data()
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = list(metric.data.data_points)
        return found


def chain(spans: list[ReadableSpan], last: ReadableSpan) -> list[str]:
    """The names and kinds from the root to `last`."""
    by_id = {span.get_span_context().span_id: span for span in spans}
    names = []
    span: ReadableSpan | None = last
    while span is not None:
        names.append(f"{span.kind.name} {span.name}")
        span = None if span.parent is None else by_id.get(span.parent.span_id)
    return names[::-1]
