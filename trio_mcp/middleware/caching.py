"""Results that a server gives again for a while, without running anything.

Owns which results may be kept, for whom, and what makes them stale. How many of them are kept, and how
requests for the same one wait for each other, is in `kept_results.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Hashable
from threading import Lock
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import UNSET

from trio_mcp.middleware.kept_results import KeptResults, Key
from trio_mcp.server.changes import LIST_CHANGES, Change, ListChanges
from trio_mcp.server.request_middleware import RequestContext
from trio_mcp.validators import require_count, require_positive
from trio_mcp.wire.codec import UNENCODABLE
from trio_mcp.wire.messages import (
    META_IDEMPOTENCY_KEY,
    META_WANTS_TASK,
    CallToolParams,
    CallToolResult,
    ListParams,
    ListToolsResult,
    ReadResourceParams,
    Result,
)
from trio_mcp.wire.prompts import ListPromptsResult
from trio_mcp.wire.resources import ListResourcesResult, ListResourceTemplatesResult, ReadResourceResult

R = TypeVar("R", bound=Result)

MAX_BYTES: Final = 16 * 1024 * 1024

_KEPT: Final[dict[str, type[Result]]] = {
    "tools/call": CallToolResult,
    "tools/list": ListToolsResult,
    "prompts/list": ListPromptsResult,
    "resources/list": ListResourcesResult,
    "resources/templates/list": ListResourceTemplatesResult,
    "resources/read": ReadResourceResult,
}
"""The methods whose results may be kept, and the results that are what was asked for."""

_STALE: Final[dict[Change, tuple[str, ...]]] = {
    LIST_CHANGES["tools"]: ("tools/list", "tools/call"),
    LIST_CHANGES["prompts"]: ("prompts/list",),
    LIST_CHANGES["resources"]: ("resources/list", "resources/templates/list", "resources/read"),
}
"""What a change of a list makes stale."""


class Caching:
    """Keeps results of read-only tools, of resources and of lists for `ttl` seconds; for `add_middleware`.

    `tools` are the names of the tools whose results are kept; None for those that are annotated with
    `read_only_hint` and not `open_world_hint`, and () for none. `resources` and `lists` say whether what
    resources hold, and lists, are kept. A result is given again to the same principal with the same scopes
    and in the same revision, for the same parameters; all anonymous clients are given the same. If a result
    depends on more, such as a header, `key(ctx)` returns it, or None for a request that is not cached.

    Requests for the same that come while the first one runs wait for its result. Errors, background tasks,
    calls with an idempotency key and those that go on after a question are not kept. Whoever is given a kept
    result sees no progress of it. Changes of the server's lists, and `notify_resource_updated`, make what
    they concern stale at once. The results take at most `max_bytes` bytes; of more, the one that was used
    longest ago gives way.
    """

    def __init__(
        self,
        ttl: float = 60.0,
        *,
        tools: Collection[str] | None = None,
        resources: bool = True,
        lists: bool = True,
        key: Callable[[RequestContext], Hashable] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        require_positive("ttl", ttl)
        require_count("max_bytes", max_bytes)
        if isinstance(tools, str):
            raise TypeError(f"tools must be a collection of names, not the text {tools!r}")
        self._ttl = ttl
        self._tools = None if tools is None else frozenset(tools)
        self._resources = resources
        self._lists = lists
        self._key = key
        self._kept = KeptResults(max_bytes)
        self._heard: tuple[ListChanges, ...] = ()
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Caching for {self._ttl:g} seconds: {self._kept!r}>"

    @property
    def hits(self) -> int:
        """How many requests were answered by a kept result, or by that of a request that ran already."""
        return self._kept.hits

    def clear(self) -> None:
        """Forget all results; from any thread."""
        self._kept.forget(lambda key: True)

    def tell(self, change: Change) -> None:
        """Forget what a change makes stale; it comes from any thread."""
        _, uri = change
        if uri is None:
            stale = _STALE.get(change, ())
            self._kept.forget(lambda key: key.method in stale)
        else:
            self._kept.forget(lambda key: key.method == "resources/read" and _is_at_or_below(uri, key.name))

    async def __call__(
        self, ctx: RequestContext, call_next: Callable[[RequestContext], Awaitable[Result]]
    ) -> Result:
        """Return a kept result, or what `call_next` does; raises what that raises."""
        key = self._find_key(ctx)
        if key is None:
            return await call_next(ctx)
        self._listen(ctx)
        return await self._kept.find(key, self._ttl, ctx, call_next, _KEPT[ctx.method])

    def _listen(self, ctx: RequestContext) -> None:
        changes = ctx.server.definition.changes
        if changes not in self._heard:
            with self._lock:
                if changes not in self._heard:
                    changes.pass_to(self)
                    self._heard = (*self._heard, changes)

    def _find_key(self, ctx: RequestContext) -> Key | None:
        """What the result depends on; None if it is not to be kept."""
        params = ctx.params
        name, arguments = "", b""
        if isinstance(params, CallToolParams):
            if not self._keeps_tool(ctx, params):
                return None
            name, arguments = params.name, _sort(params.arguments)
        elif isinstance(params, ReadResourceParams):
            if not self._resources or _continues(params):
                return None
            name = params.uri
        elif ctx.method in _KEPT:
            if not self._lists or not isinstance(params, ListParams):
                return None
            name = params.cursor or ""
        else:
            return None
        own = None
        if self._key is not None:
            own = self._key(ctx)
            if own is None:
                return None
        principal = ctx.principal
        whom = None if principal is None else (principal.name, principal.scopes)
        place = (ctx.server, trio.lowlevel.current_trio_token())
        return Key(ctx.method, name, arguments, ctx.protocol_version, whom, own, place)

    def _keeps_tool(self, ctx: RequestContext, params: CallToolParams) -> bool:
        meta = ctx.request_meta
        if _continues(params) or params.task is not UNSET:
            return False
        if META_IDEMPOTENCY_KEY in meta or META_WANTS_TASK in meta:
            return False
        if self._tools is not None:
            return params.name in self._tools
        tool = ctx.server.tools.get(params.name)
        hints = None if tool is None else tool.listing.annotations
        return hints is not None and hints.read_only_hint is True and hints.open_world_hint is not True


def _continues(params: CallToolParams | ReadResourceParams) -> bool:
    return params.request_state is not UNSET or params.input_responses is not UNSET


def _sort(arguments: msgspec.Raw | msgspec.UnsetType) -> bytes:
    """The same bytes for the same arguments, in whatever order they are written."""
    if isinstance(arguments, msgspec.UnsetType):
        return b"{}"
    try:
        return msgspec.json.encode(msgspec.json.decode(arguments), order="sorted")
    except (msgspec.MsgspecError, *UNENCODABLE):
        return bytes(arguments)


def _is_at_or_below(uri: str, name: str) -> bool:
    """Whether `name` is the resource `uri`, or a part of it."""
    return name == uri or name.startswith(uri if uri.endswith("/") else f"{uri}/")
