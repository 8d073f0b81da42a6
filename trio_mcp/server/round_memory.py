"""What `Context.once` remembers while a handler is run again.

Owns that a function is called once for each key, and what its result is made of. Knows nothing of rounds:
in a legacy call and in a background task, whose handlers run once, it is the same memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

import trio
from msgspec import Raw

from trio_mcp.errors import LocalProtocolError, ReturnError
from trio_mcp.schema.flaws import encode_json
from trio_mcp.schema.returns import find_return_type


class RoundMemory:
    """The results of functions by key, as JSON."""

    def __init__(self, results: dict[str, Raw]) -> None:
        self.results: Final = results
        self._working: dict[str, trio.Event] = {}
        self._tasks: set[trio.lowlevel.Task] = set()

    @property
    def is_busy(self) -> bool:
        """Whether a function is being called now."""
        return bool(self._working)

    async def wait_idle(self) -> None:
        """Wait until no function is being called; checkpoints if one is."""
        while self._working:
            await next(iter(self._working.values())).wait()

    async def once(self, key: str, fn: Callable[[], Any], result_type: Any) -> Any:
        """The result of `fn()`, which is called unless `key` has a result already; checkpoints."""
        self.refuse_within("use ctx.once")
        await trio.lowlevel.checkpoint()
        while key in self._working:
            await self._working[key].wait()
        value_type = find_return_type(fn) if result_type is None else result_type
        if key in self.results:
            return _decode(key, self.results[key], value_type)
        done = self._working[key] = trio.Event()
        task = trio.lowlevel.current_task()
        self._tasks.add(task)
        try:
            value = fn()
            if inspect.isawaitable(value):
                value = await value
            raw = _encode(key, value)
            kept = _decode(key, raw, value_type)
            if value_type is Any and not _is_same(kept, value):
                raise ReturnError(
                    f"ctx.once({key!r}): a {type(value).__name__} does not come back from JSON as it was: "
                    "annotate what the function returns, or pass result_type="
                )
            self.results[key] = raw
        finally:
            self._tasks.discard(task)
            del self._working[key]
            done.set()
        return kept

    def refuse_within(self, what: str) -> None:
        """Raise LocalProtocolError in a function of `once`, for which the end of a run would wait."""
        if not self._tasks:
            return
        task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        while task is not None:
            if task in self._tasks:
                raise LocalProtocolError(f"a function of ctx.once cannot {what}: do that before or after it")
            task = None if task.parent_nursery is None else task.parent_nursery.parent_task


def _is_same(kept: Any, value: Any) -> bool:
    try:
        return bool(kept == value)
    except ValueError:  # an array says of each item whether it is
        return False


def _encode(key: str, value: Any) -> Raw:
    try:
        return encode_json(value)
    except ValueError as error:
        raise ReturnError(f"ctx.once({key!r}): the result cannot be kept as JSON: {error}") from None


def _decode(key: str, raw: Raw, value_type: Any) -> Any:
    from trio_mcp.schema.result_types import decode_result  # hardly any server needs it

    try:
        return decode_result(raw, value_type)
    except (ValueError, TypeError) as error:
        raise ReturnError(f"ctx.once({key!r}): the result is no {value_type!r}: {error}") from None
