"""What a server has of one kind, such as its tools: added, removed, disabled and listed in pages.

Owns the order, which is that of registration, and the cursors of pages. Everything here may be called from
any thread. Knows neither requests nor who is told of a change.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import RLock
from typing import Final, Generic, Protocol, TypeVar

from trio_mcp.errors import DefinitionError, ProtocolError
from trio_mcp.server.tags import TagRules
from trio_mcp.wire.errors import INVALID_PARAMS

CHANGING: Final = RLock()
"""Held by whoever changes what is registered: servers that are mounted in each other change together, and
with a lock for each of them two threads could wait for each other."""


class Tagged(Protocol):
    """What can be registered."""

    @property
    def tags(self) -> frozenset[str]:
        """By which programs enable and disable it."""


D = TypeVar("D", bound=Tagged)


class _Entry(Generic[D]):
    """One definition. `owner` is the mirror of a mounted server that offers it, None for the server's own.

    It is disabled here unless it `is_enabled`, and where it was registered unless it `is_offered`; it
    `is_shown` to clients if it is neither.
    """

    __slots__ = ("definition", "is_enabled", "is_offered", "is_shown", "number", "owner")

    def __init__(
        self, number: int, definition: D, is_enabled: bool, owner: object = None, is_offered: bool = True
    ) -> None:
        self.number = number
        self.definition = definition
        self.is_enabled = is_enabled
        self.is_offered = is_offered
        self.is_shown = False
        self.owner = owner


class Registry(Mapping[str, D]):
    """The definitions of one `kind` ("tool") by name or URI; as a mapping, those that are not disabled."""

    def __init__(self, kind: str, error: type[DefinitionError]) -> None:
        """`error` is raised for a name that is taken, or that nothing has."""
        self.kind = kind
        self.enabled: dict[str, D] = {}
        """What clients may use, for a quick search; without an order."""
        self.has_begun = False
        """Whether there has ever been anything: a client may have been told that there is."""
        self.rules: TagRules | None = None
        """What is enabled by its tags; None for everything."""
        self.watchers: tuple[Callable[[str], None], ...] = ()
        """Called with the key of what has changed, under the lock."""
        self.claimants: tuple[Callable[[str], None], ...] = ()
        """Called with a key that is free again, under the lock."""
        self._error = error
        self._entries: dict[str, _Entry[D]] = {}
        self._last = 0
        self._wrap: Callable[[D], D] | None = None

    def __repr__(self) -> str:
        return f"<Registry of {len(self._entries)} {self.kind}s, {len(self.enabled)} enabled>"

    def __getitem__(self, key: str) -> D:
        return self.enabled[key]

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, entry in list(self._entries.items()) if entry.is_shown])

    def __len__(self) -> int:
        return len(self.enabled)

    def has(self, key: str) -> bool:
        """Whether `key` is registered, be it disabled or not."""
        return key in self._entries

    def add(self, key: str, definition: D) -> None:
        """Register `definition` behind all others; raises DefinitionError if its key is taken."""
        with CHANGING:
            if key in self._entries:
                raise self._error(f"there is already a {self.kind} named {key!r}")
            self._insert(key, definition, None, is_offered=True)

    def remove(self, key: str) -> None:
        """Forget what is registered as `key`; raises DefinitionError if nothing is, or a mount has it."""
        with CHANGING:
            if self._find(key).owner is not None:
                raise self._error(
                    f"{self.kind} {key!r} is that of a mounted server: remove it there, or disable it here"
                )
            self._delete(key)

    def put(self, key: str, definition: D, owner: object, *, is_offered: bool) -> bool:
        """Register what `owner` offers, in place of what it has offered before; False if the key is taken."""
        with CHANGING:
            entry = self._entries.get(key)
            if entry is None:
                self._insert(key, definition, owner, is_offered=is_offered)
                return True
            if entry.owner is not owner:
                return False
            self._replace(key, entry, definition if self._wrap is None else self._wrap(definition))
            entry.is_offered = is_offered
            self._show(key, entry)
            self._tell(self.watchers, key)
            return True

    def withdraw(self, key: str, owner: object) -> None:
        """Forget what `owner` has offered as `key`; does nothing if it has not."""
        with CHANGING:
            entry = self._entries.get(key)
            if entry is not None and entry.owner is owner:
                self._delete(key)

    def wrap_all(self, wrap: Callable[[D], D]) -> None:
        """Put what `wrap` makes in the place of each definition, also of those to come.

        A registry is wrapped once: does nothing if it is already.
        """
        with CHANGING:
            if self._wrap is not None:
                return
            self._wrap = wrap
            for key, entry in self._entries.items():
                self._replace(key, entry, wrap(entry.definition))
                self._tell(self.watchers, key)

    def require(self, keys: Iterable[str]) -> None:
        """Raise DefinitionError unless all `keys` are registered."""
        for key in keys:
            self._find(key)

    def switch(self, keys: Iterable[str], *, is_enabled: bool) -> bool:
        """Enable or disable what is registered; returns whether that changed anything for clients."""
        with CHANGING:
            changed = [self._switch(key, self._find(key), is_enabled) for key in keys]
            return any(changed)

    def switch_where(self, decide: Callable[[D], bool | None]) -> bool:
        """Enable or disable what `decide` gives True or False for; returns as `switch` does."""
        has_changed = False
        with CHANGING:
            for key, entry in self._entries.items():
                is_enabled = decide(entry.definition)
                if is_enabled is not None and self._switch(key, entry, is_enabled):
                    has_changed = True
        return has_changed

    def keys_of_all(self) -> list[str]:
        """The keys of what is registered, be it disabled or not, in the order of registration."""
        return list(self._entries)

    def look(self, key: str) -> tuple[D, bool] | None:
        """What is registered as `key`, and whether clients may use it; None if nothing is."""
        entry = self._entries.get(key)
        return None if entry is None else (entry.definition, entry.is_shown)

    def all(self) -> list[D]:
        """What is registered, be it disabled or not, in the order of registration."""
        return [entry.definition for entry in list(self._entries.values())]

    def in_order(self) -> list[D]:
        """What is enabled, in the order of registration."""
        return [entry.definition for entry in list(self._entries.values()) if entry.is_shown]

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
        entries = [e for e in list(self._entries.values()) if e.is_shown and e.number > position]
        if shows is not None:
            entries = [e for e in entries if shows(e.definition)]
        page = entries[:size]
        following = self._make_cursor(page[-1].number) if len(page) < len(entries) else None
        return [entry.definition for entry in page], following

    def _insert(self, key: str, definition: D, owner: object, *, is_offered: bool) -> None:
        if self._wrap is not None:
            definition = self._wrap(definition)
        self._last += 1
        self.has_begun = True
        is_enabled = self.rules is None or self.rules.allow(definition.tags)
        entry = self._entries[key] = _Entry(self._last, definition, is_enabled, owner, is_offered)
        self._show(key, entry)
        self._tell(self.watchers, key)

    def _replace(self, key: str, entry: _Entry[D], definition: D) -> None:
        entry.definition = definition
        if key in self.enabled:
            self.enabled[key] = definition

    def _delete(self, key: str) -> None:
        del self._entries[key]
        self.enabled.pop(key, None)
        self._tell(self.watchers, key)
        self._tell(self.claimants, key)

    def _switch(self, key: str, entry: _Entry[D], is_enabled: bool) -> bool:
        entry.is_enabled = is_enabled
        has_changed = self._show(key, entry)
        if has_changed:
            self._tell(self.watchers, key)
        return has_changed

    def _show(self, key: str, entry: _Entry[D]) -> bool:
        """Let clients use it, or not; returns whether that is new."""
        is_shown = entry.is_enabled and entry.is_offered
        if is_shown is entry.is_shown:
            return False
        entry.is_shown = is_shown
        if is_shown:
            self.enabled[key] = entry.definition
        else:
            del self.enabled[key]
        return True

    def _tell(self, told: Iterable[Callable[[str], None]], key: str) -> None:
        for tell in told:
            tell(key)

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
