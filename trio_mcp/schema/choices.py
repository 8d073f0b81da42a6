"""Titles for the values of a choice, such as people see them in a form.

Owns how they are written in JSON Schema.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec


def titles(by_value: Mapping[str | enum.Enum, str] | None = None, /, **named: str) -> msgspec.Meta:
    """Give the values of a Literal, an Enum or a text titles, within `Annotated` (MCP elicitation).

    `Annotated[Literal["s", "l"], titles(s="Small", l="Large")]`; for an Enum the keys are its members or
    their values, in a mapping. Without a title a value is shown as it is. A text becomes a choice of the
    values that have a title. Raises TypeError for a value or a title that is no text.
    """
    given: dict[str, str] = {}
    for key, title in (*(by_value or {}).items(), *named.items()):
        value = key.value if isinstance(key, enum.Enum) else key
        if not isinstance(value, str) or not isinstance(title, str):
            raise TypeError(f"the values of a choice and their titles are text, not {value!r} and {title!r}")
        given[value] = title
    if not given:
        raise TypeError("titles needs at least one title")
    return msgspec.Meta(
        extra_json_schema={"oneOf": [{"const": value, "title": title} for value, title in given.items()]}
    )
