"""Spans and metrics of servers and clients by OpenTelemetry (extra `otel`).

Owns nothing but the public name. It needs opentelemetry-api; what becomes of spans and metrics is decided by
the program, which sets up an SDK.
"""

try:
    from trio_mcp.telemetry.open_telemetry import OpenTelemetry
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ImportError("trio_mcp.telemetry needs opentelemetry-api: pip install 'trio-mcp[otel]'") from missing

__all__ = ["OpenTelemetry"]
