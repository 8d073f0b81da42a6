"""The error results of tools that failed, and the errors of prompts and resources.

Owns which exceptions a client reads, and which stay in the server's log (`show_errors`); there, that a
failure which repeats itself is one traceback and then a count.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final, Protocol, TypeAlias

import trio
from msgspec import Struct

from trio_mcp.concurrency.failures import leaves
from trio_mcp.errors import (
    ArgumentError,
    NotSupportedByEra,
    ProtocolError,
    ResourceError,
    ReturnError,
    ToolError,
)
from trio_mcp.wire.content import TextContent
from trio_mcp.wire.eras import Era
from trio_mcp.wire.errors import INTERNAL_ERROR, URL_ELICITATION_REQUIRED
from trio_mcp.wire.messages import CallToolResult

logger = logging.getLogger("trio_mcp")


MAX_FAILURES: Final = 256
"""Kinds of failures that are remembered; the one that was seen longest ago gives way."""

TRACEBACK_SECONDS: Final = 60.0
"""A failure that repeats itself gets a traceback no more often."""

_MEANT_FOR_CLIENTS: Final = (ToolError, ResourceError, ArgumentError, ReturnError, NotSupportedByEra)

FailureKind: TypeAlias = tuple[str, type[BaseException], str, int]
"""What failed, what it raised, and the file and line where."""


class HasErrors(Protocol):
    """A tool, a prompt or a resource, whose failures are described."""

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""


class _Seen(Struct):
    """How often one kind of failure has come since its traceback at `told`."""

    told: float
    times: int = 1


class ErrorResults:
    """Describes failed calls to the clients and in the log of one running server."""

    def __init__(self, show_errors: bool) -> None:
        self.show_errors = show_errors
        self._seen: OrderedDict[FailureKind, _Seen] = OrderedDict()

    def __repr__(self) -> str:
        return f"<ErrorResults: show_errors is {self.show_errors}, {len(self._seen)} kinds of failures seen>"

    def showing(self, show_errors: bool | None) -> ErrorResults:
        """The same for what a mounted server offers, which has its own `show_errors`; with the same log."""
        if show_errors is None or show_errors is self.show_errors:
            return self
        shown = ErrorResults(show_errors)
        shown._seen = self._seen
        return shown

    def describe(self, tool: str, failure: BaseException) -> CallToolResult:
        """The error result that a client sees (MCP tools, "Error Handling").

        Raises `failure` itself if it is a ProtocolError: then the call has no result.
        """
        if isinstance(failure, ProtocolError):
            raise failure
        found = list(leaves(failure))
        for leaf in found:
            if isinstance(leaf, NotSupportedByEra):  # the message says all: where it was raised helps nobody
                logger.warning("tool %r failed: %s", tool, leaf)
        if all(isinstance(leaf, _MEANT_FOR_CLIENTS) for leaf in found):
            return _error_result("\n".join(str(leaf) for leaf in found))
        for leaf in found:
            self.log(tool, leaf)
        text = f"Error in tool {tool!r}"
        if self.show_errors:
            text += ": " + "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in found)
        return _error_result(text)

    def explain(self, subject: str, failure: BaseException, *, logged_as: str | None = None) -> ProtocolError:
        """The JSON-RPC error for what is no tool, and so has no error result; `subject` is its kind and name.

        A client reads what is meant for it, as of a tool: ToolError, ResourceError, NotSupportedByEra, and
        what is wrong with its arguments or with the result. The log calls it `logged_as`, if the client has
        chosen a part of `subject`.
        """
        if isinstance(failure, ProtocolError):
            return failure
        found = list(leaves(failure))
        if all(isinstance(leaf, _MEANT_FOR_CLIENTS) for leaf in found):
            return ProtocolError(INTERNAL_ERROR, "\n".join(map(str, found)))
        for leaf in found:
            self._log(logged_as or subject, leaf, "failed")
        text = f"Error in {subject}"
        if self.show_errors:
            text += ": " + "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in found)
        return ProtocolError(INTERNAL_ERROR, text)

    def log(self, tool: str, failure: BaseException, what: str = "failed") -> None:
        """Log `failure` of a tool with its traceback; if the same was logged within a minute, only count it.

        Counts are logged when they are 10, 100, 1,000 and so on, and with the next traceback.
        """
        self._log(f"tool {tool!r}", failure, what)

    def _log(self, subject: str, failure: BaseException, what: str) -> None:
        kind = _kind_of(subject, failure)
        now = trio.current_time()
        seen = self._seen.get(kind)
        if seen is None or now - seen.told >= TRACEBACK_SECONDS:
            if seen is not None and seen.times > 1:
                self._log_count(kind, seen)
            self._seen[kind] = _Seen(now)
            logger.error("%s %s", subject, what, exc_info=failure)
        else:
            seen.times += 1
            if _is_power_of_ten(seen.times):
                self._log_count(kind, seen)
        self._seen.move_to_end(kind)
        if len(self._seen) > MAX_FAILURES:
            forgotten = self._seen.popitem(last=False)
            if forgotten[1].times > 1:
                self._log_count(*forgotten)

    def close(self) -> None:
        """Log how often each failure has come, at the end of the server."""
        for kind, seen in self._seen.items():
            if seen.times > 1 and not _is_power_of_ten(seen.times):
                self._log_count(kind, seen)
        self._seen.clear()

    def _log_count(self, kind: FailureKind, seen: _Seen) -> None:
        subject, error, file, line = kind
        text = "%s failed %d times with %s at %s:%d; its traceback was logged once"
        logger.error(text, subject, seen.times, error.__name__, file, line)


def suit(failure: BaseException, era: Era) -> BaseException:
    """The failure as `era` can tell it: one revision only has an error for a page to be opened first."""
    if era.identifies_urls or getattr(failure, "code", None) != URL_ELICITATION_REQUIRED:
        return failure
    return ToolError(getattr(failure, "text", str(failure)))


def _kind_of(subject: str, failure: BaseException) -> FailureKind:
    place = failure.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return subject, type(failure), "an unknown place", 0
    return subject, type(failure), place.tb_frame.f_code.co_filename, place.tb_lineno


def _is_power_of_ten(number: int) -> bool:
    text = str(number)
    return number > 1 and text.rstrip("0") == "1"


def _error_result(text: str) -> CallToolResult:
    # A lone surrogate cannot be encoded, and the rest of the message should still arrive.
    text = text.encode(errors="backslashreplace").decode()
    return CallToolResult(content=[TextContent(text=text)], is_error=True)
