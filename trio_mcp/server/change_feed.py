"""The changes that one subscriber was not told yet.

Owns that each is told once however often it happened meanwhile, so that what is pending is never more than
what was subscribed to, and how a change looks on the wire. Knows not who subscribed to what.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from trio_mcp.outgoing.slot import MOVES, Slot
from trio_mcp.server.changes import Change
from trio_mcp.session.connection import ServerConnection
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.frames import Notification, OutFrame, RequestId
from trio_mcp.wire.messages import META_SUBSCRIPTION_ID


class ChangeFeed(Slot):
    """Sends changes by `connection`, marked as belonging to `subscription_id` if that is not None.

    A change that is pending already is told once, in its old place. While nobody hears the connection,
    everything stays pending.
    """

    __slots__ = ("_connection", "_pending", "_subscription_id")

    _items: deque[Change]

    def __init__(self, connection: ServerConnection, subscription_id: RequestId | None = None) -> None:
        super().__init__(connection.outbox, deque())
        self._connection = connection
        self._subscription_id = subscription_id
        self._pending: set[Change] = set()

    def __repr__(self) -> str:
        return f"<ChangeFeed: {len(self)} changes pending, {self._state.value}>"

    def __len__(self) -> int:
        """How many changes are pending."""
        return len(self._items)

    @property
    def is_refilled(self) -> bool:
        """False: what is pending is bounded, and keeps its place."""
        return False

    def note(self, change: Change) -> None:
        """Append `change`, unless it is pending; never waits."""
        if change in self._pending:
            return
        self._pending.add(change)
        self._items.append(change)
        self.note_heard()

    def note_heard(self) -> None:
        """Send what is pending if somebody hears the connection now; does not wait."""
        if self._items and self._connection.is_heard:
            self._ask_turn()

    def forget(self, change: Change) -> None:
        """Do not tell of `change` any more, if it is pending."""
        if change in self._pending:
            self._pending.remove(change)
            self._items.remove(change)

    def stop(self) -> None:
        """Drop all that is pending, because nobody wants it any more."""
        self._pending.clear()
        self._clear()

    def resume(self) -> None:
        """Do nothing: a feed is never held until a time."""

    def discard(self) -> None:
        """Drop all that is pending, because the wire is gone."""
        self.stop()
        self._state = MOVES[self._state]["discard"]

    def drain(self, room: int) -> tuple[list[OutFrame], int, bool]:
        """Remove up to `room` changes; returns their frames, their number, and whether nothing is left."""
        frames: list[OutFrame] = []
        while self._items and len(frames) < room and self._connection.is_heard:
            change = self._items.popleft()
            self._pending.remove(change)
            frames.append(self._render(change))
        if self._items and self._connection.is_heard:
            return frames, len(frames), False
        self._note_drained()
        return frames, len(frames), True

    def _render(self, change: Change) -> Notification:
        method, uri = change
        params: dict[str, Any] = {}
        if self._subscription_id is not None:
            params["_meta"] = {META_SUBSCRIPTION_ID: self._subscription_id}
        if uri is not None:
            params["uri"] = uri
        return Notification(method, encode_value(params) if params else msgspec.UNSET)
