"""Servers that are mounted in others: what one registers, the other offers as well, from then on.

Owns which name a mounted definition has in the server around it, and what becomes of one whose name is taken.
Knows nothing of calls: what a mounted tool does is in `mounted.py`. It is imported at the first mount.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from trio_mcp.errors import DefinitionError
from trio_mcp.server.changes import Change, ListKind
from trio_mcp.server.definition import ServerDefinition, find_mounted
from trio_mcp.server.mount_names import MountNames, Rename
from trio_mcp.server.mounted import mount_prompt, mount_resource, mount_tool
from trio_mcp.server.registry import CHANGING, Registry, Tagged

logger = logging.getLogger("trio_mcp.server")

SHOWN_COLLISIONS: Final = 5
"""So many names that are taken are told in an error."""

D = TypeVar("D", bound=Tagged)


class Mount:
    """A server that is mounted in another, until `Server.unmount`; `prefix` is what its names begin with."""

    def __init__(self, parent: ServerDefinition, names: MountNames) -> None:
        child = names.definition
        inner, outer = child.open_resources(), parent.open_resources()
        self.names = names
        self.parent = parent
        self.is_mounted = False
        self.mirrors: dict[ListKind, list[_Mirror[Any]]] = {
            "tools": [_Mirror(child.tools, parent.tools, names, names.show_name, mount_tool)],
            "prompts": [_Mirror(child.prompts, parent.prompts, names, names.show_name, mount_prompt)],
            "resources": [
                _Mirror(inner.resources, outer.resources, names, names.show_key, mount_resource),
                _Mirror(inner.templates, outer.templates, names, names.show_key, mount_resource),
            ],
        }

    def __repr__(self) -> str:
        state = "" if self.is_mounted else ", unmounted"
        inside = self.parent.info.name
        return f"<Mount of {self.names.definition.info.name!r} in {inside!r}, prefix={self.prefix!r}{state}>"

    @property
    def prefix(self) -> str | None:
        """What the names begin with."""
        return self.names.prefix

    @property
    def server(self) -> Any:
        """The `Server` that is mounted."""
        return self.names.definition.server

    def tell(self, change: Change) -> None:
        """Pass a change of the mounted server on to those who want to know of the server around it."""
        method, uri = change
        self.parent.changes.tell_change(change if uri is None else (method, self.names.show_change(uri)))

    def begin(self) -> None:
        """Offer what it offers; raises DefinitionError, and does nothing, if names are taken."""
        child, parent = self.names.definition, self.parent
        if child is parent or parent in find_mounted(child):
            raise DefinitionError(
                f"{child.info.name!r} cannot be mounted in {parent.info.name!r}, which is mounted in it"
            )
        taken = [found for mirrors in self.mirrors.values() for one in mirrors for found in one.prepare()]
        if taken:
            some = ", ".join(islice(taken, SHOWN_COLLISIONS))
            more = f" and {len(taken) - SHOWN_COLLISIONS} more" if len(taken) > SHOWN_COLLISIONS else ""
            raise DefinitionError(
                f"{child.info.name!r} cannot be mounted in {parent.info.name!r}, where names are taken: "
                f"{some}{more}. A prefix keeps them apart"
            )
        parent.mounted.append(child)
        child.changes.pass_to(self)
        self.is_mounted = True
        for kind, mirrors in self.mirrors.items():
            begun = [one.begin() for one in mirrors]
            if any(begun):
                parent.changes.tell(kind)

    def end(self) -> None:
        """Offer nothing of it any more; raises DefinitionError if that is so already."""
        if not self.is_mounted:
            raise DefinitionError(f"{self.names.definition.info.name!r} is not mounted there any more")
        self.is_mounted = False
        self.names.definition.changes.stop_passing(self)
        self.parent.mounted.remove(self.names.definition)
        for kind, mirrors in self.mirrors.items():
            ended = [one.end() for one in mirrors]
            if any(ended):
                self.parent.changes.tell(kind)


class _Shown(Generic[D]):
    """One definition of a mounted server, as it is offered: the owner of `key` in the registry around."""

    __slots__ = ("inner", "key", "outer")

    def __init__(self, key: str, inner: D, outer: D) -> None:
        self.key = key
        self.inner = inner
        self.outer = outer


class _Mirror(Generic[D]):
    """What one registry of a mounted server has, in that of the server around it. Called under the lock."""

    def __init__(
        self,
        source: Registry[D],
        target: Registry[D],
        names: MountNames,
        name: Callable[[str], str],
        make: Callable[[D, str, MountNames], D],
    ) -> None:
        self._source = source
        self._target = target
        self._names = names
        self._name = name
        self._make = make
        self._shown: dict[str, _Shown[D]] = {}  # by the key in the mounted server
        self._waiting: dict[str, list[str]] = {}  # those whose name is taken, by that name

    def __repr__(self) -> str:
        return f"<_Mirror of {self._source!r}, {len(self._shown)} shown, {len(self._waiting)} names taken>"

    def prepare(self) -> Iterator[str]:
        """Say what cannot be shown because its name is taken; raises DefinitionError for a bad name."""
        own: set[str] = set()
        for key in self._source.keys_of_all():
            name = self._name(key)
            found = self._source.look(key)
            assert found is not None, "nothing changes under the lock"
            self._shown[key] = _Shown(name, found[0], self._make(found[0], name, self._names))
            if name in own or self._target.has(name):
                yield f"{self._source.kind} {name!r}"
            own.add(name)

    def begin(self) -> bool:
        """Show all that there is, and what will be; returns whether there is something."""
        self._source.watchers = (*self._source.watchers, self.follow)
        self._target.claimants = (*self._target.claimants, self.claim)
        if self._source.has_begun:
            self._target.has_begun = True
        for key in self._source.keys_of_all():
            self.follow(key)
        return bool(self._shown)

    def end(self) -> bool:
        """Show nothing any more; returns whether there was something."""
        self._source.watchers = tuple(one for one in self._source.watchers if one != self.follow)
        self._target.claimants = tuple(one for one in self._target.claimants if one != self.claim)
        was_shown = bool(self._shown)
        for key in list(self._shown):
            self._forget(key)
        return was_shown

    def follow(self, key: str) -> None:
        """Show `key` as it is in the mounted server now, or forget it if it is gone."""
        found = self._source.look(key)
        if found is None:
            self._forget(key)
            return
        inner, is_offered = found
        shown = self._shown.get(key)
        try:
            if shown is None:
                name = self._name(key)
                shown = self._shown[key] = _Shown(name, inner, self._make(inner, name, self._names))
            elif shown.inner is not inner:
                shown.inner, shown.outer = inner, self._make(inner, shown.key, self._names)
        except DefinitionError as error:
            self._forget(key)
            logger.warning("%s %r of a mounted server is not offered: %s", self._source.kind, key, error)
            return
        if self._target.put(shown.key, shown.outer, shown, is_offered=is_offered):
            return
        waiting = self._waiting.setdefault(shown.key, [])
        if key not in waiting:
            waiting.append(key)
            logger.warning(
                "%s %r of the mounted server %r is not offered, because the name %r is taken",
                self._source.kind,
                key,
                self._names.definition.info.name,
                shown.key,
            )

    def claim(self, name: str) -> None:
        """Show what has waited for a name that is free again."""
        waiting = self._waiting.pop(name, [])
        if waiting:
            if waiting[1:]:
                self._waiting[name] = waiting[1:]
            self.follow(waiting[0])

    def _forget(self, key: str) -> None:
        shown = self._shown.pop(key, None)
        if shown is None:
            return
        waiting = self._waiting.get(shown.key, [])
        if key in waiting:
            waiting.remove(key)
            if not waiting:
                del self._waiting[shown.key]
        self._target.withdraw(shown.key, shown)


def mount(
    parent: ServerDefinition, child: ServerDefinition, prefix: str | None, names: Rename | None
) -> Mount:
    """Mount `child` in `parent`; raises DefinitionError if it cannot be, or if names are taken."""
    with CHANGING:
        made = Mount(parent, MountNames(child, prefix, names))
        made.begin()
        return made


def unmount(parent: ServerDefinition, made: Mount) -> None:
    """Undo a mount in `parent`; raises DefinitionError if there is no such mount."""
    with CHANGING:
        if made.parent is not parent:
            raise DefinitionError(f"{made!r} is no mount of {parent.info.name!r}")
        made.end()
