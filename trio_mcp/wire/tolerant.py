"""Reading a struct of a peer that does not keep to its schema, as far as it can be read.

Owns one rule: null is absent for optional members, a bad element of a list is left out, and so is an optional
member that is unreadable, unless the answer would mean something else without it. Each is named in a warning.
It is used only for what the strict decoder has refused, and never for what is sent.
"""

from __future__ import annotations

import logging
import types
from typing import Any, Final, Union, get_args, get_origin

import msgspec
from msgspec import Raw, Struct, UnsetType
from msgspec.structs import fields

logger = logging.getLogger("trio_mcp.wire")

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises for bytes that it cannot read as the type that it was given."""

ESSENTIAL: Final = frozenset(
    {
        "isError",
        "nextCursor",
        "cursor",
        "resultType",
        "inputRequests",
        "inputResponses",
        "requestState",
        "arguments",
        "content",
        "task",
        "ttl",
        "taskIds",
        "_meta",
    }
)
"""Optional members without which a message says something else."""

_members_decoder: Final = msgspec.json.Decoder(dict[str, Raw])
_list_decoder: Final = msgspec.json.Decoder(list[Raw])


def read_tolerantly(raw: Raw | bytes, kind: Any, what: str) -> Any:
    """Decode `raw` as the struct or union of structs `kind`; `what` names it in warnings.

    Raises one of `UNREADABLE` if an essential member is missing or cannot be read.
    """
    members = _members_decoder.decode(raw)
    struct = _choose(kind, members)
    values: dict[str, Any] = {}
    for field in fields(struct):
        member = members.get(field.encode_name)
        if member is None or (bytes(member) == b"null" and not field.required):
            continue
        try:
            values[field.name] = _read(member, field.type, f"{field.encode_name} of {what}")
        except UNREADABLE as error:
            if field.required or field.encode_name in ESSENTIAL:
                raise msgspec.ValidationError(f"{field.encode_name} of {what}: {error}") from None
            logger.warning("%s of %s is left out: %s", field.encode_name, what, error)
    missing = [field.encode_name for field in fields(struct) if field.required and field.name not in values]
    if missing:
        raise msgspec.ValidationError(f"{what} has no {missing[0]}")
    return struct(**values)


def _read(member: Raw, kind: Any, what: str) -> Any:
    kinds = alternatives(kind)
    plain = Union[tuple(kinds)] if kinds else Any  # noqa: UP007  # built from a tuple
    try:
        return msgspec.json.decode(member, type=plain)
    except UNREADABLE:
        structs = [one for one in kinds if isinstance(one, type) and issubclass(one, Struct)]
        if structs:
            return read_tolerantly(member, structs, what)
        for one in kinds:
            if get_origin(one) is list and _is_structured(get_args(one)[0]):
                return _read_list(member, get_args(one)[0], what)
        raise


def _read_list(member: Raw, kind: Any, what: str) -> list[Any]:
    elements = []
    for index, element in enumerate(_list_decoder.decode(member)):
        name = _name_of(element)
        label = f"{name} in {what}" if name else f"element {index} in {what}"
        try:
            elements.append(_read(element, kind, label))
        except UNREADABLE as error:
            logger.warning("%s is left out: %s", label, error)
    return elements


def _name_of(element: Raw) -> str:
    """How an element calls itself, as it is shown in a warning."""
    try:
        name = msgspec.json.decode(element, type=dict[str, Any]).get("name")
    except UNREADABLE:
        return ""
    return repr(name) if isinstance(name, str) else ""


def alternatives(kind: Any) -> list[Any]:
    """The members of a union, or the type itself; without the one that stands for an absent member."""
    if get_origin(kind) in (Union, types.UnionType):
        return [one for one in get_args(kind) if one is not UnsetType]
    return [kind]


def _is_structured(kind: Any) -> bool:
    return all(isinstance(one, type) and issubclass(one, Struct) for one in alternatives(kind))


def _choose(kind: Any, members: dict[str, Raw]) -> type[Struct]:
    """The struct that the tag of a message chooses."""
    structs: list[type[Struct]] = kind if isinstance(kind, list) else alternatives(kind)
    if len(structs) == 1:
        return structs[0]
    tag_field = structs[0].__struct_config__.tag_field
    assert tag_field is not None, "a union of structs is told apart by a tag"
    tag = msgspec.json.decode(members.get(tag_field, b"null"))
    for struct in structs:
        if struct.__struct_config__.tag == tag:
            return struct
    raise msgspec.ValidationError(f"the unknown {tag_field} {tag!r}")
