"""The settings of a client: every cap and time has a name here.

Owns defaults and their reasons.
"""

from __future__ import annotations

from typing import Any

import attrs

from trio_mcp.outgoing.policy import Conflate, ProgressPolicy
from trio_mcp.session.settings import DEFAULT_DRAIN_SECONDS, DEFAULT_FRAME_BYTES
from trio_mcp.validators import check_count, check_positive


def _check_policy(instance: Any, attribute: attrs.Attribute[Any], value: ProgressPolicy) -> None:
    if isinstance(value, Conflate) and value.min_interval:
        raise ValueError("min_interval is for servers: here, updates have travelled already")


@attrs.frozen(kw_only=True)
class ClientSettings:
    """How a client runs. Sizes in bytes, times in seconds.

    `progress` is the policy for updates that wait for a progress handler. `log_buffer`
    is the number of log messages that may wait for the log handler before the oldest
    are dropped, `max_frame_bytes` the largest message that is read. `probe_timeout` is
    how long a silent server is waited for before the legacy handshake is tried as well
    (it may just be starting), `handshake_timeout` bounds both. `drain_timeout` bounds
    the last writes and log messages at the end. `shutdown_grace` is what a server
    process gets to exit by itself, and again after SIGTERM.
    """

    progress: ProgressPolicy = attrs.field(factory=Conflate, validator=_check_policy)
    log_buffer: int = attrs.field(default=1024, validator=check_count)
    max_frame_bytes: int = attrs.field(default=DEFAULT_FRAME_BYTES, validator=check_count)
    probe_timeout: float = attrs.field(default=5.0, validator=check_positive)
    handshake_timeout: float = attrs.field(default=60.0, validator=check_positive)
    drain_timeout: float = attrs.field(default=DEFAULT_DRAIN_SECONDS, validator=check_positive)
    shutdown_grace: float = attrs.field(default=2.0, validator=check_positive)
