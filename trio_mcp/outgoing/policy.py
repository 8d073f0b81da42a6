"""What becomes of pending progress while the reader is slower than the handler.

Owns the policies and their caps. A policy never changes what a handler sees of
its own progress, only what is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from trio_mcp.validators import check_interval, check_positive
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


@attrs.frozen
class Heartbeat:
    """Show life while a handler is silent, for clients that end a call after some minutes of silence.

    Whenever the client of a call has been sent no progress for `every` seconds of Trio's clock, it is sent
    the handler's last values again: the same progress, a little larger on the wire because it must
    increase, and behind the message the time that the call has taken. A client without a progress
    token is sent nothing, nor is one that has not read what was sent before. A heartbeat is no report: the
    handler does not see it, and the record of a background task does not show it.

    `policy` is what holds for the handler's own reports. By default that is the server's, and for the
    server itself `Conflate()`. If its `min_interval` is longer than `every`, heartbeats are that far apart.
    """

    every: float = attrs.field(default=15, validator=check_positive)
    policy: ProgressPolicy | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(attrs.validators.instance_of((Conflate, Lossless))),
    )


ServerPolicy: TypeAlias = Conflate | Lossless | Heartbeat
"""What may be set for a server, a tool, a prompt or a resource, or chosen for a call."""

SERVER_POLICIES: Final = (Conflate, Lossless, Heartbeat)


def reports_policy(policy: ServerPolicy) -> ProgressPolicy:
    """The policy of a server for the reports of its handlers."""
    return (policy.policy or Conflate()) if isinstance(policy, Heartbeat) else policy


def find_interval(policy: ProgressPolicy) -> float:
    """The least time between two notifications of a call, in seconds; 0 if none is set."""
    return policy.min_interval if isinstance(policy, Conflate) else 0


@attrs.frozen(kw_only=True)
class ProgressCall:
    """A request whose policy is to be chosen; see `ServerSettings.choose_progress`.

    `method` is "tools/call", "prompts/get", "resources/read" or "completion/complete". `name` is that of
    the tool or the prompt, or the URI or the template of the resource, as it was registered. `tool` is the
    name of the tool, and empty for other requests. `policy` is that of the tool, the prompt or the
    resource, or else of the server. `client_info` is what the client says of itself, and `principal` its
    name if it was authenticated. `session_state` is that of its session, None in eras without sessions.
    """

    tool: str
    policy: ServerPolicy
    client_info: Implementation | None
    principal: str | None
    session_state: Mapping[str, Any] | None
    method: str = "tools/call"
    name: str = attrs.field(default=attrs.Factory(lambda call: call.tool, takes_self=True))
