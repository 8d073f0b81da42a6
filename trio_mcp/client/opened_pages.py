"""Which pages a server has said that a person is done with (2025-11-25).

Owns the bounded memory of those that nobody has waited for yet. Refuses to know who opens them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec
import trio

from trio_mcp.errors import ConnectionLost

MAX_PAGES: Final = 256
"""How many completed pages are remembered until somebody waits for them."""


class _Completed(msgspec.Struct, rename="camel"):
    elicitation_id: str


class OpenedPages:
    """The pages that one server has asked a person to open."""

    def __init__(self) -> None:
        self._completed: OrderedDict[str, None] = OrderedDict()
        self._changed = trio.lowlevel.ParkingLot()
        self._lost: str | None = None

    def note(self, params: msgspec.Raw | msgspec.UnsetType) -> bool:
        """Take note of a notification; False if it names no page."""
        if isinstance(params, msgspec.UnsetType):
            return False
        try:
            ident = msgspec.json.decode(params, type=_Completed).elicitation_id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        self._completed[ident] = None
        while len(self._completed) > MAX_PAGES:
            self._completed.popitem(last=False)
        self._changed.unpark_all()
        return True

    def lose(self, reason: str) -> None:
        """Note that nothing more will be told."""
        self._lost = reason
        self._changed.unpark_all()

    async def wait(self, ident: str) -> None:
        """See `Client.wait_elicitation`."""
        await trio.lowlevel.checkpoint()
        while ident not in self._completed:
            if self._lost is not None:
                raise ConnectionLost(self._lost)
            await self._changed.park()
