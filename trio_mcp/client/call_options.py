"""The keyword arguments that the verbs of a client have in common, for type checkers.

Owns their names and types. What they mean is said by the methods that take them.
"""

from __future__ import annotations

from typing import Literal, Required, TypedDict

from trio_mcp.handlers.sink import ProgressHandler, ProgressSink


class TimeOptions(TypedDict, total=False):
    """How long a request may take."""

    idle_timeout: float | None
    max_timeout: float | None


class RequestOptions(TimeOptions, total=False):
    """The options of a request that may report progress: a prompt, a resource, a completion."""

    progress_handler: ProgressHandler | ProgressSink | None


class ReadOptions(RequestOptions, total=False):
    """The options of `read_resource`."""

    refresh: bool


class WaitOptions(TimeOptions, total=False):
    """The options of `TaskHandle.result`."""

    raise_on_error: bool | None


class AwaitOptions(WaitOptions, total=False):
    """The options of `await_task`."""

    progress_handler: ProgressHandler | ProgressSink | None


class StartCall(TimeOptions, total=False):
    """The options of `start_call`."""

    raise_on_error: bool
    idempotency_key: str | None


class CommonCall(StartCall, total=False):
    """The options of `call_tool`, whether it starts a task or not."""

    progress_handler: ProgressHandler | ProgressSink | None
    ttl: float | None


class PlainCall(CommonCall, total=False):
    """The options of a call whose result is waited for."""

    task: Literal[False]


class TaskCall(CommonCall, total=False):
    """The options of a call that starts a task."""

    task: Required[Literal[True]]


class AnyCall(CommonCall, total=False):
    """The options of a call of which only the running program knows whether it starts a task."""

    task: Required[bool]
