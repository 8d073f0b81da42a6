"""`trio-mcp tasks`: background tasks that exist already.

Owns listing, watching, fetching and cancelling them at the terminal. Refuses to know how they are followed.
Read `commands.py` first.
"""
