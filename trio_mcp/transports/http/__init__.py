"""The client's side of Streamable HTTP, in both eras.

Owns requests, their responses and the connections that carry them. Refuses to know progress handlers.
Read `transport.py` first, then `pending_request.py` (its states) and `server_url.py` (how it is asked).
"""
