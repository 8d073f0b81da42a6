"""The settings of a server's runtime: every cap has a name here.

Owns defaults and their reasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import attrs

from trio_mcp.outgoing.policy import Conflate, ProgressCall, ProgressPolicy

DEFAULT_FRAME_BYTES: Final = 64 * 1024 * 1024
"""One message: room for a large file as base64, and an end to what a peer can make us hold."""

DEFAULT_DRAIN_SECONDS: Final = 2.0
"""How long the end of a session waits for a peer that reads slowly."""


def check_positive(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    """An attrs validator: a number larger than 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be a finite number larger than 0, not {value!r}")


def check_not_negative(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    """An attrs validator: a number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{attribute.name} must not be negative, not {value!r}")


def check_count(instance: Any, attribute: attrs.Attribute[Any], value: int) -> None:
    """An attrs validator: a whole number larger than 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{attribute.name} must be a whole number larger than 0, not {value!r}")


@attrs.frozen(kw_only=True)
class ServerSettings:
    """How a server runs. Sizes in bytes, times in seconds.

    `progress` is the policy for pending progress. `choose_progress(call)` may return another
    one for each tool call, for example by its client: it is asked before the tool starts,
    and fails the call where it raises. `strict_yield` makes every
    report a schedule point. `max_requests` is the number of requests that one
    connection may have in flight, `log_buffer` the number of log messages a call
    may have pending before its handler waits, `max_frame_bytes` the largest
    message that is read. `thread_limit` is the number of sync tools that run at
    once. `drain_timeout` bounds the last writes of a session. `deadline_margin` is how
    long before the deadline of its client a handler is cancelled, at most; a tenth of the
    time where that is less. `show_errors` lets clients see what an unexpected exception said.
    """

    progress: ProgressPolicy = attrs.field(factory=Conflate)
    choose_progress: Callable[[ProgressCall], ProgressPolicy] | None = None
    strict_yield: bool = False
    # A client may follow a thousand tasks, each with a request that stays open.
    max_requests: int = attrs.field(default=4096, validator=check_count)
    log_buffer: int = attrs.field(default=256, validator=check_count)
    max_frame_bytes: int = attrs.field(default=DEFAULT_FRAME_BYTES, validator=check_count)
    thread_limit: int = attrs.field(default=40, validator=check_count)
    drain_timeout: float = attrs.field(default=DEFAULT_DRAIN_SECONDS, validator=check_positive)
    # For what the handler still does when it is cancelled, and for the way of the answer.
    deadline_margin: float = attrs.field(default=0.25, validator=check_not_negative)
    show_errors: bool = False
