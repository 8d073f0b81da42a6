"""Counting what passes by: the items of a loop, the bytes of a stream.

Owns when a thing counts as done, and what total that makes. Owns none of the sources:
a loop that is left leaves its source as it is.
"""

from __future__ import annotations

import operator
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

import trio

from trio_mcp.progress.checks import check_not_negative

T = TypeVar("T")

Wording: TypeAlias = str | Callable[[T], str | None] | None
"""The message of a loop: one for all items, or what a function says of each."""


class Counter(Protocol):
    """What is counted on; usable in the thread that the loop runs in."""

    def expect(self, more: float) -> None:
        """Let the total have room for `more` beyond what is counted, where nothing else decides it."""

    def increment(self, by: float) -> None:
        """Count; does not checkpoint."""

    async def count(self, by: float) -> None:
        """Count, and wait where a lossless call has to; checkpoints as a report does."""

    def set_message(self, message: str | None) -> None:
        """Set the message."""


class Tracked(Generic[T]):
    """The items of `source`, each counted once the loop has come back for the next.

    An item whose body raised, or left the loop, is not counted. `for` takes any iterable
    and has no checkpoints; `async for` takes those and async iterables, and each turn is
    a cancellation point, and a schedule point as a report is.
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
        return _AsyncSteps(_in_turn(iter(self._source)), self)

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

    def tell(self, item: T) -> None:
        """Say what is about to be done."""
        if callable(self._message):
            self._counter.set_message(self._message(item))


def _in_turn(source: Iterator[T]) -> Callable[[], Awaitable[T]]:
    async def take() -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        for item in source:
            return item
        raise StopAsyncIteration

    return take


class _Steps(Iterator[T]):
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
        self._tracked.tell(item)
        self._in_body = True
        return item


class _AsyncSteps(AsyncIterator[T]):
    __slots__ = ("_in_body", "_take", "_tracked")

    def __init__(self, take: Callable[[], Awaitable[T]], tracked: Tracked[T]) -> None:
        self._take = take
        self._tracked = tracked
        self._in_body = False

    async def __anext__(self) -> T:
        if self._in_body:
            self._in_body = False
            # Before the next item is taken: cancelled here, the loop has none to lose.
            await self._tracked.count_in_turn()
        item = await self._take()
        self._tracked.tell(item)
        self._in_body = True
        return item


class CountedStream(trio.abc.ReceiveStream):
    """`stream`, with every byte that is received counted; closing it closes `stream`."""

    def __init__(self, counter: Counter, stream: trio.abc.ReceiveStream, size: int | None) -> None:
        self._counter = counter
        self._stream = stream
        if size is not None and check_not_negative(size, "size"):
            counter.expect(size)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive as the stream does, and count what came."""
        data = await self._stream.receive_some(max_bytes)
        if data:
            # Without a checkpoint: cancelled here, the bytes would be lost.
            self._counter.increment(len(data))
        return data

    async def aclose(self) -> None:
        """Close the stream beneath."""
        await self._stream.aclose()
