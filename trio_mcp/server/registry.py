"""What a server has of one kind, such as its tools: added, removed, disabled and listed in pages.

Owns the order, which is that of registration, and the cursors of pages. Everything here may be called from
any thread. Knows neither requests nor who is told of a change.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import Generic, TypeVar

from trio_mcp.errors import DefinitionError, ProtocolError
from trio_mcp.wire.errors import INVALID_PARAMS

D = TypeVar("D")


class _Entry(Generic[D]):
    __slots__ = ("definition", "is_enabled", "number")

    def __init__(self, number: int, definition: D) -> None:
        self.number = number
        self.definition = definition
        self.is_enabled = True


class Registry(Mapping[str, D]):
    """The definitions of one `kind` ("tool") by name or URI; as a mapping, those that are not disabled."""

    def __init__(self, kind: str, error: type[DefinitionError]) -> None:
        """`error` is raised for a name that is taken, or that nothing has."""
        self.kind = kind
        self.enabled: dict[str, D] = {}
        """What clients may use, for a quick search; without an order."""
        self._error = error
        self._entries: dict[str, _Entry[D]] = {}
        self._last = 0
        self._lock = Lock()
        self._wrap: Callable[[D], D] | None = None

    def __repr__(self) -> str:
        return f"<Registry of {len(self._entries)} {self.kind}s, {len(self.enabled)} enabled>"

    def __getitem__(self, key: str) -> D:
        return self.enabled[key]

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, entry in list(self._entries.items()) if entry.is_enabled])

    def __len__(self) -> int:
        return len(self.enabled)

    @property
    def has_begun(self) -> bool:
        """Whether there has ever been anything: a client may have been told that there is."""
        return self._last > 0

    def has(self, key: str) -> bool:
        """Whether `key` is registered, be it disabled or not."""
        return key in self._entries

    def add(self, key: str, definition: D) -> None:
        """Register `definition` behind all others; raises DefinitionError if its key is taken."""
        with self._lock:
            if key in self._entries:
                raise self._error(f"there is already a {self.kind} named {key!r}")
            if self._wrap is not None:
                definition = self._wrap(definition)
            self._last += 1
            self._entries[key] = _Entry(self._last, definition)
            self.enabled[key] = definition

    def remove(self, key: str) -> None:
        """Forget what is registered as `key`; raises DefinitionError if nothing is."""
        with self._lock:
            self._find(key)
            del self._entries[key]
            self.enabled.pop(key, None)

    def wrap_all(self, wrap: Callable[[D], D]) -> None:
        """Put what `wrap` makes in the place of each definition, also of those to come.

        A registry is wrapped once: does nothing if it is already.
        """
        with self._lock:
            if self._wrap is not None:
                return
            self._wrap = wrap
            for key, entry in self._entries.items():
                entry.definition = wrap(entry.definition)
                if entry.is_enabled:
                    self.enabled[key] = entry.definition

    def require(self, keys: Iterable[str]) -> None:
        """Raise DefinitionError unless all `keys` are registered."""
        for key in keys:
            self._find(key)

    def switch(self, keys: Iterable[str], *, is_enabled: bool) -> bool:
        """Enable or disable what is registered; returns whether that changed anything."""
        has_changed = False
        with self._lock:
            for key in keys:
                entry = self._find(key)
                if entry.is_enabled is is_enabled:
                    continue
                entry.is_enabled = is_enabled
                has_changed = True
                if is_enabled:
                    self.enabled[key] = entry.definition
                else:
                    del self.enabled[key]
        return has_changed

    def all(self) -> list[D]:
        """What is registered, be it disabled or not, in the order of registration."""
        return [entry.definition for entry in list(self._entries.values())]

    def in_order(self) -> list[D]:
        """What is enabled, in the order of registration."""
        return [entry.definition for entry in list(self._entries.values()) if entry.is_enabled]

    def find(self, key: str) -> D | None:
        """What is registered as `key`, be it disabled or not; None if nothing is."""
        entry = self._entries.get(key)
        return None if entry is None else entry.definition

    def read_page(
        self, cursor: str | None, size: int | None, shows: Callable[[D], bool] | None = None
    ) -> tuple[list[D], str | None]:
        """Return at most `size` definitions behind `cursor`, and the cursor behind them (MCP pagination).

        If `shows` is given, only what it is true for counts. The cursor is None if there are no more. A
        cursor is a place in the order of registration, so that no change of the list makes a client see
        something twice or miss what was there all the time. Raises ProtocolError for one that was never given
        out.
        """
        if cursor is None and size is None:
            found = self.in_order()
            return (found if shows is None else list(filter(shows, found))), None
        position = 0 if cursor is None else self._read_cursor(cursor, size)
        entries = [e for e in list(self._entries.values()) if e.is_enabled and e.number > position]
        if shows is not None:
            entries = [e for e in entries if shows(e.definition)]
        page = entries[:size]
        following = self._make_cursor(page[-1].number) if len(page) < len(entries) else None
        return [entry.definition for entry in page], following

    def _find(self, key: str) -> _Entry[D]:
        entry = self._entries.get(key)
        if entry is None:
            raise self._error(f"there is no {self.kind} named {key!r}")
        return entry

    def _make_cursor(self, number: int) -> str:
        return urlsafe_b64encode(f"{self.kind}:{number}".encode()).decode()

    def _read_cursor(self, cursor: str, size: int | None) -> int:
        try:
            kind, _, number = urlsafe_b64decode(cursor).decode("ascii").partition(":")
            position = int(number)
        except (binascii.Error, ValueError):
            kind, position = "", 0
        is_known = kind == self.kind and 0 < position <= self._last and cursor == self._make_cursor(position)
        if size is None or not is_known:
            raise ProtocolError(INVALID_PARAMS, f"unknown cursor {cursor[:100]!r}")
        return position
