"""What becomes of pending progress while the reader is slower than the handler.

Owns the policies and their caps. A policy never changes what a handler sees of
its own progress, only what is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from trio_mcp.validators import check_interval
from trio_mcp.wire.messages import Implementation

DEFAULT_BUFFER: Final = 256
"""Pending updates per call: a tight loop fills about half of that between two yields."""

LOSSLESS_CLIENT_BUFFER: Final = 16_384
"""Several full server batches: the reader of a client under `Lossless` is rarely held back."""


@attrs.frozen
class Conflate:
    """Keep the newest updates; the default, which never makes a handler wait.

    `buffer` is the number of pending updates per call (at least 2). When it is
    full the oldest gives way to the newest, but never the very first of the call.
    `message` says what happens to a change of message or total that comes without
    an increase: "nudge" sends it with a slightly larger number, "merge" lets it
    wait for the next increase or the end of the call.

    `min_interval` is the least time between two notifications of a call, in seconds of
    Trio's clock; 0 sets none. The first leaves at once. Of the reports within an interval the
    newest leaves at its end, or before the answer if that comes first, or before a change of status
    of a background task, which does not wait. For servers: on a client it has to be 0.
    """

    buffer: int = attrs.field(
        default=DEFAULT_BUFFER, validator=[attrs.validators.instance_of(int), attrs.validators.ge(2)]
    )
    message: Literal["nudge", "merge"] = attrs.field(
        default="nudge", validator=attrs.validators.in_(("nudge", "merge"))
    )
    min_interval: float = attrs.field(default=0, validator=check_interval)


@attrs.frozen
class Lossless:
    """Deliver every update: a full buffer makes the reporting handler wait.

    `buffer` is the number of pending updates per call (at least 2); by default
    256 on a server and 16,384 on a client. A client whose buffer is full reads
    no more: over HTTP of the response of that call, elsewhere of the connection, and there a handler that
    takes no update for a tenth of a second fails its call with `ProgressOverflow`. The plain
    methods of the `ctx.progress()` helper cannot wait: on the Trio thread, if the
    buffer is full, their values are merged into the newest pending update.
    """

    buffer: int | None = attrs.field(
        default=None,
        validator=attrs.validators.optional([attrs.validators.instance_of(int), attrs.validators.ge(2)]),
    )
    message: Literal["nudge", "merge"] = attrs.field(
        default="nudge", validator=attrs.validators.in_(("nudge", "merge"))
    )


ProgressPolicy: TypeAlias = Conflate | Lossless


def find_interval(policy: ProgressPolicy) -> float:
    """The least time between two notifications of a call, in seconds; 0 if none is set."""
    return policy.min_interval if isinstance(policy, Conflate) else 0


@attrs.frozen(kw_only=True)
class ProgressCall:
    """A call whose policy is to be chosen; see `ServerSettings.choose_progress`.

    `policy` is that of the tool, or else of the server. `client_info` is what the client says of
    itself, and `principal` its name if it was authenticated. `session_state` is that of
    its session, None in eras without sessions.
    """

    tool: str
    policy: ProgressPolicy
    client_info: Implementation | None
    principal: str | None
    session_state: Mapping[str, Any] | None
