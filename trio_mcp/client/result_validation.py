"""Checking the structured results of tools against their outputSchema (MCP tools, "Output Schema").

Owns which schema a tool has, and what is said of a result that does not fit it. Refuses to know how a tool
is called.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from trio_mcp.call_result import CallResult
from trio_mcp.errors import RemoteProtocolError
from trio_mcp.schema.schema_check import SchemaCheck
from trio_mcp.wire.messages import Tool

logger = logging.getLogger("trio_mcp.client")

MESSAGE_LENGTH: Final = 300
"""How many characters of what is wrong are shown: it quotes the value, which may be long."""


class ResultValidation:
    """Checks the results of one server's tools; `list_tools` lists them, which notes their schemas.

    Raises ImportError without the extra `validation`.
    """

    def __init__(self, list_tools: Callable[[], Awaitable[Iterable[Tool]]]) -> None:
        try:
            import jsonschema.validators  # noqa: F401  # only clients that check results need it
        except ImportError as error:
            raise ImportError(
                "to validate results needs jsonschema: pip install 'trio-mcp[validation]'", name=error.name
            ) from error
        self._list_tools = list_tools
        self._schemas: dict[str, dict[str, Any] | None] | None = None
        self._checks: dict[str, SchemaCheck] = {}

    def note_tools(self, tools: Iterable[Tool]) -> None:
        """Note the schemas of all tools of the server."""
        self._schemas = {tool.name: tool.output_schema for tool in tools}
        self._checks.clear()

    def forget(self) -> None:
        """Forget the schemas, because the list of tools has changed."""
        self._schemas = None
        self._checks.clear()

    async def check(self, tool: str, result: CallResult) -> None:
        """Check a result; lists the tools if the schema is not known, and checkpoints then.

        Raises RemoteProtocolError that names the tool and the place for a result that does not fit, or whose
        schema cannot be used.
        """
        if result.is_error:
            return
        if self._schemas is None or tool not in self._schemas:
            await self._list_tools()
        assert self._schemas is not None, "that has just noted them"
        if tool not in self._schemas:
            logger.warning("the result of tool %r cannot be checked: the server does not list it", tool)
        schema = self._schemas.get(tool)
        if schema is None:
            return
        check = self._checks.get(tool)
        if check is None:
            check = self._checks[tool] = _make_check(tool, schema)
        _check(tool, check, result.structured_content)


def _make_check(tool: str, schema: dict[str, Any]) -> SchemaCheck:
    try:
        return SchemaCheck(schema)
    except ValueError as error:
        raise RemoteProtocolError(f"the outputSchema of tool {tool!r} is none: {_shorten(error)}") from None


def _check(tool: str, check: SchemaCheck, value: Any) -> None:
    try:
        problem = check.find_problem(value)
    except ValueError as error:
        raise RemoteProtocolError(
            f"the result of tool {tool!r} cannot be checked by its outputSchema: {_shorten(error)}"
        ) from None
    if problem is None:
        return
    if value is None:
        raise RemoteProtocolError(
            f"the result of tool {tool!r} lacks the structured content of its outputSchema"
        )
    raise RemoteProtocolError(
        f"the result of tool {tool!r} does not fit its outputSchema at {problem.json_path}: "
        f"{_shorten(problem.message)}"
    )


def _shorten(problem: object) -> str:
    words = str(problem).split("\n", 1)[0]
    return words if len(words) <= MESSAGE_LENGTH else f"{words[:MESSAGE_LENGTH]}..."
