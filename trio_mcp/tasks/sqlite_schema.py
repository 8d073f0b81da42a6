"""The tables in which `SQLiteTaskStore` keeps tasks, and how older ones become newer ones.

Owns the layout and its number. Opens no file.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import Final

from trio_mcp.errors import TaskStoreError

APPLICATION: Final = 0x744D4350
"""SQLite's `application_id` of our files ("tMCP"), by which a file of another program is told apart."""

REPORTS: Final = 256
"""Reports kept of each task, and what came with the oldest of them."""

# Work, checkpoints and answers stand in tables of their own, since a change of a row writes all of it.
# `told` counts the reports of a task, and `until` those up to the end of one row of reports.
_FIRST: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    tool TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    number INTEGER NOT NULL,
    expires_at INTEGER,
    version INTEGER NOT NULL,
    is_final INTEGER NOT NULL,
    is_listed INTEGER NOT NULL,
    key TEXT,
    holder TEXT,
    claim INTEGER NOT NULL,
    queued INTEGER,
    ready_at INTEGER,
    told INTEGER NOT NULL DEFAULT 0,
    offset INTEGER NOT NULL DEFAULT 0,
    record BLOB NOT NULL
);
CREATE TABLE works (task INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE checkpoints (task INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE answers (task INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE reports (
    task INTEGER NOT NULL, until INTEGER NOT NULL, last INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX places ON tasks (owner, created_at, number) WHERE is_listed;
CREATE INDEX all_places ON tasks (created_at, seq) WHERE is_listed;
CREATE INDEX expiries ON tasks (expires_at) WHERE expires_at IS NOT NULL;
CREATE UNIQUE INDEX keys ON tasks (key) WHERE key IS NOT NULL;
CREATE INDEX holders ON tasks (holder) WHERE holder IS NOT NULL;
CREATE INDEX queue ON tasks (queued, tool) WHERE queued IS NOT NULL AND ready_at IS NULL;
CREATE INDEX delayed ON tasks (ready_at) WHERE ready_at IS NOT NULL;
CREATE UNIQUE INDEX told ON reports (task, until);
CREATE TRIGGER ended AFTER UPDATE OF is_final ON tasks WHEN new.is_final BEGIN
    DELETE FROM works WHERE task = new.seq;
    DELETE FROM checkpoints WHERE task = new.seq;
    DELETE FROM answers WHERE task = new.seq;
END;
CREATE TRIGGER gone AFTER DELETE ON tasks BEGIN
    DELETE FROM works WHERE task = old.seq;
    DELETE FROM checkpoints WHERE task = old.seq;
    DELETE FROM answers WHERE task = old.seq;
    DELETE FROM reports WHERE task = old.seq;
END;
CREATE TRIGGER reported AFTER INSERT ON reports BEGIN
    DELETE FROM reports WHERE task = new.task AND until <= new.until - {REPORTS};
END;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST,)
"""Scripts, each of which makes the next layout of the one before; the first makes it of nothing."""


def check_schema(db: sqlite3.Connection, path: str) -> int:
    """The number of the layout that `db` has, 0 if it is empty. Raises TaskStoreError if it is not ours."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION and (tables or version or application):
        raise TaskStoreError(f"{path} is a database of another program; give tasks a file of their own")
    if version > len(MIGRATIONS):
        raise TaskStoreError(
            f"{path} was written by a newer version of trio_mcp (schema {version}, this version knows "
            f"{len(MIGRATIONS)}); use that version, or another file"
        )
    return int(version)


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring `db` from layout `version` to the newest one, all or nothing."""
    if version == len(MIGRATIONS):
        return
    script = "".join(MIGRATIONS[version:])
    db.executescript(
        f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {APPLICATION}; "
        f"PRAGMA user_version = {len(MIGRATIONS)}; COMMIT;"
    )


def read_cursor_key(db: sqlite3.Connection) -> bytes | None:
    """The secret of the cursors, which outlive the process; None in a file that has none yet."""
    row = db.execute("SELECT value FROM meta WHERE name = 'cursor_key'").fetchone()
    return None if row is None else bytes(row[0])


def make_cursor_key(db: sqlite3.Connection) -> bytes:
    """The secret of the cursors, which is made if there is none."""
    db.execute("INSERT OR IGNORE INTO meta VALUES ('cursor_key', ?)", (secrets.token_bytes(32),))
    key = read_cursor_key(db)
    assert key is not None, "it was made"
    return key
