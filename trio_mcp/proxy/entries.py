"""The upstream servers of a proxy, as a program names them, and how each is connected to.

Owns the reading of the target and the options of `create_proxy`. Refuses to know who connects, and when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol

import attrs

from trio_mcp.client.client import Client
from trio_mcp.client.connector import Connector
from trio_mcp.client.link import Link
from trio_mcp.client.mcp_servers import MEMBER, read_mcp_servers
from trio_mcp.client.negotiation import find_era
from trio_mcp.client.server_entry import ServerEntry, check_options
from trio_mcp.client.server_reader import link_of
from trio_mcp.client.server_requests import Answering
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import Target, UrlOptions
from trio_mcp.outgoing.policy import Lossless
from trio_mcp.version import __version__
from trio_mcp.wire.messages import Implementation

ONLY: Final = "upstream"
"""The name of a server that is the only one, in messages."""

_OWN_OPTIONS: Final = frozenset(
    {
        "change_handler",
        "elicitation_handler",
        "elicitation_url_handler",
        "log_handler",
        "log_level",
        "progress_handler",
        "roots",
        "sampling_handler",
        "sampling_tools",
    }
)
"""Options of `open_client` that make no sense here: the proxy asks and tells its own clients."""

_URL_OPTIONS: Final = ("headers", "auth", "http_client", "ssl_context", "allow_redirects_to", "transport")


class Connect(Protocol):
    """Opens connections to one server."""

    def __call__(self, answering: Answering) -> AbstractAsyncContextManager[Link]:
        """Connect for as long as the block lasts; `answering` answers what the server asks."""


@attrs.frozen
class Entry:
    """An upstream server; if it `is_borrowed`, its only connection is that of a client of the program."""

    name: str
    prefix: str
    connect: Connect = attrs.field(repr=False)
    is_borrowed: bool = False


def read_entries(
    target: Target | Client | ServerEntry | Mapping[str, Any], options: Mapping[str, Any]
) -> list[Entry]:
    """The upstream servers of a proxy; raises TypeError and ValueError for what is none."""
    if isinstance(target, Client):
        if options:
            raise TypeError(f"{next(iter(options))}= makes no sense for a client that is open")
        return [Entry(ONLY, "", partial(_borrow, target), is_borrowed=True)]
    if not isinstance(target, Mapping):
        entry = ServerEntry.of(target)
        prefix = "" if entry.prefix is None else entry.full_prefix(ONLY)
        return [Entry(ONLY, prefix, _make_connect(entry, options))]
    servers = read_mcp_servers(target) if isinstance(target.get(MEMBER), Mapping) else target
    found = [(name, ServerEntry.of(one)) for name, one in servers.items()]
    return [Entry(name, one.full_prefix(name), _make_connect(one, options)) for name, one in found]


@asynccontextmanager
async def _borrow(client: Client, answering: Answering) -> AsyncIterator[Link]:
    yield link_of(client)


def _make_connect(entry: ServerEntry, options: Mapping[str, Any]) -> Connect:
    given = dict(options)
    settings = given.pop("client_settings", None)
    check_options(given)
    given.update(entry.options)
    for name in given:
        if name in _OWN_OPTIONS:
            raise TypeError(f"{name}= makes no sense for a proxy: it asks and tells its own clients")
    pinned = find_era(given.get("protocol", "auto"))
    connector = Connector(
        entry.target,
        given.get("settings") or settings or ClientSettings(progress=Lossless()),
        UrlOptions(**{name: given[name] for name in _URL_OPTIONS if name in given}),
        info=given.get("client_info") or Implementation(name="trio_mcp", version=__version__),
        log_handler=None,
        log_level="info",
        on_error=given.get("on_error"),
        answering=Answering(),
        era_cache=given.get("era_cache"),
    )
    extension = connector.options.extension

    def connect(answering: Answering) -> AbstractAsyncContextManager[Link]:
        known = answering if extension is None else attrs.evolve(answering, extension=extension)
        return attrs.evolve(connector, answering=known).open(pinned)

    return connect
