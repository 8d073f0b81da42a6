"""A task as a text that another process can open, on another day.

Owns the form of that text: a version, the id of the task, how far its progress was delivered, and a check
for what was cut or changed. Holds no secret beside the id. Knows no connection.
"""

from __future__ import annotations

import base64
import zlib
from typing import Final

import msgspec

PREFIX: Final = "trio-task-"
VERSION: Final = "1"

_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def make_reference(task_id: str, offset: int) -> str:
    """A reference to a task whose reports were delivered up to `offset`; safe in a URL."""
    body = base64.urlsafe_b64encode(msgspec.json.encode((task_id, offset))).decode().rstrip("=")
    return f"{PREFIX}{VERSION}.{body}.{_check(body)}"


def read_reference(reference: str) -> tuple[str, int]:
    """The id of the task and the offset; raises ValueError that says what is wrong with the text."""
    if not isinstance(reference, str) or not reference.startswith(PREFIX):
        raise ValueError(
            f"no reference of a task, as TaskHandle.reference() makes one: {_shorten(reference)}"
        )
    version, _, rest = reference.removeprefix(PREFIX).partition(".")
    body, _, check = rest.partition(".")
    if version != VERSION and version.isdigit():
        raise ValueError(f"this reference of a task has version {version}; this trio_mcp reads {VERSION}")
    if version != VERSION or not body or not _ALPHABET.issuperset(body) or check != _check(body):
        raise ValueError(f"this reference of a task was cut or changed: {_shorten(reference)}")
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        task_id, offset = msgspec.json.decode(data, type=tuple[str, int])
    except (ValueError, msgspec.MsgspecError):
        raise ValueError(f"this reference of a task is none: {_shorten(reference)}") from None
    return task_id, offset


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def _shorten(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
