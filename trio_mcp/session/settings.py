"""The settings of a server: every cap and every time has a name here.

Owns the defaults and their reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

import attrs

from trio_mcp.outgoing.policy import SERVER_POLICIES, Conflate, ProgressCall, ServerPolicy
from trio_mcp.validators import check_count, check_not_negative, check_positive
from trio_mcp.wire.value_count import MAX_VALUES

DEFAULT_FRAME_BYTES: Final = 64 * 1024 * 1024
"""The cap of one message that a client reads: room for a large file as base64."""

DEFAULT_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""The cap of one message that a server reads: decoding a longer text would hold up others for too long."""

DEFAULT_DRAIN_SECONDS: Final = 2.0
"""How long the end of a session waits for a peer that reads slowly."""


@attrs.frozen(kw_only=True)
class ServerSettings:
    """How a server runs. Sizes in bytes, times in seconds.

    `progress` is the policy for pending progress. `choose_progress(call)` may return another
    one for each request for a tool, a prompt, a resource or a completion, for example by its client: it is
    called before the handler starts, and the request fails if it raises. `strict_yield` makes every
    report a schedule point. `max_requests` is the number of requests that one
    connection may have in flight, `log_buffer` the number of log messages a call
    may have pending before its handler waits, `max_frame_bytes` the largest
    message that is read, and `max_values` how many numbers, texts and other values it may hold
    (what is counted is commas and opening brackets outside of texts). `thread_limit` is the
    number of sync tools that run at once. `drain_timeout` bounds the last writes of a session.
    `deadline_margin` is how long before the deadline of its client a handler is cancelled, at
    most; a tenth of the time if that is less. `show_errors` lets clients see what an unexpected
    exception said. `turn_clock()` returns seconds: by it a reporter knows that it should yield,
    and a writer that it has collected for long enough. Both decide which changes leave together,
    so tests may count instead: `trio_mcp.testing.StepClock`.
    `dereference_schemas` puts the schemas of classes into those that use them, for hosts that drop
    `$defs`; it counts when a tool is registered.
    """

    progress: ServerPolicy = attrs.field(
        factory=Conflate, validator=attrs.validators.instance_of(SERVER_POLICIES)
    )
    choose_progress: Callable[[ProgressCall], ServerPolicy] | None = None
    strict_yield: bool = False
    # A client may follow a thousand tasks, each with a request that stays open.
    max_requests: int = attrs.field(default=4096, validator=check_count)
    log_buffer: int = attrs.field(default=256, validator=check_count)
    max_frame_bytes: int = attrs.field(default=DEFAULT_REQUEST_BYTES, validator=check_count)
    max_values: int = attrs.field(default=MAX_VALUES, validator=check_count)
    thread_limit: int = attrs.field(default=40, validator=check_count)
    drain_timeout: float = attrs.field(default=DEFAULT_DRAIN_SECONDS, validator=check_positive)
    # For the cleanup of the cancelled handler, and for the answer to arrive.
    deadline_margin: float = attrs.field(default=0.25, validator=check_not_negative)
    show_errors: bool = False
    turn_clock: Callable[[], float] = perf_counter
    dereference_schemas: bool = True
