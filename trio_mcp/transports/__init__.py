"""Ways by which frames travel: memory, byte streams, subprocesses, HTTP, WebSocket.

Owns sockets, pipes and their ends. Refuses to know tools and tasks.
Read `newline_stream.py` first: it is the shortest whole transport.
"""
