"""Making text of a peer safe to be shown to a person.

Owns which characters must not reach a terminal or a log as they are. Knows nothing of how the text is
shown. Bytes that a program reads, such as JSON on stdout, are none of its business.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

# Letters and marks that show nothing, or are not characters at all; `str.isprintable` lets them pass.
_INVISIBLE: Final = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\U000e0100-\U000e01ef"

_LINE_ENDS: Final = re.compile(r"\r\n?")

_JOINERS: Final = "\u200c\u200d"
"""They hide between ASCII letters; Persian and Indic words and composed emoji need them."""


def printable(text: str, *, lines: bool = False, escape: Callable[[str], str] | None = None) -> str:
    r"""Replace every character that could change a terminal, forge a line or hide, by a visible escape.

    These are the control characters of ASCII and C1 (as `\x1b`), marks of writing direction, characters
    of no width, separators of lines and lone surrogates (as `\u202e`). With `lines`, newlines and tabs
    stay: for text that may have several lines. `escape` may return another text for a character.
    """
    if text.isascii() and text.isprintable():
        return text
    if lines:
        text = _LINE_ENDS.sub("\n", text)

    def replace(match: re.Match[str]) -> str:
        char = match[0]
        if lines and char in "\n\t":
            return char
        if char in _JOINERS and _joins(text, match.start()):
            return char
        return char if _is_visible(char) else (escape or _escape)(char)

    return _suspect().sub(replace, text)


@cache  # compiled when it is first needed, since that takes some milliseconds
def _suspect() -> re.Pattern[str]:
    """What has to be looked at one by one: all outside of some blocks that have only visible characters."""
    return re.compile(f"[^ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u05ff\u4e00-\u9fff]|[{_INVISIBLE}]")


def one_line(text: str) -> str:
    """Put text of a peer on one line: every run of whitespace becomes one space, the rest is `printable`."""
    return printable(" ".join(text.split()))


def escape_in_json(char: str) -> str:
    r"""What stands for a character within a string of JSON: the value stays the same."""
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _is_visible(char: str) -> bool:
    if char.isprintable():
        return re.match(f"[{_INVISIBLE}]", char) is None
    # Spaces of other widths, and characters for private use, which fonts of terminals draw.
    is_space = char.isspace() and char >= "\xa0" and char not in "\u2028\u2029"
    return is_space or "\ue000" <= char <= "\uf8ff" or "\U000f0000" <= char <= "\U0010fffd"


def _joins(text: str, place: int) -> bool:
    """Whether both neighbours of a joiner are visible characters beyond ASCII."""
    around = text[max(place - 1, 0) : place] + text[place + 1 : place + 2]
    return len(around) == 2 and not any(char.isascii() or not char.isprintable() for char in around)
