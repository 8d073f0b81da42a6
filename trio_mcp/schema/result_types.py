"""Values from JSON as a type that a caller asks for: the result of a tool, what `ctx.once` remembers.

Owns the conversion to types that msgspec alone refuses: unions of classes, models of pydantic, and others
that arguments may have. Refuses to know who asks.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from trio_mcp.schema.conversion import convert
from trio_mcp.schema.integers import WholeNumbers, convert_numbers
from trio_mcp.schema.problems import UnsupportedAnnotationError, find_problem
from trio_mcp.schema.rewriter import AnnotationRewriter


def decode_result(text: msgspec.Raw, result_type: Any) -> Any:
    """The JSON value in `text` as `result_type`; raises ValueError, which names the path, and TypeError."""
    try:
        return msgspec.json.decode(text, type=result_type)
    except (msgspec.ValidationError, TypeError):
        return convert_result(msgspec.json.decode(text), result_type)


def convert_result(value: Any, result_type: Any) -> Any:
    """`value` (from JSON) as `result_type`; raises ValueError, which names the path, and TypeError."""
    try:
        hash(result_type)
    except TypeError:  # an `Annotated` whose metadata has no hash
        form, numbers = _read_type(result_type)
    else:
        form, numbers = _read_known_type(result_type)
    strict = functools.partial(convert, annotation=form)
    try:
        return convert_numbers(value, strict, numbers)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(find_problem(value, strict, error).describe()) from None


@functools.lru_cache(maxsize=256)  # a program asks for few types, and often
def _read_known_type(result_type: Any) -> tuple[Any, WholeNumbers]:
    return _read_type(result_type)


def _read_type(result_type: Any) -> tuple[Any, WholeNumbers]:
    rewriter = AnnotationRewriter()
    try:
        form = rewriter.rewrite(result_type)
        rewriter.prepare([form])
    except UnsupportedAnnotationError as error:
        raise TypeError(str(error)) from None
    return form, WholeNumbers(result_type)
