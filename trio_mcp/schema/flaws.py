"""Flaws: what a Python value can hold and JSON cannot.

Owns the search for numbers that are not finite, lone surrogates and values
without a JSON form, and names their path. Knows nothing of annotations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import attrs
import msgspec

from trio_mcp.schema.conversion import to_json_value
from trio_mcp.schema.problems import Key, Problem
from trio_mcp.wire.codec import UNENCODABLE, encode_value


def find_flaw(value: Any) -> Problem | None:
    """The first part of a value of builtin types that JSON cannot hold, or None.

    Cheap for a value without a flaw: it is encoded once, and searched only if
    the text has a null that may have been a number.
    """
    try:
        if b"null" not in msgspec.json.encode(value):
            return None
    except UnicodeEncodeError:
        pass
    except (TypeError, ValueError, RecursionError) as error:
        return Problem((), str(error))
    return _find(value, _flaw)


def encode_json(value: Any) -> msgspec.Raw:
    """Encode one payload; raises ValueError, naming the path, for what JSON cannot hold."""
    try:
        text = msgspec.json.encode(value)
        if b"null" not in text:
            return msgspec.Raw(text)
    except UNENCODABLE:
        try:
            value = to_json_value(value)
        except (TypeError, *UNENCODABLE):
            pass  # the search below finds and names it
    flaw = find_flaw(value)
    if flaw is not None:
        raise ValueError(flaw.describe())
    return encode_value(value)


def find_value(value: Any, wanted: object) -> tuple[Any, ...]:
    """The steps to the object `wanted` inside `value`; empty if it is not found."""
    problem = _find(value, lambda item: "here" if item is wanted else None)
    return problem.steps if problem is not None else ()


def _find(value: Any, judge: Callable[[Any], str | None]) -> Problem | None:
    """The first item, in order, that `judge` has a message for."""
    pending: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    seen: set[int] = set()
    while pending:
        steps, item = pending.pop()
        message = judge(item)
        if message is not None:
            return Problem(steps, message)
        if isinstance(item, str | int | float | bytes) or id(item) in seen:
            continue
        seen.add(id(item))
        pending.extend(reversed([((*steps, step), inside) for step, inside in _items(item)]))
    return None


def _flaw(item: Any) -> str | None:
    if isinstance(item, float) and not math.isfinite(item):
        return f"{item} is not JSON"
    if isinstance(item, str) and not item.isascii() and _has_surrogate(item):
        return "a lone surrogate is not JSON"
    if isinstance(item, Mapping):
        for key in item:
            if isinstance(key, str) and _has_surrogate(key):
                return f"a lone surrogate in the key {key!r} is not JSON"
    return None


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _items(item: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(item, Mapping):
        for key, inside in item.items():
            yield key if isinstance(key, str) and key.isidentifier() else Key(key), inside
    elif isinstance(item, Sequence | Set):
        yield from enumerate(item)
    else:
        for name in _field_names(item):
            yield name, getattr(item, name, None)


def _field_names(item: Any) -> tuple[str, ...]:
    if isinstance(item, type):
        return ()
    if isinstance(item, msgspec.Struct):
        return item.__struct_fields__
    if attrs.has(type(item)):
        return tuple(field.name for field in attrs.fields(type(item)))
    return tuple(f.name for f in dataclasses.fields(item)) if dataclasses.is_dataclass(item) else ()
