"""Where a definition tells what changes while its server runs.

Owns who is told. Knows neither connections nor messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

ListKind: TypeAlias = Literal["tools", "prompts", "resources"]
"""A list that clients can ask for; that of resources includes the templates."""


class ListChanges:
    """Tells listeners which list has changed; costs next to nothing if there are none."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        # A tuple, which is replaced and never changed, because other threads may go through it.
        self._listeners: tuple[Callable[[ListKind], None], ...] = ()

    def tell(self, kind: ListKind) -> None:
        """Tell that the list of `kind` has changed, in the caller's thread."""
        for listener in self._listeners:
            listener(kind)

    def listen(self, listener: Callable[[ListKind], None]) -> None:
        """Call `listener` at each change from now on; it must neither wait nor raise."""
        self._listeners = (*self._listeners, listener)

    def unlisten(self, listener: Callable[[ListKind], None]) -> None:
        """Undo `listen`."""
        self._listeners = tuple(one for one in self._listeners if one != listener)
