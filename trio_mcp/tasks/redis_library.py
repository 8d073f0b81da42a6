"""coredis, and the part of anyio that its connections need.

Owns the imports, so that only this module has to say what is missing.
"""

from __future__ import annotations

try:
    import anyio as anyio  # all are named twice, because others take them from here
    from coredis.connection import BaseConnection as BaseConnection
    from coredis.connection import TCPConnection as TCPConnection
    from coredis.connection import TCPLocation as TCPLocation
    from coredis.exceptions import AuthenticationError as AuthenticationError
    from coredis.exceptions import AuthorizationError as AuthorizationError
    from coredis.exceptions import BusyLoadingError as BusyLoadingError
    from coredis.exceptions import ConnectionError as ConnectionFailedError
    from coredis.exceptions import NoScriptError as NoScriptError
    from coredis.exceptions import ReadOnlyError as ReadOnlyError
    from coredis.exceptions import RedisError as RedisError
    from coredis.exceptions import ResponseError as ResponseError
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "RedisTaskStore needs coredis: pip install 'trio-mcp[redis]'", name=error.name
    ) from error

__all__ = [
    "AuthenticationError",
    "AuthorizationError",
    "BaseConnection",
    "BusyLoadingError",
    "ConnectionFailedError",
    "NoScriptError",
    "ReadOnlyError",
    "RedisError",
    "ResponseError",
    "TCPConnection",
    "TCPLocation",
    "anyio",
]
