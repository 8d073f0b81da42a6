"""Types of Python's own library as annotations, beyond those that msgspec knows.

Owns the table of them, and where those of NumPy and pandas are looked up.
"""

from __future__ import annotations

import collections
import fractions
import functools
import ipaddress
import re
import types
import typing
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, Final

from trio_mcp.schema.library_types import LibraryType


def _text(kind: type, schema_format: str | None = None) -> LibraryType:
    return LibraryType(kind, str, kind, {} if schema_format is None else {"format": schema_format})


_SIMPLE: Final[Mapping[Any, LibraryType]] = {
    fractions.Fraction: _text(fractions.Fraction),
    ipaddress.IPv4Address: _text(ipaddress.IPv4Address, "ipv4"),
    ipaddress.IPv6Address: _text(ipaddress.IPv6Address, "ipv6"),
    ipaddress.IPv4Network: _text(ipaddress.IPv4Network),
    ipaddress.IPv6Network: _text(ipaddress.IPv6Network),
    ipaddress.IPv4Interface: _text(ipaddress.IPv4Interface),
    ipaddress.IPv6Interface: _text(ipaddress.IPv6Interface),
    re.Pattern: LibraryType(re.Pattern, str, re.compile, {"format": "regex"}),
    zoneinfo.ZoneInfo: _text(zoneinfo.ZoneInfo),
}


def read_library_type(annotation: Any, *, outgoing: bool) -> LibraryType | None:
    """How a type of a library looks in JSON; None if it is not known here."""
    origin, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if not isinstance(origin, type):
        return None
    if origin.__module__.partition(".")[0] in ("numpy", "pandas"):
        from trio_mcp.schema.array_types import read_array_type

        return read_array_type(origin, args, outgoing=outgoing)
    if origin in _SIMPLE and args in ((), (str,)):
        return _SIMPLE[origin]
    return _read_collection(origin, args)


def _read_collection(origin: type, args: tuple[Any, ...]) -> LibraryType | None:
    if origin is collections.deque:
        return LibraryType(origin, list[args[0]] if args else list, collections.deque)  # type: ignore[valid-type]
    if origin is collections.OrderedDict:
        return LibraryType(origin, _dict_of(args), collections.OrderedDict)
    if origin is collections.Counter:
        form: Any = dict[args[0], int] if args else dict[str, int]  # type: ignore[valid-type]
        return LibraryType(origin, form, collections.Counter)
    if origin is collections.defaultdict:
        return _read_defaultdict(args)
    return None


def _read_defaultdict(args: tuple[Any, ...]) -> LibraryType:
    """With the empty value of its annotation for keys that are missing, if it has one."""
    kind = (typing.get_origin(args[1]) or args[1]) if args else None
    makes = kind if kind in (int, float, str, bool, list, dict, set) else None
    make: Callable[[Any], Any] = functools.partial(collections.defaultdict, makes)
    return LibraryType(collections.defaultdict, _dict_of(args), make)


def _dict_of(args: tuple[Any, ...]) -> Any:
    return types.GenericAlias(dict, args) if args else dict
