"""The settings of an HTTP endpoint: every cap and time has a name here.

Owns defaults and their reasons.
"""

from __future__ import annotations

import attrs

from trio_mcp.session.settings import DEFAULT_REQUEST_BYTES
from trio_mcp.validators import check_count, check_positive
from trio_mcp.wire.value_count import MAX_VALUES


@attrs.frozen(kw_only=True)
class HttpSettings:
    """How an HTTP endpoint runs. Sizes in bytes, times in seconds.

    `max_body_bytes` is the largest request body, `body_timeout` how long one may take to
    arrive, and `max_values` how many numbers, texts and other values it may hold (what is counted
    is commas and opening brackets outside of texts). `max_buffered_bytes` is what is held of all
    bodies and WebSocket messages that are still arriving, not counting the first 64 KiB of each,
    and `max_buffered_bytes_per_peer` the same for one address.

    `quiet_timeout` is how long a response waits for its first message before it becomes an event
    stream, and `keep_alive` how often such a stream gets a comment while it has nothing to say,
    so that proxies keep it open.

    `max_streams` is the number of requests that are answered at once, `max_streams_per_peer`
    that of one address (a reverse proxy is one address). `max_sessions` and `max_sessions_per_peer` are
    the same for the sessions of legacy clients, also of those over HTTP+SSE, which end with their event
    stream; another ends when its client has not been heard of for `session_timeout`. `stream_buffer` is
    what one response stream of a legacy session may have waiting for its client, and again what it keeps
    for one that resumes; `kept_streams` is how many ended streams of a session can be resumed.
    `access_log` logs a line at INFO to the logger `trio_mcp.access` for each request and each WebSocket.
    """

    max_body_bytes: int = attrs.field(default=DEFAULT_REQUEST_BYTES, validator=check_count)
    body_timeout: float = attrs.field(default=30.0, validator=check_positive)
    max_values: int = attrs.field(default=MAX_VALUES, validator=check_count)
    # Thousands of usual requests; of the largest bodies four at a time, and two from one address.
    max_buffered_bytes: int = attrs.field(
        default=attrs.Factory(lambda self: 4 * self.max_body_bytes, takes_self=True), validator=check_count
    )
    max_buffered_bytes_per_peer: int = attrs.field(
        default=attrs.Factory(lambda self: 2 * self.max_body_bytes, takes_self=True), validator=check_count
    )
    quiet_timeout: float = attrs.field(default=3.0, validator=check_positive)
    # Shorter than the 60 s after which common proxies give up on a silent server.
    keep_alive: float = attrs.field(default=15.0, validator=check_positive)
    # Each costs a handler and a buffer of progress; far more than an event loop serves well.
    max_streams: int = attrs.field(default=8192, validator=check_count)
    max_streams_per_peer: int = attrs.field(default=4096, validator=check_count)
    max_sessions: int = attrs.field(default=2048, validator=check_count)
    max_sessions_per_peer: int = attrs.field(default=1024, validator=check_count)
    session_timeout: float = attrs.field(default=1800.0, validator=check_positive)
    # Some five hundred progress notifications.
    stream_buffer: int = attrs.field(default=65_536, validator=check_count)
    kept_streams: int = attrs.field(default=8, validator=check_count)
    access_log: bool = True
