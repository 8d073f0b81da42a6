"""The settings of background tasks: every cap and time has a name here.

Owns the defaults and their reasons, for a server and for a single tool. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, TypeAlias

import attrs

from trio_mcp.tasks.record import TaskRecord
from trio_mcp.tasks.stored_task import Recovery
from trio_mcp.validators import check_count, check_interval, check_not_negative, check_positive

StallAction: TypeAlias = Literal["log", "cancel"] | Callable[[TaskRecord, float], Awaitable[None] | None]
"""What is done if a task has stopped reporting."""

_optional_positive = attrs.validators.optional(check_positive)


def _check_action(instance: Any, attribute: attrs.Attribute[Any], value: StallAction) -> None:
    if value not in ("log", "cancel") and not callable(value):
        raise ValueError(f'{attribute.name} must be "log", "cancel" or a function, not {value!r}')


def _as_types(value: type[Exception] | Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    return (value,) if isinstance(value, type) else tuple(value)


def _check_types(instance: Any, attribute: attrs.Attribute[Any], value: tuple[Any, ...]) -> None:
    if not value or not all(isinstance(one, type) and issubclass(one, Exception) for one in value):
        raise ValueError(f"{attribute.name} must be exception types, not {value!r}")


@attrs.frozen(kw_only=True)
class Retry:
    """How a handler that fails is begun again in the same process. Times in seconds.

    The handler is begun `attempts` times at most, those in other processes included. Before the second
    attempt `backoff` seconds pass, and before each later one twice as many as before the last, up to
    `max_backoff`; of that time, a random part of up to a half is left out. `on` is one type of exception or
    several; an exception of another type ends the task. ProtocolError, ArgumentError and ReturnError always
    end it, because another attempt would end in the same way.

    Raises ValueError for fewer than two attempts, and for times that are negative.
    """

    attempts: int = attrs.field(default=3, validator=check_count)
    backoff: float = attrs.field(default=1.0, validator=check_interval)
    max_backoff: float = attrs.field(default=60.0, validator=check_interval)
    on: tuple[type[Exception], ...] = attrs.field(
        default=(Exception,), converter=_as_types, validator=_check_types
    )

    def __attrs_post_init__(self) -> None:
        if self.attempts < 2:
            raise ValueError(f"attempts must be at least 2, or nothing is tried again; it is {self.attempts}")

    def find_backoff(self, failed: int) -> float:
        """The longest time that may pass after attempt number `failed`."""
        # The exponent is bounded, because a float cannot hold every power.
        return min(self.backoff * 2.0 ** min(failed - 1, 64), self.max_backoff)


@attrs.frozen(kw_only=True)
class TaskConfig:
    """How one tool is run as a background task. Times in seconds.

    `mode` is "optional" (runs as a task if the client can have one), "required" or
    "forbidden". `ttl` is how long a record is kept from the task's creation, and the
    most that a client may ask for; None leaves it to the server. `poll_interval` is
    what clients that poll are asked to wait. `promote_after` lets a call of an
    optional tool answer directly when it is done within so many seconds, if the
    server decides (modern era); 0 makes a task at once. `timeout` ends an attempt that
    runs longer.

    `retry` says how a handler that fails is begun again in this process; None ends the task. `recover` says
    what becomes of a task whose process ends, if its store outlives the process: it fails, or it is begun
    again ("restart") as long as it was begun fewer than `attempts` times, those of `retry` included.
    If the server is told to end, the task is always begun again. A handler finds its attempt in
    `Context.attempt`.

    `on_stall` says what is done when a task has not reported for `stall_after` seconds: "log" warns,
    "cancel" ends the task with an error that says so, a function is called as
    `on_stall(record, seconds)`, sync or async; what it raises ends the task.

    `gather(ctx, arguments)` is an async function that runs before the task exists and
    may ask the client; what it returns is `ctx.gathered` in the tool. In the modern
    era it runs anew after each answer, so it should do nothing but ask. If another process
    begins the task again, the value comes back from JSON as the type of its return annotation.
    """

    mode: Literal["optional", "required", "forbidden"] = attrs.field(
        default="optional", validator=attrs.validators.in_(("optional", "required", "forbidden"))
    )
    ttl: float | None = attrs.field(default=None, validator=_optional_positive)
    poll_interval: float | None = attrs.field(default=None, validator=_optional_positive)
    promote_after: float = attrs.field(default=1.0, validator=check_not_negative)
    timeout: float | None = attrs.field(default=None, validator=_optional_positive)
    stall_after: float | None = attrs.field(default=None, validator=_optional_positive)
    on_stall: StallAction = attrs.field(default="log", validator=_check_action)
    gather: Callable[..., Awaitable[Any]] | None = None
    retry: Retry | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.instance_of(Retry))
    )
    recover: Recovery = attrs.field(default="fail", validator=attrs.validators.in_(("fail", "restart")))
    attempts: int = attrs.field(default=1, validator=check_count)

    def __attrs_post_init__(self) -> None:
        if self.recover == "restart" and self.attempts < 2:
            raise ValueError(
                'recover="restart" begins a task more than once, so attempts must be at least 2, '
                f"not {self.attempts}"
            )


@attrs.frozen(kw_only=True)
class TaskSettings:
    """How a server runs its background tasks. Times in seconds.

    `max_running` tasks run at once, `max_queued` more may wait for a place; beyond
    that a new one is refused. An owner is a principal, or an anonymous client: its address over
    HTTP and WebSocket, its wire otherwise. Of one owner at most `max_running_per_owner` tasks run, while
    those of others pass them; `max_unfinished_per_owner` run or wait, and a new one is refused beyond that;
    `max_kept_per_owner` records are kept, and its oldest ended task gives way beyond that.
    `ttl` is how long a record is kept if neither tool
    nor client says, `max_ttl` the most that a client may ask for. `shutdown_grace` is
    how long running tasks may go on when the server ends. `feed_buffer` is the number of
    reports of a task that may wait for a client that follows it, or that will;
    `history_reports` is the number that ended tasks together keep for that.
    `page_size` is the length of a page of the list.
    """

    max_running: int = attrs.field(default=100, validator=check_count)
    max_queued: int = attrs.field(default=1000, validator=check_not_negative)
    # Three quarters of max_running: whoever fills them for hours leaves others some to run in.
    max_running_per_owner: int = attrs.field(default=75, validator=check_count)
    # A quarter of all places: no client alone shuts out the others.
    max_unfinished_per_owner: int = attrs.field(default=275, validator=check_count)
    # A quarter of what the default store keeps.
    max_kept_per_owner: int = attrs.field(default=2500, validator=check_count)
    ttl: float = attrs.field(default=3600.0, validator=check_positive)
    max_ttl: float = attrs.field(default=86_400.0, validator=check_positive)
    poll_interval: float = attrs.field(default=1.0, validator=check_positive)
    shutdown_grace: float = attrs.field(default=1.0, validator=check_not_negative)
    feed_buffer: int = attrs.field(default=256, validator=check_count)
    # A thousand tasks of some thirty reports: a few megabytes.
    history_reports: int = attrs.field(default=32_768, validator=check_count)
    page_size: int = attrs.field(default=50, validator=check_count)
