"""The protocol without I/O: frames, codec, messages, eras, handshake, headers.

Owns what stands on the wire. Refuses to know Trio, clocks and sockets: nothing here awaits.
Read `frames.py` first, then `codec.py` and `handshake.py`.
"""
