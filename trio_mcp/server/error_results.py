"""The error results of tools that failed, and the errors of prompts and resources.

Owns which exceptions a client reads, and which stay in the server's log (`show_errors`).
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from trio_mcp.concurrency.failure_log import FailureLog
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

logger = logging.getLogger("trio_mcp.server")

_MEANT_FOR_CLIENTS: Final = (ToolError, ResourceError, ArgumentError, ReturnError, NotSupportedByEra)


class HasErrors(Protocol):
    """A tool, a prompt or a resource, whose failures are described."""

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""


class ErrorResults:
    """Describes failed calls to the clients and in the log of one running server."""

    def __init__(self, show_errors: bool) -> None:
        self.show_errors = show_errors
        self._failures = FailureLog()

    def __repr__(self) -> str:
        seen = len(self._failures)
        return f"<ErrorResults: show_errors is {self.show_errors}, {seen} kinds of failures seen>"

    def showing(self, show_errors: bool | None) -> ErrorResults:
        """The same for what a mounted server offers, which has its own `show_errors`; with the same log."""
        if show_errors is None or show_errors is self.show_errors:
            return self
        shown = ErrorResults(show_errors)
        shown._failures = self._failures
        return shown

    def describe(self, tool: str, failure: BaseException) -> CallToolResult:
        """The error result that a client sees (MCP tools, "Error Handling").

        Raises `failure` itself if it is a ProtocolError: then the call has no result.
        """
        if isinstance(failure, ProtocolError):
            raise failure
        found = list(leaves(failure))
        for leaf in found:
            if isinstance(leaf, NotSupportedByEra) and self._failures.is_new(logger, f"tool {tool!r}", leaf):
                logger.warning("tool %r failed: %s", tool, leaf)  # where it was raised helps nobody
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
            self._failures.log(logger, logged_as or subject, leaf)
        text = f"Error in {subject}"
        if self.show_errors:
            text += ": " + "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in found)
        return ProtocolError(INTERNAL_ERROR, text)

    def log(self, tool: str, failure: BaseException, ending: str = "failed") -> None:
        """Log `failure` of a tool as `FailureLog.log` does."""
        self._failures.log(logger, f"tool {tool!r}", failure, ending)

    def log_method(self, method: str, failure: BaseException) -> None:
        """Log the failure of a method that is nobody's function."""
        self._failures.log(logger, method, failure)

    def close(self) -> None:
        """Log how often each failure has come, at the end of the server."""
        self._failures.close()


def suit(failure: BaseException, era: Era) -> BaseException:
    """The failure as `era` can tell it: one revision only has an error for a page to be opened first."""
    if era.identifies_urls or getattr(failure, "code", None) != URL_ELICITATION_REQUIRED:
        return failure
    return ToolError(getattr(failure, "text", str(failure)))


def _error_result(text: str) -> CallToolResult:
    # A lone surrogate cannot be encoded, and the rest of the message should still arrive.
    text = text.encode(errors="backslashreplace").decode()
    return CallToolResult(content=[TextContent(text=text)], is_error=True)
