"""A log of requests: one record for each, whose fields a program can read.

Owns which fields there are, and what came of a request in one word. Knows no handler of logs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar

import trio

from trio_mcp.concurrency.failures import leaves
from trio_mcp.errors import ProtocolError
from trio_mcp.middleware.sizes import count_bytes
from trio_mcp.middleware.subjects import find_subject
from trio_mcp.printable import printable
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.server.request_middleware import RequestContext

C = TypeVar("C", bound=RequestFacts)
R = TypeVar("R")

Outcome: TypeAlias = Literal["ok", "error", "failed", "cancelled", "asked"]
"""An error is a result that says so; what failed has raised an exception; "asked" is run again."""

DEFAULT_LOGGER: Final = "trio_mcp.requests"


class LoggingMiddleware:
    """Logs one record for each request, or for each run of a tool, a resource or a prompt.

    Its `mcp` attribute is a dict of JSON values, and its message the same as JSON text; without `as_json` the
    message is a line for people. The fields are `method` (for a run "tool", "resource" or "prompt"), `name`,
    `request_id`, `protocol`, `duration_ms` and `outcome`, and if there are such, `principal`, `client`,
    `task_id`, `attempt`, `called_by` and the `error`: the type of the exception, with its `code` if it is a
    ProtocolError. With `sizes` there are `request_bytes` and `result_bytes`, for which both are encoded once
    more. Neither arguments nor results are logged, nor what an exception says.

    `level` is that of requests that succeed or are cancelled; others are logged as warnings. `logger` is the
    logger or its name.
    """

    def __init__(
        self,
        logger: logging.Logger | str = DEFAULT_LOGGER,
        *,
        level: int = logging.INFO,
        sizes: bool = False,
        as_json: bool = True,
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = level
        self._sizes = sizes
        self._as_json = as_json

    def __repr__(self) -> str:
        return f"<LoggingMiddleware to {self._logger.name!r}>"

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Log what came of `call_next`; raises what it raises."""
        begun = trio.current_time()
        try:
            result = await call_next(ctx)
        except BaseException as error:
            self._log(ctx, begun, *_judge(ctx, error))
            raise
        outcome: Outcome = "error" if getattr(result, "is_error", False) else "ok"
        sizes = {}
        if self._sizes:
            sizes = {"request_bytes": _count_request(ctx), "result_bytes": count_bytes(result)}
        self._log(ctx, begun, outcome, sizes)
        return result

    def _log(self, ctx: RequestFacts, begun: float, outcome: Outcome, more: dict[str, Any]) -> None:
        level = logging.WARNING if outcome in ("error", "failed") else self._level
        if not self._logger.isEnabledFor(level):
            return
        subject = find_subject(ctx)
        milliseconds = round((trio.current_time() - begun) * 1000, 3)
        fields: dict[str, Any] = {
            "method": subject.method,
            "name": subject.name,
            "outcome": outcome,
            "duration_ms": milliseconds,
            "request_id": ctx.request_id,
            "protocol": ctx.protocol_version,
            "principal": None if ctx.principal is None else ctx.principal.name,
            "client": None if ctx.client_info is None else ctx.client_info.name,
            "task_id": ctx.task_id,
            "attempt": None if ctx.task_id is None else ctx.attempt,
            "called_by": list(ctx.called_by) or None,
            **more,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        if self._as_json:
            text = json.dumps(fields)  # in ASCII: a client chooses names
        else:
            error = f" {more['error']}" if "error" in more else ""
            text = printable(f"{subject} {outcome}{error} {milliseconds:.1f} ms")
        self._logger.log(level, "%s", text, extra={"mcp": fields})


def _judge(ctx: RequestFacts, failure: BaseException) -> tuple[Outcome, dict[str, Any]]:
    """What came of a request that ended by an exception, and the fields that tell of it."""
    found = list(leaves(failure))
    failed = [leaf for leaf in found if not isinstance(leaf, trio.Cancelled)]
    if not failed:
        return ("asked" if ctx.is_asking else "cancelled"), {}
    error = failed[0]
    fields: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, ProtocolError):
        fields["code"] = error.code
    return "failed", fields


def _count_request(ctx: RequestFacts) -> int:
    if isinstance(ctx, RequestContext):
        return count_bytes(ctx.params)
    return count_bytes(getattr(ctx, "arguments", None) or getattr(ctx, "values", {}))
