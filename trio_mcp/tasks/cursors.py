"""The cursors of lists of tasks.

Owns how a cursor is made and checked. Keeps none of them, and knows no store.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from trio_mcp.errors import CursorError
from trio_mcp.tasks.record import Owner

Place: TypeAlias = tuple[datetime, int]
"""Where a task stands among its owner's: when it was created, then in which order."""


class Cursors:
    """Makes cursors and checks them: each is a place, and a code over the place and the owner.

    The owner is None for the list of everybody. Keeps none of them. A cursor that passes can only be made
    with `key`.
    """

    __slots__ = ("_key",)

    _EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
    _PLACE: Final = struct.Struct(">qQ")  # with the code 48 bytes, which base64 puts without padding

    def __init__(self, key: bytes) -> None:
        self._key = key

    def cursor(self, owner: Owner | None, place: Place) -> str:
        """The cursor with which `owner` reads on behind `place`."""
        created_at, number = place
        packed = self._PLACE.pack((created_at - self._EPOCH) // timedelta(microseconds=1), number)
        return base64.urlsafe_b64encode(packed + self._code(owner, packed)).decode()

    def place(self, owner: Owner | None, cursor: str) -> Place:
        """The place that `cursor` marks; raises CursorError unless it was made for `owner`."""
        try:
            raw = base64.urlsafe_b64decode(cursor)
        except ValueError:
            raw = b""
        packed, code = raw[: self._PLACE.size], raw[self._PLACE.size :]
        # Decoding ignores characters that are not base64, so other texts mean the same bytes. Accept ours.
        if base64.urlsafe_b64encode(raw).decode() != cursor or not hmac.compare_digest(
            code, self._code(owner, packed)
        ):
            raise CursorError("the cursor was not given to this owner; hand back that of a page as it came")
        microseconds, number = self._PLACE.unpack(packed)
        return self._EPOCH + timedelta(microseconds=microseconds), number

    def _code(self, owner: Owner | None, packed: bytes) -> bytes:
        # `packed` comes first because its length is fixed and that of a name is not.
        named = b"" if owner is None else f"{owner.kind}:{owner.name}".encode(errors="surrogatepass")
        return hmac.digest(self._key, packed + named, hashlib.sha256)
