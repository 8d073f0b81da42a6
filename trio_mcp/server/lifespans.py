"""Several lifespans of one server, as one.

Owns their order, and what handlers find as `Context.lifespan` then. One alone needs nothing of this.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec import Struct

from trio_mcp.errors import DefinitionError


class Lifespans(Struct, frozen=True, eq=False):
    """Lifespans that are entered in order and left in reverse; `functions` make their context managers."""

    functions: Sequence[Callable[[], AbstractAsyncContextManager[Any]]]

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Any]:
        """Enter all; yields what they yield together. Raises DefinitionError if that is no one value."""
        async with AsyncExitStack() as stack:
            values = [await stack.enter_async_context(enter()) for enter in self.functions]
            yield merge(values)


def merge(values: Sequence[Any]) -> Any:
    """The one value that is not None, or a dict of what the mappings hold; raises DefinitionError."""
    given = [value for value in values if value is not None]
    if len(given) < 2:
        return given[0] if given else None
    merged: dict[Any, Any] = {}
    for value in given:
        if not isinstance(value, Mapping):
            raise DefinitionError(
                f"several lifespans of a server yield values, and one is a {type(value).__name__}: each must "
                "be a mapping, such as {'db': db}, so that handlers find them together in ctx.lifespan"
            )
        common = merged.keys() & value.keys()
        if common:
            names = ", ".join(sorted(map(repr, common)))
            raise DefinitionError(f"several lifespans of a server yield the same key: {names}")
        merged.update(value)
    return merged
