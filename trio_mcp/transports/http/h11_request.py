"""Requests as they are written on a connection of our own (RFC 9112, section 3).

Owns the request line, the header fields, and which of them a caller may choose. Refuses
to know connections and answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from trio_mcp.transports.http.address import Address
from trio_mcp.version import __version__
from trio_mcp.wire.http import EVENT_STREAM, JSON

_FIELD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: (?:[!-~](?:[\t -~]*[!-~])?)?")
"""A name and a value of visible ASCII: whatever ends a line would begin another field."""

_FRAMING: Final = frozenset(
    {"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}
)


def is_ordinary(headers: Mapping[str, str] | None) -> bool:
    """Whether the caller's headers leave the framing of requests to us; raises TypeError for no headers."""
    if headers is None:
        return True
    if not isinstance(headers, Mapping):
        return False  # httpx2 takes pairs as well
    for name, value in headers.items():
        if not (isinstance(name, (str, bytes)) and isinstance(value, (str, bytes))):
            raise TypeError(f"names and values of headers must be text, not {name!r}: {value!r}")
    return all(
        isinstance(name, str) and isinstance(value, str) and name.lower() not in _FRAMING
        for name, value in headers.items()
    )


class RequestWriter:
    """Writes requests to one address; `headers` go with each of them and are ordinary ones.

    Raises ValueError for headers that cannot be sent.
    """

    def __init__(self, address: Address, headers: Mapping[str, str] | None) -> None:
        self._target = address.target
        # Identity: what compresses a stream may hold back its events.
        shared = {
            "host": address.netloc,
            "user-agent": f"trio-mcp/{__version__}",
            **{name.lower(): value for name, value in (headers or {}).items()},
            "accept-encoding": "identity",
        }
        self._post = {**shared, "accept": f"{JSON}, {EVENT_STREAM}", "content-type": JSON}
        self._other = {**shared, "accept": EVENT_STREAM}
        self._post_fields = _write_fields(self._post)

    def write(self, method: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """A whole request; `headers` have lower-case names and prevail over those of all requests."""
        shared = self._post if method == "POST" else self._other
        if shared is self._post and shared.keys().isdisjoint(headers):
            fields = self._post_fields + _write_fields(headers)
        else:
            fields = _write_fields({**shared, **headers})
        length = f"content-length: {len(body)}\r\n" if method == "POST" else ""
        return f"{method} {self._target} HTTP/1.1\r\n{fields}{length}\r\n".encode("ascii") + body


def _write_fields(headers: Mapping[str, str]) -> str:
    text = ""
    for name, value in headers.items():
        field = f"{name}: {value}"
        if not _FIELD.fullmatch(field):
            raise ValueError(f"the header {name!r} cannot hold what it is given")  # which may be a secret
        text += field + "\r\n"
    return text
