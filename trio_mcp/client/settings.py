"""The settings of a client: every limit and time has a name here.

Owns the defaults and their reasons. Refuses to know who uses them.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from trio_mcp.outgoing.policy import Conflate, Lossless, ProgressPolicy
from trio_mcp.session.settings import DEFAULT_DRAIN_SECONDS, DEFAULT_FRAME_BYTES
from trio_mcp.validators import check_count, check_not_negative, check_positive

DEFAULT_CACHE_BYTES: Final = 4 * 1024 * 1024
"""Several lists of a thousand tools, and some documents."""


def _check_policy(instance: Any, attribute: attrs.Attribute[Any], value: ProgressPolicy) -> None:
    if not isinstance(value, (Conflate, Lossless)):
        raise TypeError(f"progress must be Conflate or Lossless, not {value!r}")
    if isinstance(value, Conflate) and value.min_interval:
        raise ValueError("min_interval is for servers: here, updates have travelled already")


@attrs.frozen(kw_only=True)
class ClientSettings:
    """How a client runs. Sizes are in bytes, times in seconds.

    `progress` is the policy for updates that wait for a progress handler. `log_buffer`
    is the number of log messages that may wait for the log handler before the oldest
    are dropped, `max_frame_bytes` the size of the largest message that is read. A server
    that does not answer within `probe_timeout` may be starting, or legacy: then the legacy
    handshake is tried as well, but not over HTTP, where only an answer decides.
    `handshake_timeout` bounds both together. `drain_timeout` bounds
    the last writes and log messages at the end. `shutdown_grace` is how long a server
    process has to exit by itself, and again after SIGTERM. `pause_while_asking` lets the timeouts of a call
    stand still while a handler of this client answers a question of the server. `cache_bytes` is how much of
    what a modern server lets its clients keep (its lists, and resources) is kept for as long as the server
    says; with 0 nothing is. With `validate_results`, which needs the extra `validation`, a structured result
    that does not fit the outputSchema of its tool is an error. `max_pages` is the number of pages after which
    a list is taken for endless.
    """

    progress: ProgressPolicy = attrs.field(factory=Conflate, validator=_check_policy)
    log_buffer: int = attrs.field(default=1024, validator=check_count)
    max_frame_bytes: int = attrs.field(default=DEFAULT_FRAME_BYTES, validator=check_count)
    probe_timeout: float = attrs.field(default=5.0, validator=check_positive)
    handshake_timeout: float = attrs.field(default=60.0, validator=check_positive)
    drain_timeout: float = attrs.field(default=DEFAULT_DRAIN_SECONDS, validator=check_positive)
    shutdown_grace: float = attrs.field(default=2.0, validator=check_positive)
    pause_while_asking: bool = True
    cache_bytes: int = attrs.field(default=DEFAULT_CACHE_BYTES, validator=check_not_negative)
    validate_results: bool = False
    max_pages: int = attrs.field(default=1000, validator=check_count)
