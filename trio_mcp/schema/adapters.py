"""Hints that pydantic reads: its models, its types, and what its metadata says of any other type.

Owns the stand-ins for them, whose schema, conversion and results are those of a `pydantic.TypeAdapter`.
Knows nothing of functions. It is imported when the first such hint is met, and so is pydantic.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec

from trio_mcp.schema.conversion import Conversion, StandIn, encode_custom
from trio_mcp.schema.problems import Problem, ProblemsError, UnsupportedAnnotationError, name_annotation
from trio_mcp.schema.references import PREFIX, rename_references

if TYPE_CHECKING:
    import pydantic

# A peer must not be able to make an answer much longer than its question.
_MOST_PROBLEMS: Final = 20
_LONGEST_MESSAGE: Final = 300
_OLDEST: Final = (2, 11)  # the first that can be told how to dump what it does not know
_DECIMAL_RULES: Final = frozenset({"max_digits", "decimal_places"})
_PREFIXES: Final = ("Value error, ", "Assertion failed, ")


class AdapterStandIn(StandIn):
    """Stands for `annotation`, which pydantic reads.

    As the hint of a result it accepts everything, because the value was checked when pydantic dumped it.
    """

    annotation: ClassVar[Any]
    adapter: ClassVar[pydantic.TypeAdapter[Any]]
    outgoing: ClassVar[bool] = False

    @classmethod
    def convert(cls, value: Any, conversion: Conversion) -> Any:
        if cls.outgoing:
            return value
        import pydantic

        try:
            # In JSON a text may be a date even for a model that is strict.
            return cls.adapter.validate_json(msgspec.json.encode(value))
        except pydantic.ValidationError as error:
            raise ProblemsError(list(_read_problems(error, value))) from None

    @classmethod
    def describe(cls, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return parts[0]


def stand_in_for_adapter(annotation: Any, *, outgoing: bool) -> type[AdapterStandIn]:
    """A stand-in for a hint that pydantic reads; raises UnsupportedAnnotationError if it cannot."""
    members = {"annotation": annotation, "adapter": _make_adapter(annotation), "outgoing": outgoing}
    name = re.sub(r"\W", "_", name_annotation(annotation))
    return type(name, (AdapterStandIn,), members)


def _make_adapter(annotation: Any) -> pydantic.TypeAdapter[Any]:
    try:
        import pydantic
    except ImportError:
        raise UnsupportedAnnotationError(
            f"{name_annotation(annotation)} has no JSON form without pydantic: install it"
        ) from None
    if tuple(map(int, pydantic.VERSION.split(".")[:2])) < _OLDEST:
        raise UnsupportedAnnotationError(f"{name_annotation(annotation)} needs pydantic 2.11 or newer")
    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
        if not adapter.pydantic_complete:
            adapter.rebuild()
    except (pydantic.errors.PydanticUserError, ImportError, TypeError, NameError) as error:
        raise _unreadable(annotation, error) from None
    return adapter


def _unreadable(annotation: Any, error: BaseException) -> UnsupportedAnnotationError:
    reason = str(error).partition("\n")[0].replace("`", "")[:_LONGEST_MESSAGE]
    return UnsupportedAnnotationError(f"pydantic cannot read {name_annotation(annotation)}: {reason}")


def describe_adapters(
    stand_ins: Sequence[type[AdapterStandIn]], taken: Collection[str]
) -> tuple[dict[type[StandIn], dict[str, Any]], dict[str, Any]]:
    """The schema of each stand-in, and the `$defs` that they refer to, none of them called as in `taken`."""
    import pydantic

    mode: Literal["serialization", "validation"]
    schemas: dict[Any, Any] = {}
    definitions: dict[str, Any] = {}
    try:
        mode = "serialization" if stand_ins[0].outgoing else "validation"
        schemas, whole = pydantic.TypeAdapter.json_schemas(
            [(stand_in, mode, stand_in.adapter) for stand_in in stand_ins], ref_template=PREFIX + "{model}"
        )
    except (pydantic.errors.PydanticUserError, TypeError) as error:
        raise _unreadable(stand_ins[0].annotation, error) from None
    for stand_in in stand_ins:
        for rule in _DECIMAL_RULES & schemas[stand_in, mode].keys():  # pydantic itself fails in each call
            raise UnsupportedAnnotationError(
                f"{name_annotation(stand_in.annotation)} cannot have {rule}, "
                "which is for Decimal; leave it out"
            )
    definitions = whole.get("$defs", {})
    renamed = {name: _free_name(name, {*taken, *definitions}) for name in definitions if name in taken}
    return (
        {stand_in: rename_references(schemas[stand_in, mode], renamed) for stand_in in stand_ins},
        {renamed.get(name, name): rename_references(found, renamed) for name, found in definitions.items()},
    )


def _free_name(name: str, taken: Collection[str]) -> str:
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def make_builder(annotation: Any) -> Callable[[Any], Any] | None:
    """A function from a returned value to builtins, by `annotation`; None if pydantic cannot read all of it.

    The function raises ValueError for a value that does not fit. What is no instance of a model but fits it,
    such as a dict, becomes one first.
    """
    try:
        adapter = _make_adapter(annotation)
    except UnsupportedAnnotationError:
        return None  # for example a msgspec.Struct with a model in a field: the model dumps itself

    def build(value: Any) -> Any:
        import pydantic

        try:
            checked = adapter.validate_python(value)
        except pydantic.ValidationError as error:
            raise ProblemsError(list(_read_problems(error, value))) from None
        return adapter.dump_python(
            checked, mode="json", by_alias=True, warnings=False, fallback=encode_custom
        )

    return build


def accepts(annotation: Any, value: Any) -> bool:
    """Whether a value is one of `annotation` as it is; False if pydantic cannot read all of it."""
    import pydantic

    try:
        found = _make_adapter(annotation).validate_python(value, strict=True)
    except (UnsupportedAnnotationError, pydantic.ValidationError):
        return False
    return bool(found == value)  # even a strict URL takes a text


def _read_problems(error: pydantic.ValidationError, value: Any) -> Sequence[Problem]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    problems = [_read_problem(one["type"], one["loc"], one["msg"], value) for one in found[:_MOST_PROBLEMS]]
    if len(found) > len(problems):
        problems.append(Problem((), f"and {len(found) - len(problems)} more"))
    return problems


def _read_problem(kind: str, place: Sequence[Any], message: str, value: Any) -> Problem:
    if kind == "missing":
        return Problem(_real_steps(place[:-1], value), f"missing required field {place[-1]!r}")
    if kind == "extra_forbidden":
        return Problem(_real_steps(place[:-1], value), f"unexpected field {str(place[-1])[:100]!r}")
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    if kind not in ("value_error", "assertion_error"):
        message = message[:1].lower() + message[1:]
    if len(message) > _LONGEST_MESSAGE:  # it may quote the value
        message = message[:_LONGEST_MESSAGE] + "..."
    return Problem(_real_steps(place, value), message)


def _real_steps(place: Sequence[Any], value: Any) -> tuple[Any, ...]:
    """The steps that lead somewhere in `value`; pydantic also names the members of unions that it tried."""
    steps: list[Any] = []
    for step in place:
        try:
            value = value[step] if isinstance(value, (Mapping, list, tuple)) else getattr(value, str(step))
        except (LookupError, TypeError, AttributeError):
            continue
        steps.append(step)
    return tuple(steps)
