"""Making text of a server safe to be shown to a person.

Owns which characters must not reach a terminal or a log. Knows nothing of how the text is shown.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Replace characters that could move the cursor or change the terminal, except newlines and tabs."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def one_line(text: str) -> str:
    """Put text from a server on one line."""
    return printable(" ".join(text.split()))
