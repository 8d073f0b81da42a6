"""Reading messages that are handed on to others: members that this version does not know are kept.

Owns the structs that hold such members, beside those that the type of a message has. They are encoded as
they came, and are an instance of that type, so that everybody can work with them. Refuses to know who hands
on what.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Final, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Raw, Struct, UnsetType
from msgspec.structs import FieldInfo, fields

from trio_mcp.wire.tolerant import ESSENTIAL, UNREADABLE, alternatives

logger = logging.getLogger("trio_mcp.wire")

S = TypeVar("S", bound=Struct)

MAX_SHAPES: Final = 256
"""How many structs with members of their own are kept: servers have a few, and others are made again."""

_members_decoder: Final = msgspec.json.Decoder(dict[str, Raw])
_list_decoder: Final = msgspec.json.Decoder(list[Raw])


def read_faithfully(raw: Raw | bytes, kind: type[S], what: str) -> S:
    """Decode `raw` as the struct `kind`, or as a subclass of it that has all other members as well.

    A content block of an unknown type becomes a `Raw`. A member that cannot be read is left out, with a
    warning in which `what` names the message; raises one of `UNREADABLE` if it is an essential one.
    """
    known, tag_field = _known_members(kind)
    values: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, member in _members_decoder.decode(raw).items():
        field = known.get(name)
        if field is None:
            if name != tag_field:
                unknown[name] = msgspec.json.decode(member)
            continue
        try:
            values[field.name] = _read(member, field.type, what)
        except UNREADABLE as error:
            if field.required or name in ESSENTIAL:
                raise msgspec.ValidationError(f"{name} of {what}: {error}") from None
            logger.warning("%s of %s is left out: %s", name, what, error)
    missing = [field.encode_name for field in known.values() if field.required and field.name not in values]
    if missing:
        raise msgspec.ValidationError(f"{what} has no {missing[0]}")
    if not unknown:
        return kind(**values)
    for index, value in enumerate(unknown.values()):
        values[f"unknown_{index}"] = value
    return cast(S, _extend(kind, tuple(unknown))(**values))


@cache
def _known_members(kind: type[Struct]) -> tuple[Mapping[str, FieldInfo], str | None]:
    return {field.encode_name: field for field in fields(kind)}, kind.__struct_config__.tag_field


@lru_cache(maxsize=MAX_SHAPES)
def _extend(kind: type[Struct], names: tuple[str, ...]) -> type[Struct]:
    """The struct with further members of these names."""
    added = [(f"unknown_{index}", Any, msgspec.field(name=name)) for index, name in enumerate(names)]
    return msgspec.defstruct(kind.__name__, added, bases=(kind,), kw_only=True, module=__name__)


def _read(member: Raw, kind: Any, what: str) -> Any:
    """A member of the type `kind`; structs within it are read as `read_faithfully` does."""
    kinds = [one for one in alternatives(kind) if one is not type(None)]
    if len(kinds) < len(alternatives(kind)) and bytes(member) == b"null":
        return None
    if all(isinstance(one, type) and issubclass(one, Struct) for one in kinds):
        return _read_one(member, kinds, what)
    if len(kinds) == 1 and get_origin(kinds[0]) is list:
        (element,) = get_args(kinds[0])
        structs = alternatives(element)
        if all(isinstance(one, type) and issubclass(one, Struct) for one in structs):
            return [_read_one(item, structs, what) for item in _list_decoder.decode(member)]
    if Raw in kinds:
        return member.copy()  # a part of the message would keep all of it
    return msgspec.json.decode(member, type=Any if UnsetType in kinds else kind)


def _read_one(member: Raw, structs: list[Any], what: str) -> Any:
    tag_field = structs[0].__struct_config__.tag_field
    if len(structs) == 1:
        return read_faithfully(member, structs[0], what)
    assert tag_field is not None, "a union of structs is told apart by a tag"
    tag = msgspec.json.decode(_members_decoder.decode(member).get(tag_field, b"null"))
    for struct in structs:
        if struct.__struct_config__.tag == tag:
            return read_faithfully(member, struct, what)
    return member.copy()
