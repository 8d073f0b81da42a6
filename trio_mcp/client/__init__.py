"""A client of one server: calls with progress, background tasks, negotiation.

Owns the public verbs and their timeouts. Refuses to know the server package. Read `client.py` first,
then the way of a call: `tool_call.py`, `link.py`, `session.py`, `pending_call.py`.
"""
