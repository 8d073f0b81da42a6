"""What a tool's docstring says: a description, and a line for each parameter.

Owns the recognition of Google, NumPy and reST sections. The parsing of
parameters is docstring_parser's; knows nothing of schemas.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from trio_mcp.schema.signatures import documented_objects

_SECTION_NAMES = (
    r"(?:Args|Arguments|Params|Parameters|Keyword Args|Keyword Arguments|Other Parameters|"
    r"Returns?|Yields?|Raises|Except|Exceptions)"
)
# `re` compiles these when a tool with a docstring first needs them.
_GOOGLE: Final = rf"{_SECTION_NAMES}:[ \t]*"
_NUMPY: Final = rf"{_SECTION_NAMES}[ \t]*"
_UNDERLINE: Final = r"-{3,}[ \t]*"
_REST: Final = (
    r":(?:param|parameter|arg|argument|key|keyword|type|returns?|rtype|yields?|raises?|except"
    r"|exception)\b[^:]*:"
)


class Docs(Struct, frozen=True):
    """`description` without the sections on parameters, results and errors."""

    description: str | None
    parameters: Mapping[str, str]


def read_docstring(function: Callable[..., Any]) -> Docs:
    """The docstring of a function, method, partial or callable object; never fails."""
    text = next(filter(None, map(_docstring, documented_objects(function))), None)
    if text is None:
        return Docs(None, {})
    kept = _without_sections(text.splitlines())
    description = "\n".join(kept).strip() or None
    if len(kept) == len(text.splitlines()):
        return Docs(description, {})
    return Docs(description, _read_parameters(text))


def _docstring(documented_object: Any) -> str | None:
    text = documented_object.__doc__
    return inspect.cleandoc(text) if isinstance(text, str) else None


def _read_parameters(text: str) -> dict[str, str]:
    # Imported here because the import takes a hundred times as long as the rest of a definition.
    import docstring_parser

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return {}
    found: dict[str, str] = {}
    for parameter in parsed.params:
        description = " ".join((parameter.description or "").split())
        if description:
            # NumPy style lets several parameters share a line.
            for name in parameter.arg_name.split(","):
                found[name.strip().strip("*`")] = description
    return found


def _without_sections(lines: list[str]) -> list[str]:
    kept: list[str] = []
    number = 0
    while number < len(lines):
        end = _section_end(lines, number)
        if end > number:
            number = end
            # The blank line before the section now separates what is around it.
            while number < len(lines) and not lines[number].strip() and not (kept and kept[-1].strip()):
                number += 1
        else:
            kept.append(lines[number])
            number += 1
    return kept


def _section_end(lines: list[str], start: int) -> int:
    """The line after the section that begins at `start`; `start` itself if none does."""
    line = lines[start]
    if re.match(_REST, line):
        return _indented_end(lines, start + 1)
    if re.fullmatch(_GOOGLE, line):
        end = _indented_end(lines, start + 1)
        return end if end > start + 1 else start
    if re.fullmatch(_NUMPY, line) and start + 1 < len(lines) and re.fullmatch(_UNDERLINE, lines[start + 1]):
        end = start + 2
        while end < len(lines) and not _starts_numpy_section(lines, end):
            end += 1
        return end
    return start


def _starts_numpy_section(lines: list[str], number: int) -> bool:
    following = lines[number + 1] if number + 1 < len(lines) else ""
    return bool(lines[number].strip()) and re.fullmatch(_UNDERLINE, following) is not None


def _indented_end(lines: list[str], start: int) -> int:
    """The line after the indented lines from `start` on; blank lines belong to the line that follows them."""
    end = start
    for number in range(start, len(lines)):
        if lines[number].strip():
            if not lines[number][0].isspace():
                break
            end = number + 1
    return end
