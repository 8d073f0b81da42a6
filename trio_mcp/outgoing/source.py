"""What waits in an outbox: calls with something pending, and what follows background tasks.

Owns no more than what the writer needs to know of either.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from trio_mcp.wire.frames import OutFrame

if TYPE_CHECKING:
    from trio_mcp.outgoing.outbox import Outbox


class Source(abc.ABC):
    """Something that waits in an outbox and is emptied by its writer; queued at most once.

    `outbox` is the one that it waits in.
    """

    __slots__ = ("outbox",)

    outbox: Outbox

    @abc.abstractmethod
    def move_to(self, outbox: Outbox) -> None:
        """Leave by `outbox` from now on, with all that is pending."""

    @property
    @abc.abstractmethod
    def pending(self) -> int:
        """How much of what may be merged is pending."""

    @property
    @abc.abstractmethod
    def is_refilled(self) -> bool:
        """Whether more may be added without end, so that it has to let others pass."""

    @abc.abstractmethod
    def discard(self) -> None:
        """Drop all that is pending, because the wire is gone; who waits for space waits no longer."""

    @abc.abstractmethod
    def drain(self, room: int) -> tuple[list[OutFrame], int, bool]:
        """Take up to `room` of that: the frames, how much was used, whether all is taken."""

    def resume(self) -> None:
        """Queue again what `Outbox.rest` was told to leave until now."""
        raise AssertionError(f"{self!r} never rests")
