"""The JSON-RPC frames that travel between a session and its transport.

A frame is one JSON-RPC message (MCP base protocol, "Messages"), except
`ProgressRun`, which carries a run of progress notifications of one token so that
a burst costs one object. Payloads are `msgspec.Raw`: the sender of a frame has encoded
them, and the code that knows the method decodes them. Knows no method but progress.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from trio_mcp.wire.errors import MCPError

RequestId: TypeAlias = int | str
ProgressToken: TypeAlias = int | str

MAX_DIGITS: Final = 18
"""A longer text is no number that this package counts to."""

MessageKind: TypeAlias = Literal["request", "answer", "unknown"]
"""What an unreadable message was seen to be: a request or notification, or an answer."""

Number: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float
"""A number of progress as it is read: it fits into a float, so that one can always compute with it."""

Update: TypeAlias = tuple[float, float | None, str | None, float | None]
"""One update as it travels: progress, total, message, and the exact progress.

`exact` is the reporter's own value if the wire had to carry a larger one so that
progress increases (MCP progress, "MUST increase"), and None if both are the same.
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

    If the id of the request could not be read, `id` is absent (UNSET) or null (None),
    as the protocol era requires.
    """

    error: ErrorObject
    id: RequestId | UnsetType | None = UNSET


class Refusal(ErrorResponse, frozen=True, tag_field="jsonrpc", tag="2.0"):
    """An error answer to a message that no handler has seen."""


class StageState(Struct, frozen=True, omit_defaults=True):
    """The state of an open stage.

    `path` is its name behind the names of the stages that it is a part of. `progress`, `total` and
    `message` are its own; None if it has none.
    """

    path: tuple[str, ...]
    progress: Number | None = None
    total: Number | None = None
    message: str | None = None


class ProgressRun(Struct, frozen=True):
    """A run of progress notifications of one token, in order; never empty.

    `stages` are the stages that are open at the last update, or None if they have not changed.
    `related_task` is the id of the background task that reports, if the era has it in the
    message (MCP tasks 2025-11-25, "Associating Task-Related Messages").
    """

    token: ProgressToken
    updates: list[Update]
    related_task: str | None = None
    stages: tuple[StageState, ...] | None = None


class Batch(Struct, frozen=True):
    """A JSON-RPC batch, which only 2025-03-26 knows; never empty."""

    frames: list[Request | Notification | Response | ErrorResponse | ProgressRun | Malformed]


class Malformed(Struct, frozen=True):
    """Stands in for a message that could not be read: the reason, and the id if that could be read.

    `lost` is True if it may have been the answer to any request, because it was too long to keep or to
    look for an id. `kind` says whose the id is: a request has an id of its sender, an answer one of its
    receiver.
    """

    code: int
    reason: str
    id: RequestId | UnsetType = UNSET
    lost: bool = False
    kind: MessageKind = "unknown"


class Lost(Struct, frozen=True):
    """Requests that will get no answer, and the reason; if they are `unsent`, the server knows none of them.

    A transport makes it if an answer can be lost while the connection goes on, as over HTTP;
    it is never sent. `failure` is the exception for the callers, if it says more than that one was lost.
    """

    ids: tuple[RequestId, ...]
    reason: str
    unsent: bool = False
    failure: MCPError | None = None


OutFrame: TypeAlias = Request | Notification | Response | ErrorResponse | ProgressRun | Batch
Decoded: TypeAlias = OutFrame | Malformed
InFrame: TypeAlias = Decoded | Lost


def as_number(ident: RequestId) -> RequestId:
    """The integer whose decimal text `ident` is, else `ident` itself: some peers send 1 as "1"."""
    if isinstance(ident, str) and ident.isascii() and ident.isdecimal() and len(ident) <= MAX_DIGITS:
        number = int(ident)
        return number if str(number) == ident else ident
    return ident


def is_same_id(one: object, other: RequestId) -> bool:
    """Whether two ids are equal, or differ only in their JSON type."""
    return isinstance(one, (int, str)) and as_number(one) == as_number(other)


def as_other_type(ident: RequestId) -> RequestId:
    """The id that differs only in its JSON type: 1 for "1", "1" for 1, and else `ident` itself."""
    return str(ident) if isinstance(ident, int) else as_number(ident)
