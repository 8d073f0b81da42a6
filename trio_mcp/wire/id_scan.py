"""The id of a message that cannot be decoded.

Owns a tolerant scan of bytes that are no valid message: broken JSON, text that is not UTF-8, a message
that was cut off. It looks at the members of the outermost object only, so an id inside of parameters, of a
result or of a text is never taken. Refuses to know what is done with the id.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from trio_mcp.wire.frames import MessageKind, RequestId

SCAN_BYTES: Final = 1 << 20
"""How much of a message is scanned, from its beginning."""

SCAN_STEPS: Final = 16_384
"""How many brackets, and texts of the outermost object, are passed before a scan gives up."""

_SPACE: Final = rb"[ \t\r\n]*+"
_TEXT: Final = rb'"(?:[^"\\]++|\\.)*+"?'
_FLAT: Final = re.compile(rb'(?:[^"{}\[\]]++|' + _TEXT + rb")*+", re.DOTALL)  # up to the next bracket
_BETWEEN: Final = re.compile(rb'[^"{}\[\]]*+')
_WHOLE_TEXT: Final = re.compile(_TEXT, re.DOTALL)
_COLON: Final = re.compile(_SPACE + rb":" + _SPACE)
_ID: Final = re.compile(
    rb'(-?[0-9]{1,18}(?:\.0{1,9})?)(?=[ \t\r\n,}])|("(?:[^"\\]++|\\.){0,1024}+")(?=[ \t\r\n,}])', re.DOTALL
)
_LAST_BYTES: Final = 2_048
_LAST_ID: Final = re.compile(rb',\s*"id"\s*:\s*(?=[^\s}][^}]*\}\s*\Z)')
_KINDS: Final[dict[bytes, MessageKind]] = {
    b'"method"': "request",
    b'"params"': "request",
    b'"result"': "answer",
    b'"error"': "answer",
}
_LONE_SURROGATE: Final = re.compile(
    rb"(?:[^\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)*+\\u[dD]",
    re.DOTALL,
)


class Scan(Struct, frozen=True):
    """What a scan has found; `gave_up` says that the message goes on behind what was looked at."""

    id: RequestId | UnsetType = UNSET
    kind: MessageKind = "unknown"
    gave_up: bool = False


def scan_message(data: bytes) -> Scan:
    """Look for the id of a message, and for what it is; never raises, and takes bounded time."""
    start = _BETWEEN.match(data, 0, SCAN_BYTES)
    at = 0 if start is None else start.end()
    if SCAN_BYTES <= at < len(data):
        return Scan(gave_up=True)
    if data[at : at + 1] != b"{" or data[:at].strip(b" \t\r\n\xef\xbb\xbf"):
        return Scan()
    end = min(len(data), SCAN_BYTES)
    ident: RequestId | UnsetType = UNSET
    kind: MessageKind = "unknown"
    at, depth = at + 1, 1
    for _ in range(SCAN_STEPS):
        if ident is not UNSET and kind != "unknown":
            return Scan(ident, kind)
        at = _end_of(_BETWEEN if depth == 1 else _FLAT, data, at, end)
        if at >= end:
            return Scan(ident, kind, gave_up=end < len(data))
        if data[at] in b"{[":
            at, depth = at + 1, depth + 1
        elif data[at] in b"}]":
            at, depth = at + 1, depth - 1
            if depth == 0:
                return Scan(ident, kind)
        else:
            text_end = _end_of(_WHOLE_TEXT, data, at, end)
            name, at = data[at:text_end], text_end
            colon = _COLON.match(data, at, end)
            if colon is None:
                continue
            at = colon.end()
            if name == b'"id"' and ident is UNSET:
                ident = _read_id(data, at, end)
            elif kind == "unknown":
                kind = _KINDS.get(name, "unknown")
    return Scan(ident, kind, gave_up=True)


def find_last_id(data: bytes) -> RequestId | UnsetType:
    """The id of a whole message if it is the last member, as some peers send it behind long parameters."""
    start = max(0, len(data) - _LAST_BYTES)
    found = _LAST_ID.search(data, start)
    return UNSET if found is None else _read_id(data, found.end(), len(data))


def split_batch(data: bytes) -> list[bytes]:
    """The members of a batch that is no valid JSON, each as it stands; empty if that cannot be told."""
    members: list[bytes] = []
    at = data.find(b"[") + 1
    start, depth, end = at, 1, min(len(data), SCAN_BYTES)
    for _ in range(SCAN_STEPS):
        at = _end_of(_FLAT, data, at, end)
        if at >= end:
            if end == len(data) and data[start:].strip():
                members.append(data[start:])
            return members
        depth += 1 if data[at] in b"{[" else -1
        if depth == 2 and data[at] in b"{[":
            start = at
        at += 1
        if depth == 1:
            members.append(data[start:at])
            start = at
        elif depth == 0:
            return members
    return []


def find_flaw(data: bytes, error: Exception) -> str:
    """What is wrong with a message, and at which byte if that can be told."""
    words = str(error)
    if "truncated" in words or "escape" in words:
        lone = _LONE_SURROGATE.match(data, 0, SCAN_BYTES)
        if lone is not None:
            return f"a lone surrogate (byte {lone.end() - 3})"
    return words


def _end_of(pattern: re.Pattern[bytes], data: bytes, at: int, end: int) -> int:
    found = pattern.match(data, at, end)
    return at if found is None else found.end()


def _read_id(data: bytes, at: int, end: int) -> RequestId | UnsetType:
    found = _ID.match(data, at, end)
    if found is None:
        return UNSET
    number, text = found.groups()
    if number is not None:
        return int(number.partition(b".")[0])
    try:
        return msgspec.json.decode(text, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return UNSET
