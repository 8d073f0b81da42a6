"""Rewrites annotations into ones that msgspec accepts.

Owns the rules: unions that msgspec refuses, and classes that hold them, become stand-ins, and so does what
pydantic has to read; constraints of other packages become `msgspec.Meta`; a type without a JSON form, and
metadata without effect, are refused by name. Knows nothing of functions or values.
"""

from __future__ import annotations

import collections.abc
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NewType, TypeVar

import msgspec
from msgspec import inspect as msgspec_inspect

from trio_mcp.schema.annotation_checks import (
    CONTAINERS,
    MAPPINGS,
    SETS,
    SYNONYMS,
    UNIONS,
    are_same,
    check,
    check_key,
    is_hashable,
    is_integer,
    takes_floats,
    union_of,
)
from trio_mcp.schema.constraints import (
    check_known,
    find_predicates,
    read_metadata,
    split_constraints,
    split_metadata,
    unpack_groups,
)
from trio_mcp.schema.conversion import PATHS, IntegerStandIn, StandIn
from trio_mcp.schema.fields import (
    has_hooks,
    is_field,
    is_metadata,
    is_model,
    needs_pydantic,
    read_field_options,
)
from trio_mcp.schema.nullable import with_null
from trio_mcp.schema.problems import UnseenMetadataError, UnsupportedAnnotationError, name_annotation
from trio_mcp.schema.records import (
    Record,
    has_local_annotations,
    make_shadow,
    read_record,
    stand_in_for_record,
)
from trio_mcp.schema.unions import UnionStandIn, stand_in_for_union, union_converter

if TYPE_CHECKING:
    from trio_mcp.schema.adapters import AdapterStandIn


class AnnotationRewriter:
    """Rewrites the annotations of one signature; `stand_ins` has all that it has made so far.

    With `describing`, the result is for a schema only: plain strings in
    `Annotated` become descriptions and `substitutes` are put in. With
    `outgoing`, conversion only checks and builds no objects. With `whole_numbers`, stand-ins take the
    place of integers. With `refuse_unknown`, objects in `Annotated` that have no effect are refused; with
    `beside_pydantic` so are those that pydantic would not see, which is to read the annotation as a whole.
    """

    def __init__(
        self,
        *,
        outgoing: bool = False,
        describing: bool = False,
        substitutes: Mapping[Any, type[StandIn]] | None = None,
        whole_numbers: bool = False,
        refuse_unknown: bool = False,
        beside_pydantic: bool = False,
    ) -> None:
        self.stand_ins: list[type[StandIn]] = []
        self.adapters: list[type[AdapterStandIn]] = []
        self._outgoing = outgoing
        self._describing = describing
        self._substitutes = substitutes or {}
        self._whole_numbers = whole_numbers
        self._refuse_unknown = refuse_unknown
        self._beside_pydantic = beside_pydantic
        # Each class that was met, and what takes its place: itself or a stand-in.
        self._records: dict[Any, Any] = {}
        # The classes that are being tried by `_needs_rewriting`; empty while it is not at work.
        self._trying: set[Any] = set()

    def rewrite(self, annotation: Any) -> Any:
        """`annotation` itself if msgspec supports all of it, else its replacement.

        Raises UnsupportedAnnotationError for a type without a JSON form.
        """
        if self._whole_numbers and is_integer(annotation):
            strict = AnnotationRewriter().rewrite(annotation)
            return type("int", (IntegerStandIn,), {"strict": strict})
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return self._rewrite_annotated(annotation, args[0], annotation.__metadata__)
        if origin in UNIONS:
            return self._rewrite_union(annotation, args)
        if origin is Literal:
            return check(annotation)
        if origin is Final:
            return self._rewrite_inner(annotation, args[0])
        if isinstance(annotation, NewType):
            return self._rewrite_inner(annotation, annotation.__supertype__)
        if isinstance(annotation, TypeVar):
            return self._rewrite_type_variable(annotation)
        if hasattr(annotation, "__value__"):  # a type alias of Python 3.12
            value = annotation.__value__
            return self.rewrite(value[args] if args else value)
        if is_model(annotation):
            return self._adapt(annotation)
        record = read_record(annotation)
        if record is not None:
            return self._rewrite_record(annotation, record)
        if args or annotation == tuple[()]:
            return self._rewrite_container(annotation, origin, args)
        return self._rewrite_leaf(annotation)

    def _rewrite_inner(self, annotation: Any, inner: Any) -> Any:
        rewritten = self.rewrite(inner)
        return annotation if rewritten is inner else rewritten

    def _rewrite_leaf(self, annotation: Any) -> Any:
        try:
            hash(annotation)
        except TypeError:
            raise UnsupportedAnnotationError(f"{annotation!r} is not a type") from None
        if annotation in self._substitutes:
            return self._substitutes[annotation]
        if annotation in SYNONYMS:
            return SYNONYMS[annotation]
        if annotation in PATHS:
            return annotation
        try:
            return check(annotation)
        except UnsupportedAnnotationError:
            found = self._rewrite_library(annotation)
            if found is not None:
                return found
            if not has_hooks(annotation):
                raise
        return self._adapt(annotation)

    def _rewrite_library(self, annotation: Any) -> Any:
        """The stand-in for a type of a library; None if it is not known."""
        from trio_mcp.schema.python_types import read_library_type  # most servers have none

        found = read_library_type(annotation, outgoing=self._outgoing)
        if found is None or self._trying:
            return None if found is None else StandIn
        from trio_mcp.schema.library_types import stand_in_for_library

        made = stand_in_for_library(annotation, found, self.rewrite(found.form), builds=not self._outgoing)
        self.stand_ins.append(made)
        return made

    def _adapt(self, annotation: Any) -> Any:
        """The stand-in for an annotation that pydantic reads."""
        if self._trying or self._beside_pydantic:
            return StandIn
        from trio_mcp.schema.adapters import stand_in_for_adapter  # most servers have none

        for stand_in in self.adapters:
            if stand_in.annotation is annotation:
                return stand_in
        made = stand_in_for_adapter(annotation, outgoing=self._outgoing)
        self.stand_ins.append(made)
        self.adapters.append(made)
        return made

    def _rewrite_type_variable(self, annotation: TypeVar) -> Any:
        if annotation.__constraints__:
            return self.rewrite(union_of(annotation.__constraints__))
        if annotation.__bound__ is None:
            return annotation
        return self._rewrite_inner(annotation, annotation.__bound__)

    def _rewrite_container(self, annotation: Any, origin: Any, args: tuple[Any, ...]) -> Any:
        if origin is collections.abc.Iterable:
            return list[self.rewrite(args[0])]  # type: ignore[misc]
        if origin not in CONTAINERS:
            found = self._rewrite_library(annotation)
            if found is not None:
                return found
            raise UnsupportedAnnotationError(f"{name_annotation(annotation)} has no JSON form")
        if origin in MAPPINGS:
            # The metadata of a key counts as any other.
            key = self.rewrite(args[0]) if typing.get_origin(args[0]) is Annotated else args[0]
            check_key(key)
            rewritten: tuple[Any, ...] = (key, self.rewrite(args[1]))
        else:
            rewritten = tuple(arg if arg is ... else self.rewrite(arg) for arg in args)
        if origin in SETS and not is_hashable(args[0]):
            raise UnsupportedAnnotationError(
                f"{name_annotation(annotation)} is impossible: {name_annotation(args[0])} is not hashable"
            )
        return annotation if are_same(rewritten, args) else origin[rewritten]

    def _rewrite_union(self, annotation: Any, args: tuple[Any, ...]) -> Any:
        # Beside a float, a whole float is no integer.
        exact = self._whole_numbers and any(map(takes_floats, args))
        members = tuple(arg if exact and is_integer(arg) else self.rewrite(arg) for arg in args)
        try:
            candidate = annotation if are_same(members, args) else union_of(members)
            msgspec.json.Decoder(candidate)
        except TypeError:
            if self._trying:
                return StandIn
            args, members = self._join_adapters(args, members)
            if len(members) == 1:
                return members[0]
            stand_in = stand_in_for_union(args, members)
            self.stand_ins.append(stand_in)
            return stand_in
        return candidate

    def _join_adapters(
        self, args: tuple[Any, ...], members: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The members with those that pydantic reads as one of them, among which it chooses the best."""
        adapted = [arg for arg, member in zip(args, members, strict=True) if member in self.adapters]
        if len(adapted) < 2:
            return args, members
        if all(arg is type(None) or arg in adapted for arg in args):
            adapted = list(args)
        joined = union_of(adapted)
        rest = [(a, m) for a, m in zip(args, members, strict=True) if a not in adapted]
        first = next(n for n, arg in enumerate(args) if arg in adapted)
        rest.insert(first, (joined, self._adapt(joined)))
        return tuple(arg for arg, _ in rest), tuple(member for _, member in rest)

    def _rewrite_annotated(self, annotation: Any, inner: Any, metadata: tuple[Any, ...]) -> Any:
        metadata = unpack_groups(metadata)
        if self._beside_pydantic:
            self._read_ours(metadata)
            return self.rewrite(inner)
        if self._refuse_unknown:
            check_known(metadata)
        if any(map(needs_pydantic, metadata)):
            return self._adapt_annotated(inner, metadata)
        try:
            return self._rewrite_predicates(annotation, inner, metadata)
        except UnsupportedAnnotationError:
            # For example a bound of a type of pydantic, or of a union that holds one.
            if self._trying or not any(item is not None and is_metadata(item) for item in metadata):
                raise
        return self._adapt_annotated(inner, metadata)

    def _adapt_annotated(self, inner: Any, metadata: tuple[Any, ...]) -> Any:
        """As pydantic reads it; raises UnsupportedAnnotationError for rules that it would not see."""
        for item in metadata:
            if is_field(item):
                read_field_options(item)  # refuses what has no meaning here
        options = self._read_ours(metadata)
        if not self._trying:
            self._refuse_unseen(inner)
        others = split_metadata(metadata)[1]
        stand_in = self._adapt(Annotated[(inner, *others)])
        return Annotated[stand_in, msgspec.Meta(**options)] if options else stand_in

    def _read_ours(self, metadata: tuple[Any, ...]) -> dict[str, Any]:
        """What describes a value beside pydantic's metadata; raises UnseenMetadataError for constraints."""
        ours, _ = split_metadata(metadata)
        options, _ = read_metadata(ours, describing=self._describing)
        unseen = split_constraints(options)[0]
        if unseen:
            raise UnseenMetadataError(
                f"{next(iter(unseen))} is not seen by pydantic, which reads the other metadata: "
                "give it in a Field"
            )
        return options

    def _refuse_unseen(self, annotation: Any) -> None:
        """Raise UnseenMetadataError for a constraint anywhere in what pydantic is to read as a whole."""
        try:
            AnnotationRewriter(beside_pydantic=True).rewrite(annotation)
        except UnseenMetadataError:
            raise
        except UnsupportedAnnotationError:
            pass  # pydantic may know it all the same

    def _rewrite_predicates(self, annotation: Any, inner: Any, metadata: tuple[Any, ...]) -> Any:
        described = self._rewrite_described(annotation, inner, metadata)
        predicates = find_predicates(metadata)
        if not predicates:
            return described
        if self._trying:
            return StandIn
        from trio_mcp.schema.predicates import stand_in_for_predicates  # hardly any server has one

        made = stand_in_for_predicates(described, predicates)
        self.stand_ins.append(made)
        return made

    def _rewrite_described(self, annotation: Any, inner: Any, metadata: tuple[Any, ...]) -> Any:
        options, foreign = read_metadata(metadata, describing=self._describing)
        target = inner
        if typing.get_origin(inner) in UNIONS:
            target, options = self._distribute_constraints(inner, options)
        # A time zone constraint says more than a substitute could.
        rewritten = target if "tz" in options else self.rewrite(target)
        if not options:
            return annotation if rewritten is inner else rewritten
        if rewritten is inner and not foreign:
            result = annotation
        else:
            try:
                result = Annotated[rewritten, msgspec.Meta(**options)]
            except (TypeError, ValueError) as error:
                raise UnsupportedAnnotationError(str(error).replace("`", "")) from None
        return check(result) if split_constraints(options)[0] else result

    def _distribute_constraints(self, union: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The union with its constraints moved to the members that can have them, and the other options."""
        constraints, rest = split_constraints(options)
        if not constraints:
            return union, options
        members = list(typing.get_args(union))
        for name, value in constraints.items():
            able = [n for n, member in enumerate(members) if self._accepts(member, {name: value})]
            if not able:
                raise UnsupportedAnnotationError(
                    f"no member of {name_annotation(union)} can have {name}={value!r}"
                )
            for n in able:
                members[n] = Annotated[members[n], msgspec.Meta(**{name: value})]
        return union_of(members), rest

    def _accepts(self, member: Any, constraint: dict[str, Any]) -> bool:
        try:
            plain = AnnotationRewriter() if self._whole_numbers else self
            msgspec_inspect.type_info(Annotated[plain.rewrite(member), msgspec.Meta(**constraint)])
        except (TypeError, ValueError):
            return False
        return True

    def _rewrite_record(self, annotation: Any, record: Record) -> Any:
        if annotation in self._records:
            return self._records[annotation]
        if annotation in self._trying:
            return annotation
        shown = record.without_private() if self._outgoing else record
        if not self._needs_rewriting(annotation, record, shown):
            return annotation
        if self._trying:
            return StandIn
        stand_in = stand_in_for_record(shown, builds=not self._outgoing)
        self._records[annotation] = stand_in
        self.stand_ins.append(stand_in)
        annotations = [
            self._rewrite_field(shown, field.name, with_null(field.annotation, field.default))
            for field in shown.fields
        ]
        stand_in.shadow = make_shadow(shown, annotations, show_defaults=self._describing)
        stand_in.parts = (stand_in.shadow,)
        return stand_in

    def _needs_rewriting(self, annotation: Any, record: Record, shown: Record) -> bool:
        """Whether a class, or any class that it refers to, needs rewriting.

        The outermost call tries all of them. A class that is met again while it is
        being tried counts as unchanged, because a class may refer to itself.
        """
        first = not self._trying
        self._trying.add(annotation)
        try:
            changed = shown != record or (record.needs_constructor and not self._outgoing)
            changed = changed or has_local_annotations(record.origin)  # of which msgspec knows nothing
            for field in shown.fields:
                wanted = with_null(field.annotation, field.default)
                if self._rewrite_field(shown, field.name, wanted) is not field.annotation:
                    changed = True
            if first and not changed:
                self._records.update((seen, seen) for seen in self._trying)
        finally:
            if first:
                self._trying.clear()
        return changed

    def _rewrite_field(self, record: Record, name: str, annotation: Any) -> Any:
        try:
            return self.rewrite(annotation)
        except UnsupportedAnnotationError as error:
            if self._trying:
                # The only reason may be that a class around this field is not rewritten yet.
                return StandIn
            raise type(error)(f"field {name!r} of {record.name}: {error}") from None

    def prepare(self, annotations: Sequence[Any]) -> None:
        """Let msgspec read all of `annotations` and the stand-ins; raises UnsupportedAnnotationError.

        So what msgspec refuses fails here and not in a call, and the first call builds nothing.
        """
        parts = [part for stand_in in self.stand_ins for part in stand_in.parts]
        for annotation in (*annotations, *parts):
            try:
                msgspec.json.Decoder(annotation)
            except (TypeError, NameError) as error:
                raise UnsupportedAnnotationError(str(error)) from None
        if any(issubclass(stand_in, UnionStandIn) for stand_in in self.stand_ins):
            union_converter()
