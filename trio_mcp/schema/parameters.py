"""The parameters of a tool: their schema, and the conversion of arguments from JSON.

Owns the order of checks and the messages for bad arguments. Knows nothing of
calls or results.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Union

import msgspec
from msgspec.structs import replace

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.conversion import convert, decode_custom, json_name
from trio_mcp.schema.defaults import fits, is_shown, read_field, with_null
from trio_mcp.schema.description import (
    ARGUMENT_STAND_INS,
    describe_annotations,
    describe_default,
)
from trio_mcp.schema.docstrings import read_docstring
from trio_mcp.schema.integers import WholeNumbers, decode_numbers
from trio_mcp.schema.problems import UnsupportedAnnotationError, find_problem, name_annotation, read_problem
from trio_mcp.schema.references import with_definitions
from trio_mcp.schema.rewriter import AnnotationRewriter
from trio_mcp.schema.signatures import Parameter, Subject, read_function_parameters, tool_subject
from trio_mcp.wire.value_count import has_too_many_values

# A peer must not be able to make an answer much longer than its question.
_MOST_PROBLEMS = 20
_NOT_TEXT = "got str"


class Parameters(msgspec.Struct, frozen=True, eq=False):
    """The parameters of one tool.

    `schema` is the schema of the arguments object; `context_name` the parameter
    that receives the Context, if there is one.
    """

    schema: dict[str, Any]
    context_name: str | None
    _annotations: Mapping[str, Any]
    _required: frozenset[str]
    _decoder: msgspec.json.Decoder[Any] | _AliasDecoder
    # What Python itself would not pass for a parameter that is left out.
    _make_defaults: Mapping[str, Callable[[], Any]]
    _numbers: Mapping[str, WholeNumbers]

    def convert(self, arguments: msgspec.Raw | bytes | None) -> dict[str, Any]:
        """The keyword arguments, without the context and without those that are not given.

        `arguments` is the JSON text of an object, or None for no arguments.
        Raises ArgumentError, which lists every problem.
        """
        text = b"{}" if arguments is None else arguments
        try:
            given = self._decoder.decode(text)
        except RecursionError:
            raise ArgumentError("the arguments are nested too deeply") from None
        except (ValueError, TypeError) as error:
            values = self._convert_each(text, error)
        else:
            values = {
                name: value
                for name in self._annotations
                if (value := getattr(given, name)) is not msgspec.UNSET
            }
        for name, make in self._make_defaults.items():
            if name not in values:
                values[name] = make()
        return values

    def convert_texts(self, texts: Mapping[str, Any], max_values: int) -> dict[str, Any]:
        """As `convert`, for arguments whose values are texts.

        A text that the parameter's type takes as it is stays a text. Every other is the JSON text of
        the value, which has `max_values` values at most.
        """
        chosen: dict[str, Any] = {}
        unread = []
        for name, text in texts.items():
            chosen[name] = text
            if isinstance(text, str) and name in self._annotations:
                problem = _find_refusal(text, self._annotations[name])
                if problem is None:
                    continue
                if len(text) > max_values and has_too_many_values(text.encode(), max_values):
                    raise ArgumentError(f"{name}: it has more than {max_values} values")
                try:
                    value = msgspec.json.decode(text)
                except (ValueError, RecursionError):
                    if problem.endswith(_NOT_TEXT):
                        unread.append(name)
                    continue
                # If neither fits, the problem of the value says more, unless a text is expected.
                if problem.endswith(_NOT_TEXT) or _find_refusal(value, self._annotations[name]) is None:
                    chosen[name] = msgspec.Raw(text.encode())
        try:
            return self.convert(msgspec.json.encode(chosen))
        except ArgumentError as error:
            if not unread:
                raise
            names = ", ".join(map(repr, unread[:_MOST_PROBLEMS]))
            raise ArgumentError(f"{error}; {names} must be JSON text, such as 5, true or [1, 2]") from None

    @property
    def lists(self) -> frozenset[str]:
        """The parameters that take a list, and no text."""
        found = set()
        for name, schema in self.schema["properties"].items():
            types = [branch.get("type") for branch in schema.get("anyOf", [schema])]
            if "array" in types and "string" not in types:
                found.add(name)
        return frozenset(found)

    def convert_uri_values(self, texts: Mapping[str, str | Sequence[str]]) -> dict[str, Any]:
        """The keyword arguments from texts, such as the parts of a URI, or lists of texts.

        A text that is no value of its parameter counts as the number or bool that it spells. Raises
        ArgumentError, which lists every problem.
        """
        given = {name: self._read_text(text, self._annotations[name]) for name, text in texts.items()}
        return self.convert(msgspec.json.encode(given))

    def _read_text(self, text: str | Sequence[str], annotation: Any) -> Any:
        spelled = _read_scalar(text) if isinstance(text, str) else [_read_scalar(item) for item in text]
        try:
            convert(text, annotation)
        except (ValueError, TypeError, RecursionError):
            return spelled
        return text

    def _convert_each(self, text: msgspec.Raw | bytes, error: Exception) -> dict[str, Any]:
        """Convert the arguments one by one, and whole floats to integers; raises ArgumentError."""
        values: dict[str, Any] = {}
        problems = list(self._problems(text, values))
        if not problems and not values:
            problems = [str(error)]
        if problems:
            shown = problems[:_MOST_PROBLEMS]
            if len(problems) > len(shown):
                shown.append(f"and {len(problems) - len(shown)} more")
            raise ArgumentError("; ".join(shown)) from None
        return values

    def _problems(self, text: msgspec.Raw | bytes, values: dict[str, Any]) -> Iterator[str]:
        """What is wrong with the arguments; puts those with which nothing is wrong into `values`."""
        try:
            given, whole = decode_numbers(text)
        except RecursionError:
            yield "the arguments are nested too deeply"
            return
        except ValueError as error:
            yield f"the arguments are not valid JSON: {error}"
            return
        if not isinstance(given, dict):
            yield f"the arguments must be an object, got {json_name(given)}"
            return
        for name in self._annotations:
            if name in self._required and name not in given:
                yield f"missing required argument {name!r}"
        for name, value in given.items():
            if name not in self._annotations:
                yield f"unexpected argument {name!r}"
                continue
            strict = functools.partial(convert, annotation=self._annotations[name])
            try:
                values[name] = strict(value)
            except (ValueError, TypeError, RecursionError) as error:
                tolerant = self._numbers[name].converter(whole)
                if tolerant is None:
                    yield find_problem(value, strict, error).describe(name)
                    continue
                try:
                    values[name] = tolerant(value)
                except (ValueError, TypeError, RecursionError) as second:
                    yield find_problem(value, tolerant, second).describe(name)


class AliasedParameters(Parameters, frozen=True, eq=False):
    """Parameters of which some have another name for clients than in the function.

    Everything but the keyword arguments speaks of them by the name for clients; `_targets` has the other.
    """

    _targets: Mapping[str, str]

    def convert(self, arguments: msgspec.Raw | bytes | None) -> dict[str, Any]:
        return {
            self._targets.get(name, name): value
            for name, value in Parameters.convert(self, arguments).items()
        }


class _AliasDecoder:
    """Decodes as `decoder` does; the fields have their names in JSON, which need not be identifiers."""

    def __init__(self, decoder: msgspec.json.Decoder[Any], names: Mapping[str, str]) -> None:
        self._decoder = decoder
        self._names = names

    def decode(self, text: msgspec.Raw | bytes) -> types.SimpleNamespace:
        given = self._decoder.decode(text)
        return types.SimpleNamespace(**{key: getattr(given, name) for key, name in self._names.items()})


def _read_scalar(text: str) -> Any:
    """The number or bool that `text` spells in JSON, or else `text`."""
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (bool, int, float)) else text


def read_parameters(
    function: Callable[..., Any],
    context_type: type,
    subject: Subject | None = None,
    *,
    dereference: bool = False,
    refuse_unknown: bool = True,
) -> Parameters:
    """The parameters of a function, method, partial or callable object.

    `subject` is what the function is to become, by default a tool of its name. With `dereference`, the
    schema has no `$defs` but those that refer to themselves; with `refuse_unknown`, objects in `Annotated`
    that have no effect are refused. Raises the DefinitionError of `subject`, which
    names it and the parameter.
    """
    subject = subject or tool_subject(function)
    found = read_function_parameters(function, {context_type.__name__: context_type}, subject)
    contexts = [p.name for p in found if is_context(p.annotation, context_type)]
    if len(contexts) > 1:
        raise subject.error(f"{subject.text} has several context parameters: {', '.join(contexts)}")
    parameters = [_read_default(p, subject) for p in found if p.name not in contexts]
    for parameter in parameters:
        _check_parameter_name(parameter, subject)
    targets = {p.name: p.target for p in parameters if p.target is not None}
    if targets:
        _check_aliases(parameters, subject)
    rewriter = AnnotationRewriter(refuse_unknown=refuse_unknown)
    annotations = {p.name: _rewrite_annotation(p, rewriter, subject) for p in parameters}
    required = frozenset(p.name for p in parameters if p.required)
    made = Parameters(
        schema=with_definitions(
            *_schema(parameters, annotations, read_docstring(function).parameters, subject),
            dereference=dereference,
        ),
        context_name=contexts[0] if contexts else None,
        _annotations=annotations,
        _required=required,
        _decoder=_decoder(annotations, required),
        _numbers={p.name: WholeNumbers(p.annotation) for p in parameters},
        _make_defaults={p.name: p.make_default for p in parameters if p.make_default is not None},
    )
    return AliasedParameters(**msgspec.structs.asdict(made), _targets=targets) if targets else made


def _read_default(parameter: Parameter, subject: Subject) -> Parameter:
    """The parameter with what its default says; raises DefinitionError for one of another type."""
    part = f"parameter {parameter.name!r}"
    try:
        parameter = read_field(parameter)
    except UnsupportedAnnotationError as error:
        raise subject.flaw(str(error), part) from None
    if parameter.required:
        return parameter
    parameter = replace(parameter, annotation=with_null(parameter.annotation, parameter.default))
    if not fits(parameter.default, parameter.annotation):
        raise subject.flaw(
            f"the default {parameter.default!r} is no {name_annotation(parameter.annotation)}, "
            "and the function would receive it as it is; give a default of that type, or none",
            part,
        )
    return parameter


def _check_parameter_name(parameter: Parameter, subject: Subject) -> None:
    if parameter.name.startswith("__"):
        raise subject.flaw(
            "the name of an argument must not begin with two underscores; "
            f"call it {parameter.name.strip('_') or 'value'!r}",
            f"parameter {parameter.name!r}",
        )


def _check_aliases(parameters: Sequence[Parameter], subject: Subject) -> None:
    names = [p.name for p in parameters]
    for parameter in parameters:
        if parameter.target is not None and names.count(parameter.name) > 1:
            raise subject.flaw(
                f"its alias {parameter.name!r} is the name of another parameter",
                f"parameter {parameter.target!r}",
            )


def _rewrite_annotation(parameter: Parameter, rewriter: AnnotationRewriter, subject: Subject) -> Any:
    try:
        annotation = rewriter.rewrite(parameter.annotation)
        rewriter.prepare([annotation])
    except (UnsupportedAnnotationError, RecursionError) as error:
        raise subject.flaw(str(error), f"parameter {parameter.own_name!r}") from error
    return annotation


def _find_refusal(value: Any, annotation: Any) -> str | None:
    """Why `value` is none of this annotation, or None."""
    try:
        convert(value, annotation)
    except (ValueError, TypeError, RecursionError) as error:
        return read_problem(error).message
    return None


def _decoder(
    annotations: Mapping[str, Any], required: frozenset[str]
) -> msgspec.json.Decoder[Any] | _AliasDecoder:
    named = all(map(str.isidentifier, annotations))
    names = {key: key if named else f"f{number}" for number, key in enumerate(annotations)}
    fields = [
        (names[key], annotation) if key in required else (names[key], annotation, msgspec.UNSET)
        for key, annotation in annotations.items()
    ]
    arguments = msgspec.defstruct(
        "Arguments",
        fields,
        kw_only=True,
        forbid_unknown_fields=True,
        rename=None if named else {name: key for key, name in names.items()},
    )
    decoder = msgspec.json.Decoder(arguments, dec_hook=decode_custom)
    return decoder if named else _AliasDecoder(decoder, names)


def _describe_default(parameter: Parameter, annotation: Any) -> dict[str, Any]:
    """`{"default": ...}`, or nothing if a caller could not pass that value."""
    described = describe_default(parameter.default)
    try:
        sent = convert(described.get("default"), annotation)
    except (ValueError, TypeError):
        return {}
    return described if is_shown(parameter.default, sent) else {}


def _schema(
    parameters: Sequence[Parameter],
    given: Mapping[str, Any],
    descriptions: Mapping[str, str],
    subject: Subject,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of the arguments, and the definitions that it refers to."""
    rewriter = AnnotationRewriter(describing=True, substitutes=ARGUMENT_STAND_INS)
    try:
        annotations = [rewriter.rewrite(parameter.annotation) for parameter in parameters]
        schemas, definitions = describe_annotations(annotations, rewriter)
    except UnsupportedAnnotationError as error:
        raise subject.flaw(str(error), _find_undescribed(parameters)) from error
    properties = {}
    for parameter, schema in zip(parameters, schemas, strict=True):
        if parameter.own_name in descriptions:
            schema.setdefault("description", descriptions[parameter.own_name])
        if not parameter.required:
            schema |= _describe_default(parameter, given[parameter.name])
        properties[parameter.name] = schema
    whole: dict[str, Any] = {"type": "object", "properties": properties}
    required = [parameter.name for parameter in parameters if parameter.required]
    if required:
        whole["required"] = required
    whole["additionalProperties"] = False
    return whole, definitions


def _find_undescribed(parameters: Sequence[Parameter]) -> str:
    """The first parameter that alone cannot be described; empty if each can."""
    for parameter in parameters:
        rewriter = AnnotationRewriter(describing=True, substitutes=ARGUMENT_STAND_INS)
        try:
            describe_annotations([rewriter.rewrite(parameter.annotation)], rewriter)
        except UnsupportedAnnotationError:
            return f"parameter {parameter.own_name!r}"
    return ""


def is_context(annotation: Any, context_type: type) -> bool:
    """Whether a parameter with this annotation receives the context."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return is_context(args[0], context_type)
    if origin in (Union, types.UnionType):
        return all(arg is type(None) or is_context(arg, context_type) for arg in args)
    candidate = origin or annotation
    return isinstance(candidate, type) and issubclass(candidate, context_type)
