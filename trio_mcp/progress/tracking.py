"""Counting the items of a loop and the bytes of a stream.

Owns when an item counts as done, and what total follows from that. Does not own the sources: a loop that
is left leaves its source as it is. Refuses to know what counts (a `Counter` does) and from which thread.

The iterators are classes, because an async generator that was left early would keep its source in use.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

import trio

from trio_mcp.progress.checks import check_not_negative

T = TypeVar("T")

Wording: TypeAlias = str | Callable[[T], str | None] | None
"""The message of a loop: a text for all items, or a function that makes one of each item."""


class Counter(Protocol):
    """A reporter as loops and streams use it, in the thread that the loop runs in."""

    def expect(self, more: float) -> None:
        """Raise the total to `more` beyond what is counted, unless something else decides the total."""

    def increment(self, by: float) -> None:
        """Count `by`; does not checkpoint."""

    async def count(self, by: float) -> None:
        """Count `by`, and wait if a lossless call has to; checkpoints as a report does."""

    def set_message(self, message: str | None) -> None:
        """Set the message."""


class Tracked(Generic[T]):
    """The items of `source`, each counted once the loop has come back for the next.

    An item whose body raised, or left the loop, is not counted. `for` needs an iterable and
    does not checkpoint; `async for` takes async iterables as well, and each turn is a
    cancellation point, and a schedule point as a report is.
    """

    __slots__ = ("_counter", "_message", "_source", "_total")

    def __init__(
        self,
        counter: Counter,
        source: Iterable[T] | AsyncIterable[T],
        total: float | None,
        message: Wording[T],
    ) -> None:
        if not isinstance(source, (Iterable, AsyncIterable)):
            raise TypeError(f"only what can be iterated over can be tracked, not {source!r}")
        self._counter = counter
        self._source = source
        self._total = operator.length_hint(source) if total is None else check_not_negative(total, "total")
        self._message = message

    def __iter__(self) -> Iterator[T]:
        if not isinstance(self._source, Iterable):
            raise TypeError(f"{self._source!r} is an async iterable: track it with `async for`")
        self._begin()
        return _Steps(iter(self._source), self)

    def __aiter__(self) -> AsyncIterator[T]:
        self._begin()
        if isinstance(self._source, AsyncIterable):
            return _AsyncSteps(aiter(self._source).__anext__, self)
        return _AsyncSteps(_checkpoint_before(iter(self._source)), self)

    def _begin(self) -> None:
        if self._total:
            self._counter.expect(self._total)
        if isinstance(self._message, str):
            self._counter.set_message(self._message)

    def count(self) -> None:
        """Count one item."""
        self._counter.increment(1)

    async def count_in_turn(self) -> None:
        """Count one item, and let others run."""
        await self._counter.count(1)

    def announce(self, item: T) -> None:
        """Set the message to that of the next item."""
        if callable(self._message):
            self._counter.set_message(self._message(item))


def _checkpoint_before(source: Iterator[T]) -> Callable[[], Awaitable[T]]:
    """The `anext` of `source`, with a cancellation point before each item."""

    async def advance() -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        for item in source:
            return item
        raise StopAsyncIteration

    return advance


class _Steps(Iterator[T]):
    """One `for` loop over a `Tracked`."""

    __slots__ = ("_in_body", "_source", "_tracked")

    def __init__(self, source: Iterator[T], tracked: Tracked[T]) -> None:
        self._source = source
        self._tracked = tracked
        self._in_body = False

    def __next__(self) -> T:
        if self._in_body:
            self._in_body = False
            self._tracked.count()
        item = next(self._source)
        self._tracked.announce(item)
        self._in_body = True
        return item


class _AsyncSteps(AsyncIterator[T]):
    """One `async for` loop over a `Tracked`."""

    __slots__ = ("_advance", "_in_body", "_tracked")

    def __init__(self, advance: Callable[[], Awaitable[T]], tracked: Tracked[T]) -> None:
        self._advance = advance
        self._tracked = tracked
        self._in_body = False

    async def __anext__(self) -> T:
        if self._in_body:
            self._in_body = False
            # Before the next item is asked for: if this is cancelled, no item is lost.
            await self._tracked.count_in_turn()
        item = await self._advance()
        self._tracked.announce(item)
        self._in_body = True
        return item


class CountedStream(trio.abc.ReceiveStream):
    """`stream`, with every received byte counted; closing it closes `stream`."""

    def __init__(self, counter: Counter, stream: trio.abc.ReceiveStream, size: int | None) -> None:
        self._counter = counter
        self._stream = stream
        if size is not None and check_not_negative(size, "size"):
            counter.expect(size)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive as the stream does, and count the bytes."""
        data = await self._stream.receive_some(max_bytes)
        if data:
            # Without a checkpoint: if this could be cancelled, the bytes would be lost.
            self._counter.increment(len(data))
        return data

    async def aclose(self) -> None:
        """Close the stream beneath."""
        await self._stream.aclose()
