"""ASGI applications served by hypercorn's protocols, inside the caller's nursery.

Owns listening, accepted connections and shutdown. Refuses to know MCP.
Read `serve.py` first; `connection.py` holds all that reaches into hypercorn.
"""

from trio_mcp.transports.hypercorn.serve import TLS, serve_asgi

__all__ = ["TLS", "serve_asgi"]
