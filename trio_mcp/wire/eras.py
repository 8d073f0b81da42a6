"""The protocol eras as tables: which revision has which methods and habits.

Owns every difference between revisions that a server or client must act on.
Nothing outside `wire` compares version strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from trio_mcp.wire.content import AudioContent, ContentBlock, ResourceLink, as_older_block
from trio_mcp.wire.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND
from trio_mcp.wire.messages import (
    META_SERVER_INFO,
    CacheableResult,
    CallToolParams,
    CallToolResult,
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

_COMMON_REQUESTS: Final[Mapping[str, type[Params]]] = {
    "tools/list": ListParams,
    "tools/call": CallToolParams,
    "prompts/list": ListParams,
    "prompts/get": GetPromptParams,
    "completion/complete": CompleteParams,
    "resources/list": ListParams,
    "resources/templates/list": ListParams,
    "resources/read": ReadResourceParams,
}
_LEGACY_REQUESTS: Final[Mapping[str, type[Params]]] = {
    "initialize": InitializeParams,
    "ping": Params,
    "logging/setLevel": SetLevelParams,
    **_COMMON_REQUESTS,
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
    **_COMMON_REQUESTS,
    "tasks/get": TaskIdParams,
    "tasks/update": UpdateTaskParams,
    "tasks/cancel": TaskIdParams,
    "subscriptions/listen": ListenParams,
}
_SAMPLING: Final = frozenset({"sampling/createMessage", "roots/list"})
_ELICITATION: Final = _SAMPLING | {"elicitation/create"}


class Era(Struct, frozen=True):
    """One protocol revision.

    `modern` revisions carry version, client and capabilities in every request's
    `_meta`; the others agree on them once, in `initialize`. `tasks` is the protocol
    of its background tasks. `unreadable_id` says how an error answers a message
    whose id could not be read. `primes` says that clients understand an event without data
    at the beginning of a stream over HTTP. `unknown_resource` is the code of the error for a URI that
    names no resource. `asks_widely` says that a server can ask by URL and let a model use tools;
    `identifies_urls`, that a question by URL has an id, by which its end is told. `questions` are the
    requests that a server may put to its client, and `asks_lists` says that a form may ask for several of
    some choices. `unknown_content` are the content blocks that clients of the revision cannot read.
    """

    version: str
    modern: bool
    requests: Mapping[str, type[Params]]
    tasks: Literal["none", "legacy", "extension"] = "none"
    batches: bool = False
    unreadable_id: Literal["absent", "null"] = "absent"
    primes: bool = False
    unknown_resource: int = RESOURCE_NOT_FOUND
    asks_widely: bool = False
    identifies_urls: bool = False
    questions: frozenset[str] = _ELICITATION
    asks_lists: bool = True
    unknown_content: tuple[type[ContentBlock], ...] = ()

    def __repr__(self) -> str:
        return f"<Era {self.version}>"

    def stamp(self, result: Result, server_info: Implementation) -> None:
        """Add the members that this revision requires in every result (MCP base protocol, "ResultType")."""
        if not self.modern:
            if self.unknown_content:
                self._replace_unknown(result)
            return
        if result.result_type is None:
            result.result_type = "complete"
        result.meta = {**(result.meta or {}), META_SERVER_INFO: server_info}
        if isinstance(result, CacheableResult) and result.ttl_ms is None:
            result.ttl_ms, result.cache_scope = 0, "private"

    def _replace_unknown(self, result: Result) -> None:
        """Replace content that the revision does not know by what says the same in other blocks."""
        if isinstance(result, CallToolResult):
            result.content = [self._known(block) for block in result.content]
        for message in getattr(result, "messages", ()):  # of a prompt, whose module not every server imports
            message.content = self._known(message.content)

    def _known(self, block: ContentBlock) -> ContentBlock:
        return as_older_block(block) if isinstance(block, self.unknown_content) else block


_ALL: Final = (
    Era(
        "2026-07-28",
        modern=True,
        requests=_MODERN_REQUESTS,
        tasks="extension",
        unknown_resource=INVALID_PARAMS,
        asks_widely=True,
    ),
    Era(
        "2025-11-25",
        modern=False,
        requests=_LEGACY_TASK_REQUESTS,
        tasks="legacy",
        primes=True,
        asks_widely=True,
        identifies_urls=True,
    ),
    Era("2025-06-18", modern=False, requests=_LEGACY_REQUESTS, unreadable_id="null", asks_lists=False),
    Era(
        "2025-03-26",
        modern=False,
        requests=_LEGACY_REQUESTS,
        unreadable_id="null",
        batches=True,
        questions=_SAMPLING,
        unknown_content=(ResourceLink,),
    ),
    Era(
        "2024-11-05",
        modern=False,
        requests=_LEGACY_REQUESTS,
        unreadable_id="null",
        questions=_SAMPLING,
        unknown_content=(AudioContent, ResourceLink),
    ),
)
ERAS: Final[Mapping[str, Era]] = {era.version: era for era in _ALL}
"""Every served revision by its version string, newest first."""

PARAMS: Final[Mapping[str, type[Params]]] = {
    method: params for era in _ALL for method, params in era.requests.items()
}
"""The type of each method's parameters, which is the same in every era that has the method."""

LATEST_MODERN: Final = _ALL[0]
LATEST_LEGACY: Final = next(era for era in _ALL if not era.modern)
