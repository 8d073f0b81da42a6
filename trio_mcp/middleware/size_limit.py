"""A limit on the size of results, so that no client gets more than its model can take.

Owns what takes the place of a result that is too large.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, cast

from msgspec import UNSET

from trio_mcp.errors import ProtocolError
from trio_mcp.middleware.methods import WORKING, find_method
from trio_mcp.middleware.sizes import count_bytes
from trio_mcp.middleware.subjects import find_subject
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.validators import require_count
from trio_mcp.wire.content import TextContent
from trio_mcp.wire.errors import INTERNAL_ERROR
from trio_mcp.wire.messages import CallToolResult

C = TypeVar("C", bound=RequestFacts)
R = TypeVar("R")

MARK: Final = "\n[cut: {size:,} bytes are more than the {limit:,} that are allowed]"


class ResponseSizeLimit:
    """Lets no result pass that takes more than `max_bytes` bytes as JSON.

    In the place of a tool's result stands an error result that names both numbers. With `truncate`, text that
    comes without structured content is cut to fit instead, and says so at its end; what has an output schema
    is never cut, because a client would refuse the rest. Any other result becomes the error -32603. It may be
    middleware of all four kinds; results of background tasks pass that of tools only. Around requests it
    leaves alone all but tools/call, prompts/get, resources/read and completion/complete.
    """

    def __init__(self, max_bytes: int, *, truncate: bool = False) -> None:
        require_count("max_bytes", max_bytes)
        self._max_bytes = max_bytes
        self._truncate = truncate

    def __repr__(self) -> str:
        return f"<ResponseSizeLimit: {self._max_bytes} bytes>"

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Return what `call_next` does if it is small enough; raises ProtocolError if it is no tool's."""
        result = await call_next(ctx)
        method = find_method(ctx)
        if method is not None and method not in WORKING:
            return result
        size = count_bytes(result)
        if size <= self._max_bytes:
            return result
        if not isinstance(result, CallToolResult):
            raise ProtocolError(
                INTERNAL_ERROR,
                f"the result of {find_subject(ctx)} has {size:,} bytes, and {self._max_bytes:,} are allowed",
                {"size": size, "limit": self._max_bytes},
            )
        smaller = self._cut(result, size) if self._truncate else None
        return cast("R", smaller or self._refusal(ctx, size))

    def _refusal(self, ctx: RequestFacts, size: int) -> CallToolResult:
        text = (
            f"The result of tool {find_subject(ctx).name!r} has {size:,} bytes, and {self._max_bytes:,} are "
            "allowed. Ask for less."
        )
        return CallToolResult(content=[TextContent(text=text)], is_error=True)

    def _cut(self, result: CallToolResult, size: int) -> CallToolResult | None:
        """The result with its text cut, or None if it is not text alone, or nothing of it would be left."""
        texts: list[str] = []
        for block in result.content:
            if not isinstance(block, TextContent):
                return None
            texts.append(block.text)
        if result.structured_content is not UNSET:
            return None
        text, mark = "\n".join(texts), MARK.format(size=size, limit=self._max_bytes)
        low, high = 0, len(text)
        while low < high:  # the escapes of JSON make its length a matter of trial
            middle = (low + high + 1) // 2
            if count_bytes(_with_text(result, text[:middle] + mark)) <= self._max_bytes:
                low = middle
            else:
                high = middle - 1
        return _with_text(result, text[:low] + mark) if low else None


def _with_text(result: CallToolResult, text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=result.is_error, meta=result.meta)
