"""A form that a client is asked to fill in (MCP elicitation), and the typed value of its answer.

Owns the rule that a form is a flat object of primitive values ("Requested Schema"). Refuses to
know who asks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import attrs

from trio_mcp.errors import ArgumentError
from trio_mcp.schema.conversion import convert
from trio_mcp.schema.description import describe_annotations, object_schema
from trio_mcp.schema.integers import WholeNumbers, convert_numbers
from trio_mcp.schema.problems import UnsupportedAnnotationError, find_problem, name_annotation
from trio_mcp.schema.references import with_definitions
from trio_mcp.schema.rewriter import AnnotationRewriter

_PRIMITIVES: Final = frozenset({"string", "number", "integer", "boolean"})


@attrs.frozen(eq=False)
class AnswerForm:
    """A form; its `schema` is sent to the client."""

    schema: dict[str, Any]
    _annotation: Any
    _numbers: WholeNumbers

    def convert(self, content: Any) -> Any:
        """The typed value of a filled-in form; raises ArgumentError, naming the path of the problem."""
        try:
            return convert_numbers(
                content, functools.partial(convert, annotation=self._annotation), self._numbers
            )
        except (ValueError, TypeError, RecursionError) as error:
            problem = find_problem(content, functools.partial(convert, annotation=self._annotation), error)
            raise ArgumentError(f"the client's answer does not fit: {problem.describe()}") from None


@functools.lru_cache(maxsize=256)  # a program has few forms, and asks for each of them often
def read_answer_form(annotation: Any) -> AnswerForm:
    """The form that asks for a value of the class `annotation`; raises TypeError if it cannot be one."""
    try:
        rewriter = AnnotationRewriter(describing=True)
        (schema,), definitions = describe_annotations([rewriter.rewrite(annotation)], rewriter)
        whole = object_schema(schema, definitions)
        if whole is None or "properties" not in whole:
            raise UnsupportedAnnotationError("a form is a class with fields")
        properties = {
            name: _property(name, value, definitions) for name, value in whole["properties"].items()
        }
        converter = AnnotationRewriter()
        form = converter.rewrite(annotation)
        converter.prepare([form])
    except UnsupportedAnnotationError as error:
        raise TypeError(f"a client cannot be asked for {name_annotation(annotation)}: {error}") from None
    required = {"required": whole["required"]} if whole.get("required") else {}
    return AnswerForm(
        {"type": "object", "properties": properties, **required}, form, WholeNumbers(annotation)
    )


def _property(name: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    schema = with_definitions(dict(schema), definitions, dereference=True)
    if schema.get("type") in _PRIMITIVES:
        return dict(schema)
    if schema.get("type") == "array" and "items" in schema:
        items = _property(name, schema["items"], definitions)
        if items.get("type") == "string" and ("enum" in items or "anyOf" in items):
            return {**schema, "items": items}
    raise UnsupportedAnnotationError(
        f"field {name!r} must be text, a number, a bool, an enum or a list of an enum"
    )
