"""Where a Redis or Valkey server is, as its URL says it.

Owns what a URL may say, and the text that stands for it in messages, which has no password. Connects to
nothing.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import unquote, urlsplit

import attrs

from trio_mcp.errors import TaskStoreError

_PORT: Final = 6379
_PLAIN: Final = ("redis", "valkey")
_ENCRYPTED: Final = ("rediss", "valkeys")


@attrs.frozen
class RedisAddress:
    """A server, who connects to it, and the number of the database. Its text has no password."""

    scheme: str
    host: str
    port: int
    database: int
    username: str | None
    password: str | None = attrs.field(repr=False)

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.scheme in _ENCRYPTED

    def tls(self) -> ssl.SSLContext | None:
        """What checks the certificate of the server, or None without TLS."""
        return ssl.create_default_context() if self.is_encrypted else None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}"


def read_address(url: str) -> RedisAddress:
    """What `url` says, such as redis://user:password@host:6379/0; raises TaskStoreError if it is none."""
    form = "must look like redis://user:password@host:6379/0, or rediss:// for TLS"
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
    except ValueError as error:
        raise TaskStoreError(f"the URL of a Redis server {form}; in this one the port is wrong") from error
    if parts.scheme not in (*_PLAIN, *_ENCRYPTED):
        raise TaskStoreError(f"the URL of a Redis server {form}, not {parts.scheme or 'no scheme'}://...")
    if parts.query or parts.fragment:
        raise TaskStoreError(f"the URL of a Redis server {form}; nothing may stand behind the database")
    path = parts.path.strip("/")
    if path and not (path.isascii() and path.isdigit()):
        raise TaskStoreError(f"the URL of a Redis server {form}; the database is a number, not {path!r}")
    return RedisAddress(
        scheme=parts.scheme,
        host=parts.hostname or "localhost",
        port=port,
        database=int(path or 0),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )
