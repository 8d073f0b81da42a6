"""The settings of a server: every cap and every time has a name here.

Owns the defaults and their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import msgspec

from trio_mcp.outgoing.policy import SERVER_POLICIES, Conflate, ProgressCall, ServerPolicy
from trio_mcp.validators import (
    check_count,
    check_not_negative,
    check_positive,
    require_interval,
)
from trio_mcp.wire.messages import CacheableResult
from trio_mcp.wire.value_count import MAX_VALUES

if TYPE_CHECKING:  # imported when a call first asks its client
    from trio_mcp.session.used_states import UsedStates

DEFAULT_FRAME_BYTES: Final = 64 * 1024 * 1024
"""The cap of one message that a client reads: room for a large file as base64."""

DEFAULT_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""The cap of one message that a server reads: decoding a longer text would hold up others for too long."""

DEFAULT_DRAIN_SECONDS: Final = 2.0
"""How long the end of a session waits for a peer that reads slowly."""

DEFAULT_CLEANUP_SECONDS: Final = 10.0
"""How long what a handler depends on may take to clean up, also if nobody waits for the answer any more."""

OfferedKind: TypeAlias = Literal["prompts", "resources", "completions"]
_OFFERED_KINDS: Final = ("prompts", "resources", "completions")


class CacheHint(msgspec.Struct, frozen=True):
    """How long clients may keep a result, in seconds, and who may be given it (MCP caching).

    The scope "private" is the authorization under which it was asked for; "public" is everybody. Raises
    ValueError for another scope, and unless `ttl` is a finite number of at least 0.
    """

    ttl: float
    scope: Literal["public", "private"] = "private"

    def __post_init__(self) -> None:
        require_interval("ttl", self.ttl)
        if self.scope not in ("public", "private"):
            raise ValueError(f'scope must be "public" or "private", not {self.scope!r}')

    def mark(self, result: CacheableResult) -> None:
        """Write it into a result of the modern era."""
        result.ttl_ms, result.cache_scope = round(self.ttl * 1000), self.scope


def _check_offers(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if isinstance(value, str) or not set(value) <= set(_OFFERED_KINDS):
        raise ValueError(f"{attribute.name} must be some of {', '.join(_OFFERED_KINDS)}, not {value!r}")


_OPTIONAL_HINT: Final = attrs.validators.optional(attrs.validators.instance_of(CacheHint))


DEFAULT_STATE_BYTES: Final = 1024 * 1024
"""The cap of a `requestState`: room for answers of a model with a picture, and the client sends it back."""

MIN_KEY_BYTES: Final = 32
"""The least length of a secret, so that it is no word that somebody could guess."""


def _read_keys(keys: Sequence[bytes | str]) -> tuple[bytes | str, ...]:
    if isinstance(keys, (bytes, str)):
        raise TypeError("state_keys must be a list of keys, not a single one")
    for key in keys:
        if not isinstance(key, (bytes, str)):
            raise TypeError(f"a key of state_keys must be bytes or text, not {type(key).__name__}")
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(
                f"a key of state_keys must have at least {MIN_KEY_BYTES} bytes, not {len(key)}: "
                "secrets.token_urlsafe(32) makes a good one"
            )
    return tuple(keys)


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
    (what is counted is commas and opening brackets outside of texts). `max_subscribed_uris` is to how many
    resource URIs one client may be subscribed: a principal, or an anonymous client's address over HTTP and
    WebSocket (a reverse proxy is one address), its wire otherwise. `thread_limit` is the
    number of sync tools that run at once. `drain_timeout` bounds the last writes of a session.
    `deadline_margin` is how long before the deadline of its client a handler is cancelled, at
    most; a tenth of the time if that is less. `pause_while_asking` lets neither that deadline nor the
    `timeout` of a task come nearer while the client is asked something. `cleanup_timeout` bounds the cleanup
    of what a handler has by `Depends`. `show_errors` lets clients see what
    an unexpected exception said. `turn_clock()` returns seconds: by it a reporter knows that it should yield,
    and a writer that it has collected for long enough. Both decide which changes leave together,
    so tests may count instead: `trio_mcp.testing.StepClock`.
    `state_keys` seal the `requestState` that a client carries between the rounds of a call that asks it
    (MCP multi round-trip requests): secrets of at least 32 bytes, of which the first seals and all open, so
    that replicas share them and keys can be rotated. Without any it is a random key of each running server.
    A state can be used for `state_ttl` seconds, and is not longer than `max_state_bytes`. Each is used once:
    `used_states` remembers which were, in this process if it is None.
    `dereference_schemas` puts the schemas of classes into those that use them, for hosts that drop
    `$defs`; it counts when a tool is registered. So does `unknown_metadata`: whether an object in `Annotated`
    that means nothing to this package is refused ("refuse"), or has no effect ("ignore").

    `page_size` is the number of tools, prompts or resources in one answer; None for all. `list_cache` is how
    long clients may keep a list, and `read_cache` what they read of a resource that has no hint of its own;
    None for not at all. `offers` are the kinds that the server declares although it has none yet: "prompts",
    "resources" and "completions".
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
    # With the longest URI, 32 MiB.
    max_subscribed_uris: int = attrs.field(default=4096, validator=check_count)
    thread_limit: int = attrs.field(default=40, validator=check_count)
    drain_timeout: float = attrs.field(default=DEFAULT_DRAIN_SECONDS, validator=check_positive)
    # For the cleanup of the cancelled handler, and for the answer to arrive.
    deadline_margin: float = attrs.field(default=0.25, validator=check_not_negative)
    pause_while_asking: bool = True
    cleanup_timeout: float = attrs.field(default=DEFAULT_CLEANUP_SECONDS, validator=check_positive)
    show_errors: bool = False
    turn_clock: Callable[[], float] = perf_counter
    dereference_schemas: bool = True
    unknown_metadata: Literal["refuse", "ignore"] = attrs.field(
        default="refuse", validator=attrs.validators.in_(("refuse", "ignore"))
    )
    page_size: int | None = attrs.field(default=None, validator=attrs.validators.optional(check_count))
    list_cache: CacheHint | None = attrs.field(default=None, validator=_OPTIONAL_HINT)
    read_cache: CacheHint | None = attrs.field(default=None, validator=_OPTIONAL_HINT)
    offers: Collection[OfferedKind] = attrs.field(default=(), validator=_check_offers)
    state_keys: Sequence[bytes | str] = attrs.field(
        default=(), converter=_read_keys, repr=lambda keys: f"<{len(keys)} keys>"
    )
    # A person may have gone to lunch while a form is open.
    state_ttl: float = attrs.field(default=3600.0, validator=check_positive)
    max_state_bytes: int = attrs.field(default=DEFAULT_STATE_BYTES, validator=check_count)
    used_states: UsedStates | None = None
