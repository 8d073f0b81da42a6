"""The JSON-RPC frames that travel between a session and its transport.

A frame is one JSON-RPC message (MCP base protocol, "Messages"), except
`ProgressRun`, which carries a run of progress notifications of one token so that
a burst costs one object. Payloads are `msgspec.Raw`: encoded by whoever made
them, decoded by whoever understands the method. Knows no method but progress.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType

RequestId: TypeAlias = int | str
ProgressToken: TypeAlias = int | str

Update: TypeAlias = tuple[float, float | None, str | None, float | None]
"""One update as it travels: progress, total, message, and the exact progress.

`exact` is the reporter's own value where the wire had to carry a larger one so
that progress increases (MCP progress, "MUST increase"); None where they agree.
"""


class Request(Struct, frozen=True, tag_field="jsonrpc", tag="2.0"):
    """A call that wants an answer under the same `id`."""

    id: RequestId
    method: str
    params: Raw | UnsetType = UNSET


class Notification(Struct, frozen=True, tag_field="jsonrpc", tag="2.0"):
    """A message that is never answered."""

    method: str
    params: Raw | UnsetType = UNSET


class Response(Struct, frozen=True, tag_field="jsonrpc", tag="2.0"):
    """The successful answer to the request `id`."""

    id: RequestId
    result: Raw


class ErrorObject(Struct, frozen=True):
    """The `error` member of a failed answer."""

    code: int
    message: str
    data: Raw | UnsetType = UNSET


class ErrorResponse(Struct, frozen=True, tag_field="jsonrpc", tag="2.0"):
    """The failed answer to the request `id`.

    Where the id of the request could not be read, `id` is absent (UNSET) or
    null (None), as the protocol era demands.
    """

    error: ErrorObject
    id: RequestId | UnsetType | None = UNSET


class Refusal(ErrorResponse, frozen=True, tag_field="jsonrpc", tag="2.0"):
    """An error answer to a message that no handler has seen."""


class StageState(Struct, frozen=True, omit_defaults=True):
    """How far an open stage is: its name behind those of the stages that it is a part of.

    `progress`, `total` and `message` are the stage's own; None where there are none.
    """

    path: tuple[str, ...]
    progress: int | float | None = None
    total: int | float | None = None
    message: str | None = None


class ProgressRun(Struct, frozen=True):
    """A run of progress notifications of one token, in order; never empty.

    `stages` are the open stages as of the last update, where they have changed.

    `related_task` is the id of the background task that they belong to, where the
    era wants it said (MCP tasks 2025-11-25, "Associating Task-Related Messages").
    """

    token: ProgressToken
    updates: list[Update]
    related_task: str | None = None
    stages: tuple[StageState, ...] | None = None


class Batch(Struct, frozen=True):
    """A JSON-RPC batch, which only 2025-03-26 knows; never empty."""

    frames: list[Request | Notification | Response | ErrorResponse | ProgressRun | Malformed]


class Malformed(Struct, frozen=True):
    """Input that is no frame: what is wrong with it, and the id if it could be read.

    `lost` says that a message was there which this side could not keep.
    """

    code: int
    reason: str
    id: RequestId | UnsetType = UNSET
    lost: bool = False


class Lost(Struct, frozen=True):
    """Requests that no answer will come for, and why.

    A transport makes it where a single answer can be lost without the connection,
    as on HTTP; it never stands on a wire.
    """

    ids: tuple[RequestId, ...]
    reason: str


OutFrame: TypeAlias = Request | Notification | Response | ErrorResponse | ProgressRun | Batch
Decoded: TypeAlias = OutFrame | Malformed
InFrame: TypeAlias = Decoded | Lost
