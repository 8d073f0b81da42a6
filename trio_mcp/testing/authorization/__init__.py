"""An authorization server for development and tests. NOT for production.

Owns the list of its public names. It needs joserfc (extra "auth").
Read `server.py` first; each endpoint is a module.
"""

from trio_mcp.testing.authorization.exchange import Answer
from trio_mcp.testing.authorization.faults import Fault, Faults
from trio_mcp.testing.authorization.server import DevAuthorizationServer
from trio_mcp.testing.authorization.serving import open_authorization_server
from trio_mcp.testing.authorization.state import AuthorizationSettings, SeenRequest, User

__all__ = [
    "Answer",
    "AuthorizationSettings",
    "DevAuthorizationServer",
    "Fault",
    "Faults",
    "SeenRequest",
    "User",
    "open_authorization_server",
]
