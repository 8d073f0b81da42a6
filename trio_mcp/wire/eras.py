"""The protocol eras as tables: which revision has which methods and habits.

Owns every difference between revisions that a server or client must act on.
Nothing outside `wire` compares version strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs

from trio_mcp.wire.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND
from trio_mcp.wire.messages import (
    META_SERVER_INFO,
    CacheableResult,
    CallToolParams,
    CompleteParams,
    GetPromptParams,
    Implementation,
    InitializeParams,
    ListenParams,
    ListParams,
    Params,
    ReadResourceParams,
    Result,
    SetLevelParams,
    SubscribeParams,
    TaskIdParams,
    UpdateTaskParams,
)

_LEGACY_REQUESTS: Final[Mapping[str, type[Params]]] = {
    "initialize": InitializeParams,
    "ping": Params,
    "logging/setLevel": SetLevelParams,
    "tools/list": ListParams,
    "tools/call": CallToolParams,
    "prompts/list": ListParams,
    "prompts/get": GetPromptParams,
    "completion/complete": CompleteParams,
    "resources/list": ListParams,
    "resources/templates/list": ListParams,
    "resources/read": ReadResourceParams,
    "resources/subscribe": SubscribeParams,
    "resources/unsubscribe": SubscribeParams,
}
_LEGACY_TASK_REQUESTS: Final[Mapping[str, type[Params]]] = {
    **_LEGACY_REQUESTS,
    "tasks/get": TaskIdParams,
    "tasks/result": TaskIdParams,
    "tasks/list": ListParams,
    "tasks/cancel": TaskIdParams,
}
_MODERN_REQUESTS: Final[Mapping[str, type[Params]]] = {
    "server/discover": Params,
    "tools/list": ListParams,
    "tools/call": CallToolParams,
    "prompts/list": ListParams,
    "prompts/get": GetPromptParams,
    "completion/complete": CompleteParams,
    "resources/list": ListParams,
    "resources/templates/list": ListParams,
    "resources/read": ReadResourceParams,
    "tasks/get": TaskIdParams,
    "tasks/update": UpdateTaskParams,
    "tasks/cancel": TaskIdParams,
    "subscriptions/listen": ListenParams,
}


@attrs.frozen
class Era:
    """One protocol revision.

    `modern` revisions carry version, client and capabilities in every request's
    `_meta`; the others agree on them once, in `initialize`. `tasks` is the protocol
    of its background tasks. `unreadable_id` says how an error answers a message
    whose id could not be read. `primes` says that clients understand an event without data
    at the beginning of a stream over HTTP. `unknown_resource` is the code of the error for a URI that
    names no resource.
    """

    version: str
    modern: bool
    requests: Mapping[str, type[Params]] = attrs.field(repr=False)
    tasks: Literal["none", "legacy", "extension"] = "none"
    batches: bool = False
    unreadable_id: Literal["absent", "null"] = "absent"
    primes: bool = False
    unknown_resource: int = RESOURCE_NOT_FOUND

    def stamp(self, result: Result, server_info: Implementation) -> None:
        """Add the members that this revision requires in every result (MCP base protocol, "ResultType")."""
        if not self.modern:
            return
        if result.result_type is None:
            result.result_type = "complete"
        result.meta = {**(result.meta or {}), META_SERVER_INFO: server_info}
        if isinstance(result, CacheableResult) and result.ttl_ms is None:
            result.ttl_ms, result.cache_scope = 0, "private"


_ALL: Final = (
    Era(
        "2026-07-28",
        modern=True,
        requests=_MODERN_REQUESTS,
        tasks="extension",
        unknown_resource=INVALID_PARAMS,
    ),
    Era("2025-11-25", modern=False, requests=_LEGACY_TASK_REQUESTS, tasks="legacy", primes=True),
    Era("2025-06-18", modern=False, requests=_LEGACY_REQUESTS, unreadable_id="null"),
    Era("2025-03-26", modern=False, requests=_LEGACY_REQUESTS, unreadable_id="null", batches=True),
    Era("2024-11-05", modern=False, requests=_LEGACY_REQUESTS, unreadable_id="null"),
)
ERAS: Final[Mapping[str, Era]] = {era.version: era for era in _ALL}
"""Every served revision by its version string, newest first."""

PARAMS: Final[Mapping[str, type[Params]]] = {
    method: params for era in _ALL for method, params in era.requests.items()
}
"""The type of each method's parameters, which is the same in every era that has the method."""

LATEST_MODERN: Final = _ALL[0]
LATEST_LEGACY: Final = next(era for era in _ALL if not era.modern)
