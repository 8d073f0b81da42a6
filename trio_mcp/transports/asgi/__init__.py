"""The server's side of Streamable HTTP and WebSocket, as an ASGI application.

Owns routing, refusals, sessions of legacy clients and event streams. Refuses to know tools and tasks.
Read `endpoint.py` first: it is the way of a request; `legacy_session.py` is the older era.
"""
