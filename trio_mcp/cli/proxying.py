"""The proxy that `trio-mcp run --proxy` serves.

Owns which servers are behind it. Refuses to know how it is served.
"""

from __future__ import annotations

from trio_mcp.cli.status import CommandError
from trio_mcp.cli.targets import read_config, read_target, split_target
from trio_mcp.proxy.proxy import create_proxy
from trio_mcp.server.server import Server


def load_proxy(text: str) -> Server:
    """A proxy of the server that `text` names, or of all servers of a file; raises CommandError."""
    servers = read_config(text)
    try:
        if servers is not None and len(servers) != 1:
            return create_proxy(servers)
        target, options = split_target(read_target(text))
        return create_proxy(target, **options)
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from None
