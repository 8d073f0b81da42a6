"""Whether a tool call is answered directly, becomes a task at once, or may become one.

Owns the table of that choice and what it reads in a request: what the client declares of
tasks, what it asks for, and who it is. What happens then is `task_run.py`'s business.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from trio_mcp.errors import ProtocolError
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.record import BEARER, Owner
from trio_mcp.tasks.rendering import MILLISECONDS
from trio_mcp.tasks.settings import TaskConfig
from trio_mcp.wire.errors import INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CLIENT_CAPABILITY
from trio_mcp.wire.messages import META_WANTS_TASK, CallToolParams, TaskParams
from trio_mcp.wire.tasks import EXTENSION

MAX_TTL: Final = 10**15
"""In milliseconds, some thirty thousand years: a longer time is a mistake."""


class Choice(enum.Enum):
    """How a tool call is answered."""

    ANSWER = "with its result"
    TASK = "with a task"
    PROMOTE = "with its result, or with a task if the handler takes too long or needs one"


_CHOICES: Final[Mapping[str, Mapping[tuple[str, bool], Choice | int]]] = {
    # (the tool's mode, whether the client can have or asks for a task) -> the choice, or an error code
    "none": {
        ("forbidden", False): Choice.ANSWER,
        ("optional", False): Choice.ANSWER,
        ("required", False): METHOD_NOT_FOUND,
    },
    "legacy": {
        ("forbidden", False): Choice.ANSWER,
        ("forbidden", True): METHOD_NOT_FOUND,
        ("optional", False): Choice.ANSWER,
        ("optional", True): Choice.TASK,
        ("required", False): METHOD_NOT_FOUND,
        ("required", True): Choice.TASK,
    },
    "extension": {
        ("forbidden", False): Choice.ANSWER,
        ("forbidden", True): Choice.ANSWER,
        ("optional", False): Choice.ANSWER,
        ("optional", True): Choice.PROMOTE,
        ("required", False): MISSING_CLIENT_CAPABILITY,
        ("required", True): Choice.TASK,
    },
}
"""The choice by the era's protocol of tasks."""


def choose(request: ServerRequest, tool: str, config: TaskConfig | None) -> Choice:
    """How to answer a call of `tool`; raises ProtocolError if the era forbids what was asked."""
    era = request.era
    if config is None and era.tasks == "extension":  # as the table says; most calls are such
        return Choice.ANSWER
    mode = "forbidden" if config is None else config.mode
    wants = _WANTS[era.tasks](request)
    choice = _CHOICES[era.tasks][mode, wants]
    if isinstance(choice, int):
        if choice == MISSING_CLIENT_CAPABILITY:
            raise missing_extension()
        words = "cannot run as a task" if wants else "runs as a task only"
        raise ProtocolError(choice, f"tool {tool!r} {words}")
    if choice is Choice.PROMOTE and (
        META_WANTS_TASK in request.meta.values or (config is not None and config.promote_after == 0)
    ):
        return Choice.TASK
    return choice


def _asks(request: ServerRequest) -> bool:
    assert isinstance(request.params, CallToolParams)
    return not isinstance(request.params.task, msgspec.UnsetType)


def declares_tasks(request: ServerRequest) -> bool:
    """Whether the client can handle tasks of the extension."""
    extensions = request.meta.client_capabilities.get("extensions")
    return isinstance(extensions, Mapping) and EXTENSION in extensions


_WANTS: Final[Mapping[str, Callable[[ServerRequest], bool]]] = {
    "none": lambda request: False,
    "legacy": _asks,
    "extension": declares_tasks,
}
"""Whether the client can have a task, or asks for one, by the era's protocol of tasks."""


def missing_extension() -> ProtocolError:
    """The error for a client that has not declared the tasks extension."""
    required: dict[str, Any] = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
    return ProtocolError(MISSING_CLIENT_CAPABILITY, "this needs the tasks extension", required)


def read_ttl(request: ServerRequest) -> float | None:
    """How long the client wants the task to be kept, in seconds; None if it does not say.

    The extension has no such wish, so there it is ignored (SEP-2663). Raises ProtocolError
    if what the client says is no such time.
    """
    assert isinstance(request.params, CallToolParams)
    if request.era.tasks != "legacy" or isinstance(request.params.task, msgspec.UnsetType):
        return None
    try:
        ttl = msgspec.json.decode(request.params.task, type=TaskParams).ttl
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(INVALID_PARAMS, f"task: {error}") from None
    if ttl is not None and not 0 < ttl <= MAX_TTL:
        raise ProtocolError(INVALID_PARAMS, "task.ttl must be a positive number of milliseconds")
    return None if ttl is None else ttl / MILLISECONDS


def find_owner(request: ServerRequest) -> Owner:
    """The owner of a task that `request` makes, and who asks if it asks for a task."""
    connection = request.connection
    owner = connection.owner
    if owner is not None:
        return Owner("principal", owner)
    # Without an authorization context the id alone admits (MCP tasks, "Security"); it cannot be guessed. A
    # session, in the eras that have one, bounds what tasks/list shows, and nothing else.
    return BEARER if request.era.modern else Owner("bearer", connection.session_id)


def find_payer(request: ServerRequest) -> Owner:
    """For whom a task of `request` is counted: a principal, or the peer if it is anonymous."""
    connection = request.connection
    owner = connection.owner
    if owner is not None:
        return Owner("principal", owner)
    return Owner("bearer", connection.peer or connection.session_id)
