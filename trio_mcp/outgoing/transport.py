"""What sessions ask of a transport, and the exceptions that it may raise.

A transport moves frames between two peers in order. It knows no method, no
session and no era.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias, runtime_checkable

import trio

from trio_mcp.wire.frames import InFrame, OutFrame


class PeerEndedError(trio.EndOfChannel, trio.BrokenResourceError):
    """The peer has ended, and the message says how, for a caller to read; raised by receiving and sending.

    `left_unread` says that it is known not to have read all that was sent.
    """

    def __init__(self, reason: str, *, left_unread: bool = False) -> None:
        super().__init__(reason)
        self.left_unread = left_unread


class FrameSink(Protocol):
    """The part of a transport that the writer of an outbox writes to."""

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Write `frames` in order; checkpoints if it has to wait. Raises what `FrameTransport` raises."""


@runtime_checkable
class DirectSink(Protocol):
    """A sink that can take a small frame without waiting."""

    def send_now(self, frame: OutFrame) -> bool:
        """Write all of `frame`, or write nothing and return False; never raises.

        Must not be called while `send_frames` is running.
        """


class FrameTransport(FrameSink, Protocol):
    """A bidirectional, ordered channel of frames to one peer.

    One task sends and one task receives; a second concurrent sender or receiver
    raises `trio.BusyResourceError`.
    """

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Write `frames` in order, in one write if the wire allows it; checkpoints if it has to wait.

        Raises `trio.BrokenResourceError` when the peer is gone and
        `trio.ClosedResourceError` after `aclose`.
        """

    async def receive_frames(self) -> Sequence[InFrame]:
        """Return the next frames, in order; checkpoints.

        A message that cannot be read becomes a `Malformed` frame in its place. Raises
        `trio.EndOfChannel` when the peer closed its end, `trio.BrokenResourceError`
        when the connection broke, and `trio.ClosedResourceError` after `aclose`.
        """

    async def aclose(self) -> None:
        """Close both directions, even if it is cancelled or fails; checkpoints."""


Accept: TypeAlias = Callable[[Sequence[InFrame]], bool]
"""Takes frames without waiting; True if it wants no more until it has room."""

WaitRoom: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until there is room again; checkpoints."""


@runtime_checkable
class DirectTransport(Protocol):
    """A transport whose peer is in this process, so that frames need no task that reads them."""

    async def deliver_frames(self, accept: Accept, wait_room: WaitRoom) -> None:
        """Give every frame to `accept` until the peer has closed its end; checkpoints.

        `accept` runs in the peer's task, which then waits for room. What it raises is raised
        here. Raises what `receive_frames` raises.
        """


class WaitTaken(Protocol):
    """Tells what to wait for before more is read on a stream, or None."""

    def __call__(self, *, is_shared: bool) -> Awaitable[None] | None:
        """Return what to wait for; `is_shared` says that the stream belongs to several requests."""


@runtime_checkable
class StreamingTransport(Protocol):
    """A transport on which each request has a stream of its own, which can be read more slowly than others.

    After each portion it awaits what `wait_taken` returns, which whoever takes the frames has set.
    """

    wait_taken: WaitTaken | None


@runtime_checkable
class StatusTransport(Protocol):
    """A transport whose peer answers each request with an HTTP status.

    `handshake_status` is that of the last answer to `initialize`, or None before.
    """

    handshake_status: int | None


@runtime_checkable
class SessionTransport(Protocol):
    """A transport whose server may end its session; the next one knows nothing of what was asked in it.

    It calls `on_renewed` when there is another session, `on_unheard` with the reason when the server's own
    messages do not arrive any more, and `on_silent` if the server never offered to send any: what it sends
    with answers may still come. Whoever takes the frames has set all three.
    """

    on_renewed: Callable[[], None] | None
    on_unheard: Callable[[str], None] | None
    on_silent: Callable[[str], None] | None


@runtime_checkable
class PausingTransport(Protocol):
    """A transport that may ask a person for permission to go on; `pausing` is entered meanwhile.

    Whoever takes the frames may set it, so that the timeouts of requests stand still.
    """

    pausing: Callable[[], AbstractContextManager[None]]


@runtime_checkable
class MirroringTransport(Protocol):
    """A transport to an origin, which mirrors arguments of tools into headers (MCP 2026-07-28 HTTP).

    `parameter_headers` leads from the name of a tool and the name of a header to the path of a
    property. Whoever lists the tools keeps it up to date.
    """

    origin: str
    parameter_headers: dict[str, Mapping[str, tuple[str, ...]]]
