"""From a URL to a task store, for command lines and configuration.

Owns which URLs there are. The stores themselves are imported when one is asked for.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.memory_store import MemoryTaskStore
from trio_mcp.tasks.store import TaskStore

KNOWN: Final = "sqlite:PATH, redis://HOST, rediss://HOST, valkey://HOST, valkeys://HOST and memory:"
REDIS_SCHEMES: Final = frozenset({"redis", "rediss", "valkey", "valkeys"})
STORE_SCHEMES: Final = REDIS_SCHEMES | {"sqlite", "memory"}

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CREDENTIALS: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:(?://)?)?.*@", re.DOTALL)


def store_from_url(url: str, *, read_only: bool = False, may_create: bool = True) -> TaskStore:
    """Return the store that `url` names; it is not opened yet.

    `sqlite:PATH` is a file, relative to the current directory unless the path is absolute, as in
    `sqlite:/var/lib/tasks.db` or `sqlite:///var/lib/tasks.db`. `redis://` and `valkey://` name a server,
    `rediss://` and `valkeys://` one behind TLS: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`.
    `memory:` is a new store in the memory of this process.

    With `read_only`, a file of SQLite may belong to a server that runs. Without `may_create`, it must be
    there, and there is no store in memory. Raises TaskStoreError for every other text; the message shows
    no password.
    """
    scheme = _read_scheme(url)
    if scheme == "sqlite":
        path = read_sqlite_path(url)
        if not may_create and not path.exists():
            raise TaskStoreError(f"task store {path}: there is no such file")
        from trio_mcp.tasks.sqlite_store import SQLiteTaskStore

        return SQLiteTaskStore(path, read_only=read_only)
    if scheme in REDIS_SCHEMES:
        from trio_mcp.tasks.redis_store import RedisTaskStore

        return RedisTaskStore(url)
    if scheme == "memory":
        if url.partition(":")[2]:
            raise TaskStoreError(f"{hide_password(url)!r} is no URL of a store: nothing may follow memory:")
        if not may_create:
            raise TaskStoreError(
                "memory: would be a new store; the tasks of a process are only in that process"
            )
        return MemoryTaskStore()
    raise TaskStoreError(f"{hide_password(url)!r} is no URL of a store: known are {KNOWN}{_guess(url)}")


def read_sqlite_path(url: str) -> Path:
    """The path in `sqlite:PATH`, where `~` is the home directory. Raises TaskStoreError for none."""
    path = url.partition(":")[2]
    if path.startswith("//"):
        if not path.startswith("///"):
            raise TaskStoreError(f"{url!r} names a host, but a file has none: say sqlite:{path.lstrip('/')}")
        path = "/" + path.lstrip("/")
    if not path.strip("/"):
        raise TaskStoreError(f"{url!r} names no file: say sqlite:PATH, such as sqlite:tasks.db")
    if path == ":memory:":
        raise TaskStoreError(f"{url!r} would not outlive the process: say memory:, or sqlite:PATH")
    if "?" in path:
        raise TaskStoreError(f"{url!r} has options, but a file has none: say sqlite:{path.partition('?')[0]}")
    return Path(path).expanduser()


def is_store_url(text: str) -> bool:
    """Whether `text` begins with the scheme of a store, in any case of letters."""
    return _read_scheme(text) in STORE_SCHEMES


def hide_password(url: str) -> str:
    """The URL without user and password, for messages."""
    return _CREDENTIALS.sub(r"\1***@", url)


def _read_scheme(url: str) -> str:
    found = _SCHEME.match(url)
    return "" if found is None else found[1].lower()


def _guess(url: str) -> str:
    is_file = not _SCHEME.match(url) and url and (os.sep in url or Path(url).suffix)
    return f"; for a file say sqlite:{url}" if is_file else ""
