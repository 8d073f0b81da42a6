"""What stands in the keys of a Redis or Valkey server, and what comes back from there.

Owns how records become the arguments of scripts, and how answers become tasks. Knows no connection.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Raw

from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.cursors import Place
from trio_mcp.tasks.record import Owner, TaskRecord
from trio_mcp.tasks.redis_scripts import OWNER_CHARACTERS
from trio_mcp.tasks.store import TaskChange
from trio_mcp.tasks.stored_codec import (
    decode_record,
    decode_report,
    decode_work,
    encode_record,
    encode_report,
    encode_work,
    from_microseconds,
    to_microseconds,
)
from trio_mcp.tasks.stored_task import StoredReport, StoredTask, TaskWork

UNLISTED: Final = encode_work(TaskWork(is_listed=False))
"""What stays of the work of a task that has ended and is not listed."""

FIELDS: Final = tuple(b"r w h c y p o".split())
"""The fields of a task of which `read_stored` makes a StoredTask."""

# Places are compared as text, so they have a fixed width: microseconds since the year 1, then a number.
_YEAR_1970: Final = 62_135_596_800_000_000
_MOMENT_DIGITS: Final = 18
_NUMBER_DIGITS: Final = 16


def key_bytes(text: str) -> bytes:
    """An id, a tool or a key as it stands in the keys of the server."""
    return text.encode(errors="surrogatepass")


def owner_key(owner: Owner) -> bytes:
    """What stands for an owner in keys: a hash, as names may be long."""
    named = f"{owner.kind}:{owner.name}".encode(errors="surrogatepass")
    return hashlib.sha256(named).hexdigest()[:OWNER_CHARACTERS].encode()


def moment_text(moment: datetime) -> bytes:
    """The first part of a place in a list."""
    return b"%018d" % (to_microseconds(moment) + _YEAR_1970)


def place_text(place: Place) -> bytes:
    """A place in a list, as it is compared there."""
    return moment_text(place[0]) + b"%016d" % place[1]


def read_place(member: bytes) -> tuple[Place, str]:
    """The place and the id of a member of a list."""
    end = _MOMENT_DIGITS + _NUMBER_DIGITS
    moment, number = int(member[:_MOMENT_DIGITS]), int(member[_MOMENT_DIGITS:end])
    return (from_microseconds(moment - _YEAR_1970), number), member[end:].decode(errors="surrogatepass")


def moment_argument(moment: datetime | None) -> bytes:
    """A time as scripts take it: in microseconds since 1970, empty for none."""
    return b"" if moment is None else b"%d" % to_microseconds(moment)


def flag(value: bool) -> bytes:
    """A truth as scripts take it."""
    return b"1" if value else b"0"


def questions_argument(record: TaskRecord) -> bytes:
    """The keys of the questions of a record, as JSON."""
    return msgspec.json.encode(list(record.inputs))


def create_arguments(
    record: TaskRecord, work: TaskWork | None, key: str | None, holder: str, is_queued: bool, max_records: int
) -> list[bytes | str | int]:
    """The arguments of the script CREATE."""
    return [
        *(key_bytes(record.id), encode_record(record), record.version, flag(record.is_final), holder),
        *(b"" if work is None else encode_work(work), key_bytes(record.tool), owner_key(record.owner)),
        *(moment_text(record.created_at), flag(work is None or work.is_listed)),
        # With something in front, as a key may be empty.
        *(moment_argument(record.expires_at), b"" if key is None else b"=" + key_bytes(key)),
        *(questions_argument(record), max_records, moment_argument(record.created_at), flag(is_queued)),
    ]


def put_arguments(change: TaskChange, holder: str, max_reports: int) -> list[bytes | str | int]:
    """The arguments of the script PUT."""
    record = change.record
    arguments: list[bytes | str | int] = [
        *(key_bytes(record.id), holder, change.claim, record.version, encode_record(record)),
        *(flag(record.is_final), moment_argument(record.expires_at), questions_argument(record), UNLISTED),
        *(flag(change.checkpoint is not None), bytes(change.checkpoint or b""), max_reports),
    ]
    for report in change.reports[-max_reports:]:
        arguments += (report.offset, encode_report(report))
    return arguments


def read_record(data: bytes) -> TaskRecord:
    """The record that is stored as `data`; raises TaskStoreError if it cannot be read."""
    try:
        return decode_record(data)
    except msgspec.MsgspecError as error:
        raise TaskStoreError(f"a task that another program has written cannot be read ({error})") from error


def read_stored(fields: Sequence[bytes | None], answers: Mapping[bytes, bytes]) -> StoredTask | None:
    """The task with these `FIELDS`, or None if there is none."""
    record, work, holder, claim, ready, checkpoint, offset = fields
    if record is None:
        return None
    try:
        return StoredTask(
            record=read_record(record),
            work=None if work is None else decode_work(work),
            holder=(holder or b"").decode() or None,
            claim=int(claim or 0),
            ready_at=from_microseconds(int(ready)) if ready else None,
            checkpoint=None if checkpoint is None else Raw(checkpoint),
            answers={key.decode(): Raw(value) for key, value in answers.items()},
            offset=int(offset or 0),
        )
    except (msgspec.MsgspecError, ValueError) as error:
        raise TaskStoreError(f"a task that another program has written cannot be read ({error})") from error


def read_report(entry: Sequence[Any]) -> StoredReport:
    """A report, from an entry of its stream."""
    return decode_report(entry[1][1])
