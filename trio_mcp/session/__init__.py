"""One client at the server, from its first message to its last answer.

Owns the requests in flight, their scopes and the answers. Refuses to know tools, tasks and how bytes travel.
Read `server_session.py` first, then `serving.py`.
"""
