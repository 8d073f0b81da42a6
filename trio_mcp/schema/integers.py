"""Whole numbers that are written with a point or an exponent, such as `3.0` and `1e3`.

JSON Schema counts them as integers, and some clients write them. Owns their conversion to int, which is
tried only after the strict conversion has failed. Refuses numbers with a fraction, and to coerce
anything else.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from trio_mcp.schema.conversion import Conversion
from trio_mcp.schema.problems import UnsupportedAnnotationError
from trio_mcp.schema.rewriter import AnnotationRewriter

# From here on a float does not hold every integer, so that its digits are read again.
_EXACT: Final = 2.0**53


def decode_numbers(text: msgspec.Raw | bytes) -> tuple[Any, dict[int, int]]:
    """The JSON value in `text`, and the exact values of its floats that are whole, by their id.

    Raises ValueError and RecursionError, as `msgspec.json.decode` does.
    """
    whole: dict[int, int] = {}

    def read(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError(f"the number {digits[:20]} is out of range")
        if number.is_integer():
            if 0 < abs(number) < _EXACT:
                whole[id(number)] = int(number)
            else:
                exact = decimal.Decimal(digits)
                if exact == int(exact):
                    whole[id(number)] = int(exact)
        return number

    return msgspec.json.Decoder(float_hook=read).decode(text), whole


def find_whole(value: Any) -> dict[int, int]:
    """The whole floats within a decoded JSON value, by their id."""
    whole: dict[int, int] = {}
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item.values()
        elif isinstance(item, list):
            pending += item
        elif isinstance(item, float) and item.is_integer():
            whole[id(item)] = int(item)
    return whole


class WholeNumbers(msgspec.Struct):
    """Conversion to `annotation` that takes whole floats for integers; prepared when it is first needed."""

    annotation: Any
    _form: Any = None

    def converter(self, whole: Mapping[int, int]) -> Callable[[Any], Any] | None:
        """A function that converts values, or None if this differs in nothing from the strict conversion.

        `whole` has the whole floats of the values. The function raises ValueError, TypeError and
        RecursionError.
        """
        if not whole:
            return None
        if self._form is None:
            try:
                rewriter = AnnotationRewriter(whole_numbers=True)
                form = rewriter.rewrite(self.annotation)
                rewriter.prepare([form])
            except (UnsupportedAnnotationError, RecursionError):
                form = Ellipsis
            self._form = form
        if self._form is Ellipsis:
            return None
        return lambda value: Conversion(whole).convert(value, self._form)


def convert_numbers(value: Any, strict: Callable[[Any], Any], numbers: WholeNumbers) -> Any:
    """`strict(value)`, or else what `numbers` make of a value that has whole floats.

    Raises ValueError, TypeError and RecursionError.
    """
    try:
        return strict(value)
    except (ValueError, TypeError):
        tolerant = numbers.converter(find_whole(value))
        if tolerant is None:
            raise
    return tolerant(value)
