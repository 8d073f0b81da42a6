"""The client's side of Streamable HTTP, in both eras.

Owns requests, their responses and the connections that carry them. Refuses to know progress handlers.
Read `transport.py` first.
"""
