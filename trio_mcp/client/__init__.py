"""A client of one server: calls with progress, tasks, negotiation.

Owns the public verbs and their timeouts. Refuses to know the server package.
Read `client.py` first, then `session.py` and `pending_call.py`.
"""
