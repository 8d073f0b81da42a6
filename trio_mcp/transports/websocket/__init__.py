"""MCP over WebSocket, on trio-websocket: both sides.

Owns handshakes, pings and the stream beneath. Refuses to know sessions and methods.
Read `transport.py` first; `client.py` and `server.py` are how a connection begins.
"""
