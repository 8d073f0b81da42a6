"""What the runtime asks of a transport, and the refusals it may answer with.

A transport moves frames between two peers in order. It knows no method, no
session and no era.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from trio_mcp.wire.frames import InFrame, OutFrame


class FrameSink(Protocol):
    """Where a writer writes."""

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Write `frames` in order; checkpoints where it has to wait. Raises as a transport's does."""


@runtime_checkable
class DirectSink(Protocol):
    """A sink that takes small frames without waiting."""

    def send_now(self, frame: OutFrame) -> bool:
        """Write `frame`, whole, or return False and write nothing; never raises.

        Must not be called while `send_frames` is running.
        """


class FrameTransport(FrameSink, Protocol):
    """A bidirectional, ordered channel of frames to one peer.

    One task sends and one task receives; a second concurrent sender or receiver
    raises `trio.BusyResourceError`.
    """

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Write `frames` in order, in one write where the wire allows it; checkpoints where it has to wait.

        Raises `trio.BrokenResourceError` when the peer is gone and
        `trio.ClosedResourceError` after `aclose`.
        """

    async def receive_frames(self) -> Sequence[InFrame]:
        """Return the next frames, in order; checkpoints.

        What could not be read comes as a `Malformed` frame in its place. Raises
        `trio.EndOfChannel` when the peer closed its end, `trio.BrokenResourceError`
        when the connection broke, and `trio.ClosedResourceError` after `aclose`.
        """

    async def aclose(self) -> None:
        """Close both directions, also when cancelled or failing; checkpoints."""


Accept: TypeAlias = Callable[[Sequence[InFrame]], bool]
"""Takes frames without waiting; True where it wants no more before it has room."""

WaitRoom: TypeAlias = Callable[[], Awaitable[None]]
"""Waits until there is room again; checkpoints."""


@runtime_checkable
class DirectTransport(Protocol):
    """A transport whose peer lives in this process, and can be spared the way through a reader."""

    async def deliver_frames(self, accept: Accept, wait_room: WaitRoom) -> None:
        """Let `accept` take what comes until the peer has closed its end; checkpoints.

        It runs in the peer's task, which then waits for room; what it raises is raised
        here. Raises as `receive_frames` does.
        """


@runtime_checkable
class MirroringTransport(Protocol):
    """A transport to an origin, which mirrors arguments of tools into headers (MCP 2026-07-28 HTTP).

    `parameter_headers` is kept by whoever lists the tools: tool name to header name
    to property path.
    """

    origin: str
    parameter_headers: dict[str, Mapping[str, tuple[str, ...]]]
