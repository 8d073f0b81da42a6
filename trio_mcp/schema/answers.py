"""A form that a client is asked to fill in (MCP elicitation), and the typed value of its answer.

Owns the rule that a form is a flat object of primitive values ("Requested Schema"), and what of a type it
can express. Refuses to know who asks.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.conversion import convert
from trio_mcp.schema.description import (
    ARGUMENT_STAND_INS,
    describe_annotations,
    describe_default,
    object_schema,
)
from trio_mcp.schema.integers import WholeNumbers, convert_numbers
from trio_mcp.schema.problems import UnsupportedAnnotationError, find_problem, name_annotation
from trio_mcp.schema.references import with_definitions
from trio_mcp.schema.rewriter import AnnotationRewriter

_TEXTS: Final = ("title", "description", "default")
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength", "pattern", "format", "enum", "enumNames", "oneOf"),
    "number": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
    "boolean": (),
    "array": ("minItems", "maxItems", "items"),
}
"""What a form can say of a value of each type, beside `_TEXTS`."""

_RULES: Final = frozenset(
    {"allOf", "const", "contentEncoding", "exclusiveMaximum", "exclusiveMinimum", "multipleOf", "not"}
)
"""What would limit a value, and has no place in a form."""

_FORMATS: Final = ("email", "uri", "date", "date-time")
_VALUE: Final = "value"
"""The name of the only field if a single value is asked for."""


@attrs.frozen(eq=False)
class AnswerForm:
    """A form; its `schema` is sent to the client.

    `wrapped` says that it asks for a single value, `optional` names the fields that may be left out and are
    None then, and `choices` are the values of fields whose type allows more than the form does.
    """

    schema: dict[str, Any]
    _annotation: Any
    _numbers: WholeNumbers | None
    _wrapped: bool = False
    _optional: tuple[str, ...] = ()
    _choices: Mapping[str, Sequence[str]] = attrs.field(factory=dict)

    def convert(self, content: Any) -> Any:
        """The typed value of a filled-in form; raises ArgumentError, naming the path of the problem."""
        if content is None:
            content = {}  # a form without fields, or one of defaults that were accepted as they are
        if self._numbers is None:
            return None
        if isinstance(content, Mapping):
            self._check_choices(content)
            content = {**dict.fromkeys(self._optional), **content}
        try:
            value = convert_numbers(
                content, functools.partial(convert, annotation=self._annotation), self._numbers
            )
        except (ValueError, TypeError, RecursionError) as error:
            problem = find_problem(content, functools.partial(convert, annotation=self._annotation), error)
            raise ArgumentError(f"the client's answer does not fit: {problem.describe()}") from None
        return value.value if self._wrapped else value

    def _check_choices(self, content: Mapping[str, Any]) -> None:
        for name, choices in self._choices.items():
            given = content.get(name)
            for value in given if isinstance(given, list) else [given]:
                if isinstance(value, str) and value not in choices:
                    raise ArgumentError(
                        f"the client's answer does not fit: {name}: expected one of "
                        f"{', '.join(map(repr, choices))}, not {value!r}"
                    )


def read_answer_form(annotation: Any) -> AnswerForm:
    """The form that asks for a value of the type `annotation`; raises TypeError if it cannot be one.

    Of a class it has the fields; of any other type it has one field, "value". None is a form without fields.
    """
    try:
        hash(annotation)
    except TypeError:  # an `Annotated` whose metadata has no hash
        return _read_form(annotation)
    return _read_known_form(annotation)


@functools.lru_cache(maxsize=256)  # a program has few forms, and asks for each of them often
def _read_known_form(annotation: Any) -> AnswerForm:
    return _read_form(annotation)


def _read_form(annotation: Any) -> AnswerForm:
    if annotation is None or annotation is type(None):
        return AnswerForm({"type": "object", "properties": {}}, None, None)
    try:
        return _read_fields(annotation)
    except UnsupportedAnnotationError as error:
        raise TypeError(f"a client cannot be asked for {name_annotation(annotation)}: {error}") from None


def _read_fields(annotation: Any) -> AnswerForm:
    whole, definitions = _describe(annotation)
    wrapped = whole is None
    if whole is None:
        annotation = msgspec.defstruct("Answer", [(_VALUE, annotation)])
        whole, definitions = _describe(annotation)
    if whole is None or "properties" not in whole:
        raise UnsupportedAnnotationError("a form is a class with fields")
    made = _make_lists(annotation, whole["properties"])
    fields = {
        name: _read_field(name, {**made.get(name, {}), **value}, definitions)
        for name, value in whole["properties"].items()
    }
    required = [name for name in whole.get("required", ()) if not fields[name].is_nullable]
    optional = [name for name in whole.get("required", ()) if fields[name].is_nullable]
    converter = AnnotationRewriter()
    form = converter.rewrite(annotation)
    converter.prepare([form])
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: field.schema for name, field in fields.items()},
    }
    if required:
        schema["required"] = required
    choices = {name: field.choices for name, field in fields.items() if field.choices}
    return AnswerForm(schema, form, WholeNumbers(annotation), wrapped, tuple(optional), choices)


def _describe(annotation: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The schema of `annotation` if it is that of an object, and the definitions that it refers to."""
    rewriter = AnnotationRewriter(describing=True, substitutes=ARGUMENT_STAND_INS)
    (schema,), definitions = describe_annotations([rewriter.rewrite(annotation)], rewriter)
    return object_schema(schema, definitions), definitions


def _make_lists(annotation: Any, properties: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The defaults of lists, which a class makes anew each time, by the name of the field in JSON.

    What is made for any other field, such as an id or a date, is another one the next time, so a form does
    not show it.
    """
    origin = typing.get_origin(annotation) or annotation
    makers: dict[str, Callable[[], Any]] = {}
    if dataclasses.is_dataclass(origin):
        fields = dataclasses.fields(origin)
        makers = {f.name: f.default_factory for f in fields if f.default_factory is not dataclasses.MISSING}
    elif isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        members = msgspec.structs.fields(origin)
        makers = {f.encode_name: f.default_factory for f in members if callable(f.default_factory)}
    elif isinstance(origin, type) and attrs.has(origin):
        makers = {
            f.name: f.default.factory
            for f in attrs.fields(origin)
            if f.init and isinstance(f.default, attrs.Factory) and not f.default.takes_self  # type: ignore[arg-type]  # attrs types Factory as a function
        }
    return {
        name: describe_default(make()) for name, make in makers.items() if _is_list(properties.get(name, {}))
    }


def _is_list(schema: Mapping[str, Any]) -> bool:
    return any(option.get("type") == "array" for option in (schema, *schema.get("anyOf", ())))


@attrs.frozen
class _Field:
    schema: dict[str, Any]
    is_nullable: bool = False
    choices: Sequence[str] = ()


def _read_field(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> _Field:
    schema = with_definitions(dict(schema), definitions, dereference=True)
    schema, is_nullable = _without_null(schema)
    kind = schema.get("type")
    if kind == "array" and isinstance(schema.get("items"), dict):
        items = schema["items"]
        if items.get("type") == "string" and not items.keys().isdisjoint({"enum", "anyOf", "oneOf"}):
            chosen, choices = _read_choices(name, items)
            # A list says "anyOf" for what a single choice calls "oneOf".
            chosen = {"anyOf" if key == "oneOf" else key: value for key, value in chosen.items()}
            item = {key: chosen[key] for key in ("type", "title", "enum", "anyOf") if key in chosen}
            return _Field(_reduce(name, kind, {**schema, "items": item}), is_nullable, choices)
    if not isinstance(kind, str) or kind not in _MEMBERS or kind == "array":
        raise UnsupportedAnnotationError(
            f"field {name!r} must be text, a number, a bool, an enum or a list of an enum"
        )
    schema, choices = _read_choices(name, schema)
    return _Field(_reduce(name, kind, schema), is_nullable, choices)


def _without_null(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema of the values but null, and whether null is one; integers or numbers are numbers."""
    options = schema.get("anyOf")
    if not isinstance(options, list) or any("const" in option for option in options):
        return schema, False
    others = [option for option in options if option.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if rest.get("default", ...) is None:
        del rest["default"]
    if {option.get("type") for option in others} == {"integer", "number"} and all(
        len(option) == 1 for option in others
    ):
        others = [{"type": "number"}]
    if len(others) != 1:
        return schema, False  # refused as a field that has no type
    return {**others[0], **rest}, len(others) < len(options)


def _read_choices(name: str, schema: dict[str, Any]) -> tuple[dict[str, Any], Sequence[str]]:
    """The schema with its choices said in one way, and those choices if the type itself allows more."""
    values = schema.get("enum")
    titled = schema.get("oneOf") or schema.get("anyOf")
    for value in values or ():
        if not isinstance(value, str):
            raise UnsupportedAnnotationError(f"field {name!r}: the choices of a form are text, not {value!r}")
    if not titled:
        return schema, ()
    titles = {option["const"]: option.get("title", option["const"]) for option in titled}
    if values is None:
        chosen = list(titles)
    else:
        unknown = [value for value in titles if value not in values]
        if unknown:
            raise UnsupportedAnnotationError(
                f"field {name!r} has a title for {unknown[0]!r}, which is no choice"
            )
        chosen = [*titles, *(value for value in values if value not in titles)]
    options = [{"const": value, "title": titles.get(value, value)} for value in chosen]
    rest = {key: value for key, value in schema.items() if key not in ("enum", "anyOf", "oneOf")}
    return {**rest, "oneOf": options}, tuple(chosen) if values is None else ()


def _reduce(name: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What a form can say of a field; raises UnsupportedAnnotationError for a rule that it cannot say."""
    schema = _include_bounds(schema) if kind == "integer" else schema
    for rule in sorted(_RULES & schema.keys()):
        raise UnsupportedAnnotationError(f"field {name!r}: a form has no {rule!r}")
    if schema.get("format", _FORMATS[0]) not in _FORMATS:
        raise UnsupportedAnnotationError(
            f"field {name!r}: a form has the formats {', '.join(_FORMATS)}, not {schema['format']!r}"
        )
    known = ("type", *_TEXTS, *_MEMBERS[kind])
    return {key: value for key, value in schema.items() if key in known}


def _include_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    """An integer larger than 0 is at least 1."""
    bounds = dict(schema)
    lowest, highest = bounds.pop("exclusiveMinimum", None), bounds.pop("exclusiveMaximum", None)
    if lowest is not None:
        bounds["minimum"] = max(math.floor(lowest) + 1, bounds.get("minimum", -math.inf))
    if highest is not None:
        bounds["maximum"] = min(math.ceil(highest) - 1, bounds.get("maximum", math.inf))
    return bounds
