"""The bytes in which durable stores keep tasks.

Owns the layout, which is JSON, and its number. All times are microseconds since 1970. Knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from trio_mcp.tasks.record import (
    InputRequest,
    Outcome,
    Owner,
    OwnerKind,
    TaskProgress,
    TaskRecord,
    TaskStatus,
)
from trio_mcp.tasks.stored_task import Recovery, StoredReport, TaskWork
from trio_mcp.wire.frames import ErrorObject, StageState

LAYOUT: Final = 1
"""The number of this layout; a store that finds a higher one was written by a newer version."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# Not `float`, which would turn the integers of progress into floats.
_Number: TypeAlias = int | float


class _Progress(Struct, array_like=True):
    current: _Number | None
    total: _Number | None
    message: str | None
    reported_at: int
    rate: float | None
    eta: float | None
    stages: tuple[StageState, ...] | None
    offset: int


class _Outcome(Struct, omit_defaults=True):
    kind: Literal["result", "tool_error", "protocol_error", "cancelled"]
    result: Raw | UnsetType = UNSET
    error: ErrorObject | None = None


class _Record(Struct, array_like=True):
    id: str
    tool: str
    owner: tuple[OwnerKind, str]
    created_at: int
    last_updated_at: int
    status: str
    status_message: str | None
    ttl: _Number | None
    poll_interval: _Number
    progress: _Progress | None
    outcome: _Outcome | None
    inputs: dict[str, tuple[str, dict[str, Any]]]
    version: int
    attempt: int
    arguments_digest: str | None


class _Work(Struct, omit_defaults=True):
    arguments: Raw | UnsetType = UNSET
    era: str = ""
    client_capabilities: dict[str, Any] = {}
    payer: tuple[OwnerKind, str] | None = None
    recover: Recovery = "fail"
    attempts: int = 1
    gathered: Raw | UnsetType = UNSET
    is_listed: bool = True
    scopes: list[str] | None = None
    trace: dict[str, str] = {}


_encoder: Final = msgspec.json.Encoder(enc_hook=dict)  # dict, for a Mapping of another kind
_record_decoder: Final = msgspec.json.Decoder(_Record)
_work_decoder: Final = msgspec.json.Decoder(_Work)
_answers_decoder: Final = msgspec.json.Decoder(dict[str, Raw])
_report_decoder: Final = msgspec.json.Decoder(tuple[int, _Number | None, _Number | None, str | None, int])


def to_microseconds(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """The moment, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def encode_record(record: TaskRecord) -> bytes:
    """A record as bytes."""
    progress, outcome = record.progress, record.outcome
    return _encoder.encode(
        _Record(
            id=record.id,
            tool=record.tool,
            owner=(record.owner.kind, record.owner.name),
            created_at=to_microseconds(record.created_at),
            last_updated_at=to_microseconds(record.last_updated_at),
            status=record.status.value,
            status_message=record.status_message,
            ttl=record.ttl,
            poll_interval=record.poll_interval,
            progress=None
            if progress is None
            else _Progress(
                progress.current,
                progress.total,
                progress.message,
                to_microseconds(progress.reported_at),
                progress.rate,
                progress.eta,
                progress.stages,
                progress.offset,
            ),
            outcome=None
            if outcome is None
            else _Outcome(outcome.kind, _or_unset(outcome.result), outcome.error),
            inputs={key: (one.method, dict(one.params)) for key, one in record.inputs.items()},
            version=record.version,
            attempt=record.attempt,
            arguments_digest=record.arguments_digest,
        )
    )


def decode_record(data: bytes) -> TaskRecord:
    """The record that `encode_record` made bytes of; raises msgspec.MsgspecError if it did not."""
    raw = _record_decoder.decode(data)
    progress, outcome = raw.progress, raw.outcome
    return TaskRecord(
        id=raw.id,
        tool=raw.tool,
        owner=Owner(*raw.owner),
        created_at=from_microseconds(raw.created_at),
        last_updated_at=from_microseconds(raw.last_updated_at),
        status=TaskStatus(raw.status),
        status_message=raw.status_message,
        ttl=raw.ttl,
        poll_interval=raw.poll_interval,
        progress=None
        if progress is None
        else TaskProgress(
            progress.current,
            progress.total,
            progress.message,
            from_microseconds(progress.reported_at),
            progress.rate,
            progress.eta,
            progress.stages,
            progress.offset,
        ),
        outcome=None if outcome is None else Outcome(outcome.kind, _or_none(outcome.result), outcome.error),
        inputs={key: InputRequest(*one) for key, one in raw.inputs.items()},
        version=raw.version,
        attempt=raw.attempt,
        arguments_digest=raw.arguments_digest,
    )


def encode_work(work: TaskWork) -> bytes:
    """What another process needs to run a task, as bytes."""
    return _encoder.encode(
        _Work(
            arguments=_or_unset(work.arguments),
            era=work.era,
            client_capabilities=dict(work.client_capabilities),
            payer=None if work.payer is None else (work.payer.kind, work.payer.name),
            recover=work.recover,
            attempts=work.attempts,
            gathered=_or_unset(work.gathered),
            is_listed=work.is_listed,
            scopes=None if work.scopes is None else sorted(work.scopes),
            trace=dict(work.trace),
        )
    )


def decode_work(data: bytes) -> TaskWork:
    """The work that `encode_work` made bytes of; raises msgspec.MsgspecError if it did not."""
    raw = _work_decoder.decode(data)
    return TaskWork(
        arguments=_or_none(raw.arguments),
        era=raw.era,
        client_capabilities=raw.client_capabilities,
        payer=None if raw.payer is None else Owner(*raw.payer),
        recover=raw.recover,
        attempts=raw.attempts,
        gathered=_or_none(raw.gathered),
        is_listed=raw.is_listed,
        scopes=None if raw.scopes is None else frozenset(raw.scopes),
        trace=raw.trace,
    )


def encode_answers(answers: Mapping[str, Raw]) -> bytes:
    """Answers by the keys of their questions, as bytes."""
    return _encoder.encode(dict(answers))


def decode_answers(data: bytes) -> dict[str, Raw]:
    """The answers that `encode_answers` made bytes of."""
    return _answers_decoder.decode(data)


def encode_report(report: StoredReport) -> bytes:
    """A report as bytes."""
    return _encoder.encode(tuple(report))


def decode_report(data: bytes) -> StoredReport:
    """The report that `encode_report` made bytes of."""
    return StoredReport(*_report_decoder.decode(data))


# msgspec reads a Raw that may be missing, but none that may be null.
def _or_unset(raw: Raw | None) -> Raw | UnsetType:
    return UNSET if raw is None else raw


def _or_none(raw: Raw | UnsetType) -> Raw | None:
    return None if isinstance(raw, UnsetType) else raw
