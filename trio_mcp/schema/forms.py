"""Annotations in a form that msgspec takes.

Owns the rewriting of annotations: refused unions and the classes that hold them
become stand-ins, constraints of other packages become `msgspec.Meta`, and what
has no JSON form is refused by name. Knows nothing of functions or values.
"""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union

import msgspec
from msgspec import inspect as msgspec_inspect

from trio_mcp.schema.constraints import read_metadata, split_constraints
from trio_mcp.schema.conversion import PATHS, StandIn
from trio_mcp.schema.problems import UnsupportedFormError, name_form
from trio_mcp.schema.records import Record, make_shadow, read_record, stand_in_for_record
from trio_mcp.schema.unions import UnionStandIn, stand_in_for_union, union_converter

_UNIONS = (Union, UnionType)
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_CONTAINERS = (
    list,
    tuple,
    collections.abc.Collection,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    *_SETS,
    *_MAPPINGS,
)
_SYNONYMS: Mapping[Any, Any] = {
    object: Any,
    typing.LiteralString: str,
    typing.Iterable: list,
    collections.abc.Iterable: list,
}
# What msgspec can read from, and write to, the name of a JSON member.
_KEY_TYPES = (
    msgspec_inspect.AnyType,
    msgspec_inspect.StrType,
    msgspec_inspect.IntType,
    msgspec_inspect.FloatType,
    msgspec_inspect.EnumType,
    msgspec_inspect.LiteralType,
    msgspec_inspect.DateTimeType,
    msgspec_inspect.DateType,
    msgspec_inspect.TimeType,
    msgspec_inspect.TimeDeltaType,
    msgspec_inspect.UUIDType,
    msgspec_inspect.DecimalType,
    msgspec_inspect.BytesType,
)


class FormRewriter:
    """Rewrites the annotations of one signature; `stand_ins` grows as it goes.

    With `describing`, the result is for a schema only: plain strings in
    `Annotated` become descriptions and `substitutes` are put in. With
    `outgoing`, conversion only checks and builds no objects.
    """

    def __init__(
        self,
        *,
        outgoing: bool = False,
        describing: bool = False,
        substitutes: Mapping[Any, type[StandIn]] | None = None,
    ) -> None:
        self.stand_ins: list[type[StandIn]] = []
        self._outgoing = outgoing
        self._describing = describing
        self._substitutes = substitutes or {}
        self._records: dict[Any, Any] = {}
        self._trial: set[Any] = set()

    def rewrite(self, form: Any) -> Any:
        """`form` itself if msgspec does all that it asks for, else what takes its place.

        Raises UnsupportedFormError for what has no JSON form.
        """
        origin, args = typing.get_origin(form), typing.get_args(form)
        if origin is Annotated:
            return self._annotated(form, args[0], form.__metadata__)
        if origin in _UNIONS:
            return self._union(form, args)
        if origin is Literal:
            return _checked(form)
        if origin is Final:
            return self._same_or(form, args[0])
        if isinstance(form, NewType):
            return self._same_or(form, form.__supertype__)
        if isinstance(form, TypeVar):
            return self._type_variable(form)
        if hasattr(form, "__value__"):  # a type alias of Python 3.12
            value = form.__value__
            return self.rewrite(value[args] if args else value)
        record = read_record(form)
        if record is not None:
            return self._record(form, record)
        if args or form == tuple[()]:
            return self._container(form, origin, args)
        return self._leaf(form)

    def _same_or(self, form: Any, inner: Any) -> Any:
        rewritten = self.rewrite(inner)
        return form if rewritten is inner else rewritten

    def _leaf(self, form: Any) -> Any:
        try:
            hash(form)
        except TypeError:
            raise UnsupportedFormError(f"{form!r} is not a type") from None
        if form in self._substitutes:
            return self._substitutes[form]
        if form in _SYNONYMS:
            return _SYNONYMS[form]
        return form if form in PATHS else _checked(form)

    def _type_variable(self, form: TypeVar) -> Any:
        if form.__constraints__:
            return self.rewrite(_union_of(form.__constraints__))
        return form if form.__bound__ is None else self._same_or(form, form.__bound__)

    def _container(self, form: Any, origin: Any, args: tuple[Any, ...]) -> Any:
        if origin is collections.abc.Iterable:
            return list[self.rewrite(args[0])]  # type: ignore[misc]
        if origin not in _CONTAINERS:
            raise UnsupportedFormError(f"{name_form(form)} has no JSON form")
        if origin in _MAPPINGS:
            _check_key(args[0])
            rewritten: tuple[Any, ...] = (args[0], self.rewrite(args[1]))
        else:
            rewritten = tuple(arg if arg is ... else self.rewrite(arg) for arg in args)
        if origin in _SETS and not _is_hashable(args[0]):
            raise UnsupportedFormError(
                f"{name_form(form)} is impossible: {name_form(args[0])} is not hashable"
            )
        return form if _same(rewritten, args) else origin[rewritten]

    def _union(self, form: Any, args: tuple[Any, ...]) -> Any:
        members = tuple(self.rewrite(arg) for arg in args)
        try:
            candidate = form if _same(members, args) else _union_of(members)
            msgspec.json.Decoder(candidate)
        except TypeError:
            if self._trial:
                return StandIn
            stand_in = stand_in_for_union(args, members)
            self.stand_ins.append(stand_in)
            return stand_in
        return candidate

    def _annotated(self, form: Any, inner: Any, metadata: tuple[Any, ...]) -> Any:
        options, foreign = read_metadata(metadata, describing=self._describing)
        target = inner
        if typing.get_origin(inner) in _UNIONS:
            target, options = self._distributed(inner, options)
        # A time zone constraint says more than a substitute could.
        rewritten = target if "tz" in options else self.rewrite(target)
        if not options:
            return form if rewritten is inner else rewritten
        if rewritten is inner and not foreign:
            result = form
        else:
            try:
                result = Annotated[rewritten, msgspec.Meta(**options)]
            except (TypeError, ValueError) as error:
                raise UnsupportedFormError(str(error).replace("`", "")) from None
        return _checked(result) if split_constraints(options)[0] else result

    def _distributed(self, union: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Constraints of a union, given to those of its members that can have them."""
        constraints, rest = split_constraints(options)
        if not constraints:
            return union, options
        members = list(typing.get_args(union))
        for name, value in constraints.items():
            able = [n for n, member in enumerate(members) if self._takes(member, {name: value})]
            if not able:
                raise UnsupportedFormError(f"no member of {name_form(union)} can have {name}={value!r}")
            for n in able:
                members[n] = Annotated[members[n], msgspec.Meta(**{name: value})]
        return _union_of(members), rest

    def _takes(self, member: Any, constraint: dict[str, Any]) -> bool:
        try:
            msgspec_inspect.type_info(Annotated[self.rewrite(member), msgspec.Meta(**constraint)])
        except (TypeError, ValueError):
            return False
        return True

    def _record(self, form: Any, record: Record) -> Any:
        if form in self._records:
            return self._records[form]
        if form in self._trial:
            return form
        shown = record.without_private() if self._outgoing else record
        if not self._must_change(form, record, shown):
            return form
        if self._trial:
            return StandIn
        stand_in = stand_in_for_record(shown, builds=not self._outgoing)
        self._records[form] = stand_in
        self.stand_ins.append(stand_in)
        forms = [self._field(shown, field.name, field.annotation) for field in shown.fields]
        stand_in.shadow = make_shadow(shown, forms, show_defaults=self._describing)
        stand_in.parts = (stand_in.shadow,)
        return stand_in

    def _must_change(self, form: Any, record: Record, shown: Record) -> bool:
        """Whether anything that can be reached from a class needs rewriting.

        The first class on the way tries all the others, which count as
        unchanged when met again: a class may refer to itself.
        """
        first = not self._trial
        self._trial.add(form)
        try:
            changed = shown != record or (record.needs_constructor and not self._outgoing)
            for field in shown.fields:
                if self._field(shown, field.name, field.annotation) is not field.annotation:
                    changed = True
            if first and not changed:
                self._records.update((seen, seen) for seen in self._trial)
        finally:
            if first:
                self._trial.clear()
        return changed

    def _field(self, record: Record, name: str, annotation: Any) -> Any:
        try:
            return self.rewrite(annotation)
        except UnsupportedFormError as error:
            if self._trial:
                # It may be only because a class on the way is not rewritten yet.
                return StandIn
            raise UnsupportedFormError(f"field {name!r} of {record.name}: {error}") from None

    def prepare(self, forms: Sequence[Any]) -> None:
        """Let msgspec read all of `forms` and the stand-ins; raises UnsupportedFormError.

        What it refuses, it refuses now, and the first call finds everything made.
        """
        parts = [part for stand_in in self.stand_ins for part in stand_in.parts]
        for form in (*forms, *parts):
            try:
                msgspec.json.Decoder(form)
            except (TypeError, NameError) as error:
                raise UnsupportedFormError(str(error)) from None
        if any(issubclass(stand_in, UnionStandIn) for stand_in in self.stand_ins):
            union_converter()


def _union_of(members: Sequence[Any]) -> Any:
    return Union[tuple(members)]  # noqa: UP007 - the members are known at run time only


def _same(rewritten: tuple[Any, ...], args: tuple[Any, ...]) -> bool:
    return all(new is old for new, old in zip(rewritten, args, strict=True))


def _checked(form: Any) -> Any:
    """`form`, if msgspec has a JSON form for it without our help."""
    try:
        info = msgspec_inspect.type_info(form)
    except (TypeError, NameError) as error:
        raise UnsupportedFormError(str(error).replace("`", "")) from None
    while isinstance(info, msgspec_inspect.Metadata):
        info = info.type
    unknown = isinstance(info, msgspec_inspect.CustomType) and not (
        info.cls in PATHS or issubclass(info.cls, StandIn)
    )
    if unknown or isinstance(info, msgspec_inspect.ExtType):
        raise UnsupportedFormError(f"{name_form(form)} has no JSON form")
    return form


def _check_key(form: Any) -> None:
    try:
        info = msgspec_inspect.type_info(form)
    except TypeError as error:
        raise UnsupportedFormError(f"{name_form(form)} cannot be a key in JSON: {error}") from None
    kinds = info.types if isinstance(info, msgspec_inspect.UnionType) else (info,)
    kinds = tuple(k.type if isinstance(k, msgspec_inspect.Metadata) else k for k in kinds)
    if not all(isinstance(kind, _KEY_TYPES) for kind in kinds):
        raise UnsupportedFormError(f"{name_form(form)} cannot be a key in JSON")


def _is_hashable(form: Any) -> bool:
    origin, args = typing.get_origin(form), typing.get_args(form)
    if origin in _UNIONS or origin is tuple:
        return all(_is_hashable(arg) for arg in args)
    if origin is Annotated:
        return _is_hashable(args[0])
    cls = origin or form
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        return bool(cls.__struct_config__.frozen)
    return getattr(cls, "__hash__", None) is not None
