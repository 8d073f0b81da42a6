"""`create_proxy`: a server that passes on what other servers offer.

Owns what it is made of: the upstream servers, and the lifespan in which they are connected to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, cast

import attrs

from trio_mcp.client.client import Client
from trio_mcp.client.link import Link
from trio_mcp.client.server_entry import ServerEntry
from trio_mcp.client.target import Target
from trio_mcp.concurrency.nursery import open_service_nursery, open_unwrapping_nursery
from trio_mcp.outgoing.policy import Lossless
from trio_mcp.proxy.catalogue import Catalogue
from trio_mcp.proxy.definitions import ProxyResources
from trio_mcp.proxy.entries import Entry, ForwardHeaders, read_entries
from trio_mcp.proxy.forwarding import LinkForwarder
from trio_mcp.proxy.proxy_run import UpstreamRun
from trio_mcp.proxy.subscriptions import RelayedSubscriptions, WantedResources, WatchedAudience
from trio_mcp.server.context import Context
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.server import Server
from trio_mcp.session.settings import OfferedKind, ServerSettings
from trio_mcp.tasks.settings import TaskSettings
from trio_mcp.tasks.store import TaskStore

LIFESPAN_KEY: Final = "trio_mcp.proxy"
"""Where a proxy's lifespan keeps the upstream servers, by their names."""

PLACES: Final = 1000
"""How many proxied tasks run at once by default: each only waits for another server."""


TASK_SECONDS: Final = 86_400.0
"""How long a task is kept by default: longer than by most servers, whose own time counts if it is known."""


def create_proxy(
    target: Target | Client | ServerEntry | Mapping[str, Any],
    *,
    name: str | None = None,
    version: str | None = None,
    instructions: str | None = None,
    settings: ServerSettings | None = None,
    task_settings: TaskSettings | None = None,
    task_store: TaskStore | None = None,
    forward_headers: ForwardHeaders | None = None,
    **options: Any,
) -> Server:
    """Make a server that passes on what the server `target` offers.

    `target` is a target of `open_client`, a `ServerEntry`, or a client that is open. Several servers are
    given as targets or entries by name, or as the object with `mcpServers` that hosts use; the names of their
    tools and prompts then begin with that name and an underscore, or with the `prefix` of the `ServerEntry`.
    `options` are keyword arguments of `open_client`, for every server: `headers`, `auth`, `protocol` and the
    like; its `settings` are here `client_settings`.

    The proxy is a `Server` like any other: it can be served, mounted and given middleware and tools of its
    own. It connects when it begins to run, and connects again if a connection is lost. Without `name` it
    shows itself as the server that it stands for. Progress is `Lossless` on both sides, unless the settings
    say otherwise.

    No header and no credential of a client is handed on, unless `forward_headers` names it. It may also be a
    function, sync or async, that gets the `Context` of a request and returns the headers to send, for example
    with another token. Then each client has connections of its own. It is for URLs.

    Raises TypeError for options that do not exist or make no sense here, and ValueError for prefixes that are
    none and for what is wrong in the JSON.
    """
    entries = read_entries(target, options, forward_headers)
    is_single = len(entries) == 1 and not isinstance(target, Mapping)
    server = Server(
        name or "proxy",
        version=version,
        instructions=instructions,
        settings=settings or ServerSettings(progress=Lossless()),
        task_settings=task_settings
        or TaskSettings(
            max_running=PLACES,
            max_running_per_owner=PLACES * 3 // 4,
            max_unfinished_per_owner=PLACES,
            ttl=TASK_SECONDS,
        ),
        task_store=task_store,
    )
    proxy = _Proxy(server, entries, is_single=is_single, shows_upstream=is_single and name is None)
    server.lifespan(proxy.open)
    return server


class _Proxy:
    """The upstream servers of one definition, and what opens them each time it runs."""

    def __init__(
        self, server: Server, entries: Sequence[Entry], *, is_single: bool, shows_upstream: bool
    ) -> None:
        self._definition: ServerDefinition = server.definition
        self._is_single = is_single
        self._shows_upstream = shows_upstream
        self._given_instructions = server.instructions is not None
        self._entries = entries
        self._wanted = WantedResources()
        self._definition.changes.make_audience = partial(WatchedAudience, self._wanted)
        resources = ProxyResources()
        self._definition.resources = resources
        self._catalogues = []
        for entry in entries:
            forwarder = LinkForwarder(entry.name, partial(_find_run, entry.name))
            catalogue = Catalogue(
                entry.name, self._definition, forwarder, entry.prefix, partial(self._note_connected, entry)
            )
            self._catalogues.append(catalogue)
            if is_single:
                resources.fallback = forwarder

    @asynccontextmanager
    async def open(self, server: Server) -> AsyncIterator[dict[str, Any]]:
        """The lifespan: stay connected to all servers; checkpoints.

        Raises what connecting raises, if there is only one server; one of several is logged and tried again.
        """
        async with open_service_nursery() as nursery:
            runs: dict[str, UpstreamRun] = {}
            for entry, catalogue in zip(self._entries, self._catalogues, strict=True):
                subscriptions = RelayedSubscriptions(
                    entry.name, self._definition, self._wanted, catalogue.has_resource
                )
                runs[entry.name] = UpstreamRun(
                    entry, catalogue, subscriptions.follow, nursery, is_required=self._is_single
                )
            first, *others = runs.values()
            async with open_unwrapping_nursery() as starting:
                for run in others:
                    starting.start_soon(nursery.start, run.upstream.run)
                await nursery.start(first.upstream.run)
            yield {LIFESPAN_KEY: runs}
            nursery.cancel_scope.cancel()

    def _note_connected(self, entry: Entry, link: Link) -> None:
        """Show what a server says of itself, as far as the program has said nothing else."""
        agreement = link.agreement
        definition = self._definition
        if self._shows_upstream and agreement.server_info is not None:
            definition.info = agreement.server_info
        if self._is_single and not self._given_instructions:
            definition.instructions = agreement.instructions
        offered: tuple[OfferedKind, ...] = ("prompts", "resources", "completions")
        declared = [kind for kind in offered if kind in agreement.capabilities]
        missing = [kind for kind in declared if kind not in definition.settings.offers]
        if missing:
            offers = (*definition.settings.offers, *missing)
            definition.settings = attrs.evolve(definition.settings, offers=offers)


def _find_run(name: str, context: Context) -> UpstreamRun:
    runs = context.lifespan[LIFESPAN_KEY]
    return cast(UpstreamRun, runs[name])
