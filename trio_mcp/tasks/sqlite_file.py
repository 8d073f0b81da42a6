"""The file of a `SQLiteTaskStore`: how it is made, locked, opened and checked.

Owns the lock, the permissions, and the words in which failures of SQLite are told. Knows no tasks.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import attrs
import msgspec

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.sqlite_schema import check_schema, make_cursor_key, migrate, read_cursor_key

OLDEST: Final = (3, 38, 0)
"""The SQLite that has all of UPDATE FROM, RETURNING and JSON."""

BUSY_SECONDS: Final = 2.0
"""How long a change waits for another program that has locked the file."""

MAX_WAL_BYTES: Final = 64 * 1024 * 1024
"""What the write-ahead log keeps on the disk once it was larger."""

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk or the database is full; make room, and the store goes on",
    sqlite3.SQLITE_BUSY: "another program has locked it; end that program, and the store goes on",
    sqlite3.SQLITE_LOCKED: "another program has locked it; end that program, and the store goes on",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; put a copy in its place, or move it away to begin anew",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database; give tasks a file of their own",
    sqlite3.SQLITE_READONLY: "the file or its directory may not be written; change its permissions",
    sqlite3.SQLITE_PERM: "the file may not be opened; change its permissions",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; its directory must exist, and be writable",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written",
}


@attrs.frozen
class OpenFile:
    """An open database; `lock` is the connection whose transaction keeps others away, None for a reader."""

    db: sqlite3.Connection
    lock: sqlite3.Connection | None
    cursor_key: bytes

    def close(self) -> None:
        """Close the database, and then let others have it."""
        try:
            self.db.close()
        finally:
            if self.lock is not None:
                self.lock.close()


def store_error(path: str, error: Exception) -> TaskStoreError:
    """The error that callers see if SQLite, or what the file holds, fails."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        advice = _ADVICE.get(code)
        told = TaskStoreError(f"task store {path}: {error}" + (f": {advice}" if advice else ""))
    elif isinstance(error, msgspec.MsgspecError):
        told = TaskStoreError(f"task store {path}: a task cannot be read ({error}): the file is damaged")
    elif isinstance(error, OSError):
        told = TaskStoreError(f"task store {path}: {error.strerror or error}")
    else:
        told = TaskStoreError(f"task store {path}: {error}")
    told.__cause__ = error
    return told


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another program has locked the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def open_file(path: str, *, read_only: bool) -> OpenFile:
    """Open the database of tasks at `path`, which is made if there is none.

    It belongs to this opening until `close`, unless it is opened to be read. Raises TaskStoreError.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise TaskStoreError(f"task store {path}: needs SQLite {needed}, not {sqlite3.sqlite_version}")
    try:
        return _open_reader(path) if read_only else _open_owner(path)
    except (sqlite3.Error, OSError) as error:
        raise store_error(path, error) from error


def _open_owner(path: str) -> OpenFile:
    if os.path.isdir(path):
        raise TaskStoreError(f"task store {path}: it is a directory; name a file in it")
    path = os.path.realpath(path)  # or a link would have a lock of its own
    with ExitStack() as opened:
        _make_private(path + "-lock")
        lock = opened.enter_context(closing(_connect(path + "-lock", "rw")))
        _lock(lock, path)
        _make_private(path)
        db = opened.enter_context(closing(_connect(path, "rw")))
        file = OpenFile(db, lock, _prepare(db, path))
        opened.pop_all()
    return file


def _open_reader(path: str) -> OpenFile:
    if not os.path.exists(path):
        raise TaskStoreError(f"task store {path}: there is no such file")
    with ExitStack() as opened:
        db = opened.enter_context(closing(_connect(path, "ro")))
        version = check_schema(db, path)
        key = read_cursor_key(db) if version else None
        if key is None:
            raise TaskStoreError(f"task store {path}: no tasks were ever kept in it")
        opened.pop_all()
    return OpenFile(db, None, key)


def _make_private(path: str) -> None:
    """Make an empty file that only its owner can use; SQLite gives its other files the same mode.

    One that exists is not opened: to close it would end the locks that this process has on it.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _connect(path: str, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
    )


def _lock(lock: sqlite3.Connection, path: str) -> None:
    """Begin the transaction by which this opening owns the file, and which ends with the process.

    Its locks hold against other processes and against other openings in this one, and no child inherits them.
    """
    lock.execute("PRAGMA busy_timeout = 0")
    try:
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        raise TaskStoreError(
            f"task store {path}: {_who_has(path)} has it open, and a file has one owner at a time; "
            "end that one, or open the file with read_only=True"
        ) from error


def _who_has(path: str) -> str:
    """Who has opened the file, as far as it can be read."""
    with suppress(sqlite3.Error), closing(_connect(path, "ro")) as db:
        row = db.execute("SELECT value FROM meta WHERE name = 'process'").fetchone()
        if row is not None:
            return "this process" if row[0] == os.getpid() else f"process {row[0]}"
    return "another process"


def _prepare(db: sqlite3.Connection, path: str) -> bytes:
    """Check the database, make its tables the newest ones, and return the secret of its cursors."""
    version = check_schema(db, path)
    (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise TaskStoreError(f"task store {path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} ({found})")
    db.execute("PRAGMA journal_mode = WAL")
    # What was acknowledged survives a power cut: every commit reaches the disk before it is told.
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
    migrate(db, version)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('process', ?)", (os.getpid(),))
    return make_cursor_key(db)
