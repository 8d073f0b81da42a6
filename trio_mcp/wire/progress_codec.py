"""Progress notifications, the hot path: whole bursts of them to JSON structs and back.

Owns their form on the wire, with what trio_mcp adds in `_meta`. Refuses to know every other message:
`codec.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import force_setattr

from trio_mcp.wire.frames import (
    InFrame,
    Notification,
    Number,
    ProgressRun,
    ProgressToken,
    StageState,
    Update,
)

PROGRESS_METHOD: Final = "notifications/progress"
PROGRESS_NAME: Final = b'"notifications/progress"'
"""The name as it stands in a message."""

META_RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
PROGRESS_META: Final = "io.github.trio-mcp/progress"
"""The `_meta` key of the exact progress, if the notification had to carry a larger number."""
STAGES_META: Final = "io.github.trio-mcp/stages"
"""The `_meta` key of the stages that are open, if they have changed."""


# None of these can be part of a cycle (gc=False): a burst makes so many that the collector would always run.


class _RelatedTask(Struct, frozen=True, gc=False, rename="camel"):
    task_id: str


class _ProgressMeta(Struct, frozen=True, gc=False, omit_defaults=True):
    exact: Number | None = msgspec.field(name=PROGRESS_META, default=None)
    related_task: _RelatedTask | None = msgspec.field(name=META_RELATED_TASK, default=None)
    stages: tuple[StageState, ...] | None = msgspec.field(name=STAGES_META, default=None)


class _ProgressParams(Struct, frozen=True, gc=False, omit_defaults=True):
    token: int | str = msgspec.field(name="progressToken")
    progress: Number
    total: Number | None = None
    message: str | None = None
    meta: _ProgressMeta | None = msgspec.field(name="_meta", default=None)


class _BareProgress(Struct, frozen=True, gc=False):
    """Progress whose members for display are read only if they are what they should be."""

    token: int | str = msgspec.field(name="progressToken")
    progress: int | float
    total: Any = None
    message: Any = None


class _ProgressNotification(Struct, frozen=True, gc=False, tag_field="jsonrpc", tag="2.0"):
    method: Literal["notifications/progress"]
    params: _ProgressParams


@cache  # made when the first burst comes: a server starts without it
def _burst_decoder() -> msgspec.json.Decoder[_ProgressNotification]:
    return msgspec.json.Decoder(_ProgressNotification)


def decode_burst(data: bytes) -> list[_ProgressNotification]:
    """The notifications of newline-separated messages; raises what msgspec raises unless all are progress."""
    return _burst_decoder().decode_lines(data)


_params_decoder = msgspec.json.Decoder(_ProgressParams)
_bare_progress_decoder = msgspec.json.Decoder(_BareProgress)


def make_notifications(frame: ProgressRun) -> list[_ProgressNotification]:
    """The notifications of a run, in order."""
    token = frame.token
    related = None if frame.related_task is None else _RelatedTask(frame.related_task)
    notifications = [
        _ProgressNotification(
            PROGRESS_METHOD,
            _ProgressParams(
                token,
                progress,
                total,
                message,
                None if exact is None and related is None else _ProgressMeta(exact, related),
            ),
        )
        for progress, total, message, exact in frame.updates
    ]
    if frame.stages is not None:
        progress, total, message, exact = frame.updates[-1]
        meta = _ProgressMeta(exact, related, frame.stages)
        params = _ProgressParams(token, progress, total, message, meta)
        notifications[-1] = _ProgressNotification(PROGRESS_METHOD, params)
    return notifications


def read_progress(params: Raw) -> Notification | ProgressRun:
    """Read the parameters of one notification; one that cannot be read stays a `Notification`."""
    try:
        progress = _params_decoder.decode(params)
        stages = None if progress.meta is None else progress.meta.stages
        return ProgressRun(progress.token, [_read_update(progress)], _read_related(progress), stages)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_bare_progress(params)


def _read_bare_progress(params: Raw) -> Notification | ProgressRun:
    """Read the progress itself; what is only shown with it is left out if it is unreadable."""
    try:
        progress = _bare_progress_decoder.decode(params)
        float(progress.progress)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return Notification(PROGRESS_METHOD, params)  # which its receiver reports, and which ends no call
    total, message = progress.total, progress.message
    try:
        total = total if type(total) in (int, float) and math.isfinite(total) else None
    except OverflowError:
        total = None
    update = progress.progress, total, message if type(message) is str else None, None
    return ProgressRun(progress.token, [update])


def _read_update(params: _ProgressParams) -> Update:
    meta = params.meta
    return params.progress, params.total, params.message, None if meta is None else meta.exact


def _read_related(params: _ProgressParams) -> str | None:
    meta = params.meta
    return None if meta is None or meta.related_task is None else meta.related_task.task_id


def group_progress(notifications: Sequence[_ProgressNotification]) -> list[InFrame]:
    """The notifications as runs, in order: each of one token and one task."""
    frames: list[InFrame] = []
    token: ProgressToken | None = None
    related: str | None = None
    updates: list[Update] = []
    for notification in notifications:
        params = notification.params
        if params.token != token or type(params.token) is not type(token) or _read_related(params) != related:
            token, related, updates = params.token, _read_related(params), []
            frames.append(ProgressRun(token, updates, related))
        updates.append(_read_update(params))
        if params.meta is not None and params.meta.stages is not None:
            force_setattr(frames[-1], "stages", params.meta.stages)
    return frames


def merge_progress(frames: list[InFrame]) -> list[InFrame]:
    """The frames with neighbouring runs of one token and one task made one."""
    merged: list[InFrame] = []
    for frame in frames:
        last = merged[-1] if merged else None
        if (
            type(frame) is ProgressRun
            and type(last) is ProgressRun
            and last.token == frame.token
            and type(last.token) is type(frame.token)
            and last.related_task == frame.related_task
        ):
            last.updates.extend(frame.updates)
            if frame.stages is not None:
                force_setattr(last, "stages", frame.stages)
        else:
            merged.append(frame)
    return merged
