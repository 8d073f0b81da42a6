"""The upstream servers of a proxy, as a program names them, and how each is connected to.

Owns the reading of the target and the options of `create_proxy`. Refuses to know who connects, and when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

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
from trio_mcp.server.context import Context
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


ForwardHeaders: TypeAlias = (
    Collection[str] | Callable[[Context], Mapping[str, str] | Awaitable[Mapping[str, str]]]
)
"""The names of headers that are handed on, or a function that makes those to send, sync or async."""


class Connect(Protocol):
    """Opens connections to one server."""

    def __call__(
        self, answering: Answering, headers: Mapping[str, str], /
    ) -> AbstractAsyncContextManager[Link]:
        """Connect for as long as the block lasts; `answering` answers what the server asks.

        `headers` are sent with each request, beside those that the program has given.
        """


@attrs.frozen
class Entry:
    """An upstream server; if it `is_borrowed`, its only connection is that of a client of the program.

    `forward_headers` says which headers of a request are handed on; None for none.
    """

    name: str
    prefix: str
    connect: Connect = attrs.field(repr=False)
    is_borrowed: bool = False
    forward_headers: ForwardHeaders | None = None


def read_entries(
    target: Target | Client | ServerEntry | Mapping[str, Any],
    options: Mapping[str, Any],
    forward_headers: ForwardHeaders | None,
) -> list[Entry]:
    """The upstream servers of a proxy; raises TypeError and ValueError for what is none."""
    if forward_headers is not None and not callable(forward_headers):
        if isinstance(forward_headers, str):
            raise TypeError(f"forward_headers is a list of names, not {forward_headers!r}")
        forward_headers = [name.lower() for name in forward_headers]
    if isinstance(target, Client):
        if options or forward_headers:
            name = next(iter(options), "forward_headers")
            raise TypeError(f"{name}= makes no sense for a client that is open")
        return [Entry(ONLY, "", partial(_borrow, target), is_borrowed=True)]
    if not isinstance(target, Mapping):
        entry = ServerEntry.of(target)
        prefix = "" if entry.prefix is None else entry.full_prefix(ONLY)
        return [_make_entry(ONLY, prefix, entry, options, forward_headers)]
    servers = read_mcp_servers(target) if isinstance(target.get(MEMBER), Mapping) else target
    if not servers:
        raise ValueError("a proxy needs a server")
    found = [(name, ServerEntry.of(one)) for name, one in servers.items()]
    return [_make_entry(name, one.full_prefix(name), one, options, forward_headers) for name, one in found]


def _make_entry(
    name: str,
    prefix: str,
    entry: ServerEntry,
    options: Mapping[str, Any],
    forward_headers: ForwardHeaders | None,
) -> Entry:
    if forward_headers is not None and not (isinstance(entry.target, str) and "://" in entry.target):
        raise TypeError(f"forward_headers= makes no sense for the target {entry.target!r}")
    connect = _make_connect(entry, options)
    return Entry(name, prefix, connect, forward_headers=forward_headers)


@asynccontextmanager
async def _borrow(client: Client, answering: Answering, headers: Mapping[str, str], /) -> AsyncIterator[Link]:
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
    make_connector: Callable[..., Connector] = Connector
    if given.get("instruments"):
        from trio_mcp.client.instrumentation import find_connector  # few proxies are observed

        make_connector = find_connector(given["instruments"])
    connector = make_connector(
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

    def connect(answering: Answering, headers: Mapping[str, str], /) -> AbstractAsyncContextManager[Link]:
        known = answering if extension is None else attrs.evolve(answering, extension=extension)
        found = attrs.evolve(connector, answering=known)
        if headers:
            sent = {**(connector.options.headers or {}), **headers}
            found = attrs.evolve(found, options=attrs.evolve(connector.options, headers=sent))
        return found.open(pinned)

    return connect
