"""Classes with named fields, read alike: dataclass, attrs, Struct, TypedDict, NamedTuple.

Owns the reading of their fields and the shadow, a msgspec Struct with the same
JSON form but rewritten annotations. Knows nothing of how they are rewritten.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NotRequired, Required, TypeVar

import attrs
import msgspec
from msgspec.structs import replace

from trio_mcp.schema.conversion import Conversion, StandIn
from trio_mcp.schema.problems import UnsupportedAnnotationError

_QUALIFIERS = {Required, NotRequired, Final, getattr(typing, "ReadOnly", Final)}
_SCALARS = (type(None), bool, int, float, str, enum.Enum)


class RecordField(msgspec.Struct, frozen=True):
    """A field of a record: `name` is the constructor's argument, `key` the JSON name."""

    name: str
    key: str
    annotation: Any
    required: bool
    default: Any = msgspec.UNSET


class Record(msgspec.Struct, frozen=True):
    """What a class with fields looks like in JSON. `options` are msgspec's for a Struct."""

    origin: type
    name: str
    fields: tuple[RecordField, ...]
    options: dict[str, Any] = {}
    # msgspec sets attrs fields without running their converters.
    needs_constructor: bool = False

    def without_private(self) -> Record:
        """The record without the names that begin with an underscore, which msgspec does not write."""
        return replace(self, fields=tuple(f for f in self.fields if not f.key.startswith("_")))


def read_record(annotation: Any) -> Record | None:
    """The record of a class or of a parametrised generic class, or None if it has no fields."""
    origin = typing.get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return None
    reader = _find_reader(origin)
    return reader(annotation, origin) if reader is not None else None


def is_typed_dict(cls: type) -> bool:
    """Whether a class is a TypedDict, of typing or of typing_extensions, which `typing` does not know."""
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def _find_reader(origin: type) -> Callable[[Any, type], Record] | None:
    if is_typed_dict(origin):
        return _read_typed_dict
    if issubclass(origin, tuple) and hasattr(origin, "_fields"):
        return _read_named_tuple
    if issubclass(origin, msgspec.Struct):
        return _read_struct
    if attrs.has(origin):
        return _read_attrs
    return _read_dataclass if dataclasses.is_dataclass(origin) else None


def _record_name(annotation: Any, origin: type) -> str:
    args = typing.get_args(annotation)
    name = f"{origin.__name__}[{', '.join(getattr(a, '__name__', repr(a)) for a in args)}]"
    return re.sub(r"\W", "_", name) if args else origin.__name__


def _read_struct(annotation: Any, origin: Any) -> Record:
    config = origin.__struct_config__
    found = read_annotations(annotation, origin)
    fields = tuple(
        RecordField(f.name, f.encode_name, found.get(f.name, f.type), f.required, _shown_default(f.default))
        for f in msgspec.structs.fields(origin)
    )
    options: dict[str, Any] = {
        "array_like": config.array_like,
        "forbid_unknown_fields": config.forbid_unknown_fields,
    }
    if config.tag is not None:
        options |= {"tag": config.tag, "tag_field": config.tag_field}
    return Record(origin, _record_name(annotation, origin), fields, options)


def _read_attrs(annotation: Any, origin: Any) -> Record:
    found = read_annotations(annotation, origin)
    known = [f for f in attrs.fields(origin) if f.init]
    fields = tuple(
        RecordField(
            f.alias or f.name,
            f.name,
            found.get(f.name, Any),
            f.default is attrs.NOTHING,
            _shown_default(f.default),
        )
        for f in known
    )
    constructor = any(f.converter is not None for f in known)
    return Record(origin, _record_name(annotation, origin), fields, needs_constructor=constructor)


def _read_dataclass(annotation: Any, origin: Any) -> Record:
    found = read_annotations(annotation, origin)
    missing = dataclasses.MISSING
    fields = tuple(
        RecordField(
            f.name,
            f.name,
            found.get(f.name, Any),
            f.default is missing and f.default_factory is missing,
            _shown_default(f.default),
        )
        for f in dataclasses.fields(origin)
        if f.init
    )
    return Record(origin, _record_name(annotation, origin), fields)


def _read_named_tuple(annotation: Any, origin: Any) -> Record:
    found = read_annotations(annotation, origin)
    defaults = origin._field_defaults
    fields = tuple(
        RecordField(
            name,
            name,
            found.get(name, Any),
            name not in defaults,
            _shown_default(defaults.get(name, msgspec.UNSET)),
        )
        for name in origin._fields
    )
    options = {"array_like": True, "forbid_unknown_fields": True}  # a tuple has no further items
    return Record(origin, _record_name(annotation, origin), fields, options)


def _read_typed_dict(annotation: Any, origin: Any) -> Record:
    fields = []
    read_only = getattr(sys.modules.get("typing_extensions"), "ReadOnly", Final)
    for name, inner in read_annotations(annotation, origin).items():
        required = name in origin.__required_keys__
        while typing.get_origin(inner) in (*_QUALIFIERS, read_only):
            # With string annotations, Python 3.11 itself reads these qualifiers too late.
            required = {Required: True, NotRequired: False}.get(typing.get_origin(inner), required)
            inner = typing.get_args(inner)[0]
        fields.append(RecordField(name, name, inner, required))
    return Record(origin, _record_name(annotation, origin), tuple(fields))


def _shown_default(default: Any) -> Any:
    return default if isinstance(default, _SCALARS) else msgspec.UNSET


def read_annotations(annotation: Any, origin: Any) -> dict[str, Any]:
    """The resolved annotations of a class, with the type parameters of `annotation` filled in."""
    try:
        found = typing.get_type_hints(origin, include_extras=True)
    except NameError:
        found = _read_local_annotations(origin)
    parameters = _type_arguments(annotation, origin)
    return {name: fill_type_parameters(inner, parameters) for name, inner in found.items()}


def _read_local_annotations(origin: Any) -> dict[str, Any]:
    """With the names of the functions around the class, as long as they run."""
    from trio_mcp.schema.local_names import find_local_names  # hardly any server needs it

    module = sys.modules.get(origin.__module__)
    names = {} if module is None else find_local_names(origin, vars(module))
    try:
        return typing.get_type_hints(origin, localns=names, include_extras=True)
    except NameError as error:
        raise UnsupportedAnnotationError(
            f"an annotation of {origin.__name__} cannot be resolved: {error}"
        ) from error


def has_local_annotations(origin: Any) -> bool:
    """Whether only the function around a class knows what its annotations name, so that msgspec does not."""
    if "<locals>" not in origin.__qualname__:
        return False
    try:
        typing.get_type_hints(origin)
    except NameError:
        return True
    return False


def _type_arguments(annotation: Any, origin: Any) -> dict[Any, Any]:
    """What each type parameter stands for, in `origin` and in its generic bases."""
    arguments = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(annotation), strict=False))
    for base in getattr(origin, "__orig_bases__", ()):
        base_origin = typing.get_origin(base)
        if isinstance(base_origin, type) and base_origin is not typing.Generic:
            arguments |= _type_arguments(fill_type_parameters(base, arguments), base_origin)
    return arguments


def fill_type_parameters(annotation: Any, arguments: dict[Any, Any]) -> Any:
    """`annotation` with its type parameters replaced, as far as they are known."""
    if isinstance(annotation, TypeVar):
        return arguments.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type):
        return annotation
    return annotation[tuple(arguments.get(p, p) for p in parameters)]


class RecordStandIn(StandIn):
    """Stands for a class with fields: its shadow is converted, then the class is called."""

    record: ClassVar[Record]
    shadow: ClassVar[type[msgspec.Struct]]
    # False for results: they are only checked, so that the code of their class does not run again.
    builds: ClassVar[bool] = True

    @classmethod
    def convert(cls, value: Any, conversion: Conversion) -> Any:
        shadow = conversion.convert(value, cls.shadow)
        if not cls.builds:
            return shadow
        values = zip(cls.record.fields, shadow.__struct_fields__, strict=True)
        given = {field.name: getattr(shadow, name) for field, name in values}
        return cls.record.origin(**{n: v for n, v in given.items() if v is not msgspec.UNSET})

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return parts[0]


def stand_in_for_record(record: Record, *, builds: bool) -> type[RecordStandIn]:
    """A stand-in without its shadow: fields may refer to it before they are all rewritten."""
    return type(record.name, (RecordStandIn,), {"record": record, "builds": builds})


def make_shadow(record: Record, annotations: Sequence[Any], *, show_defaults: bool) -> type[msgspec.Struct]:
    """A Struct with the JSON form of `record`, its fields annotated with `annotations`.

    A field that is left out is UNSET, so that the class's own default applies,
    unless defaults are to be shown in a schema.
    """
    fields: list[Any] = []
    for number, (field, annotation) in enumerate(zip(record.fields, annotations, strict=True)):
        options: dict[str, Any] = {"name": field.key}
        if not field.required:
            options["default"] = field.default if show_defaults else msgspec.UNSET
        # JSON names need not be identifiers, so the fields are numbered.
        fields.append((f"f{number}", annotation, msgspec.field(**options)))
    array_like = bool(record.options.get("array_like"))
    shadow = msgspec.defstruct(
        record.name,
        fields,
        module=record.origin.__module__,
        namespace={"__doc__": _own_docstring(record.origin)},
        kw_only=not array_like,
        **record.options,
    )
    shadow.__qualname__ = record.origin.__qualname__
    return shadow


def _own_docstring(origin: type) -> str | None:
    text = origin.__doc__
    # Without a docstring, dataclass and NamedTuple put the signature there.
    return None if text is None or text.startswith(f"{origin.__name__}(") else text
