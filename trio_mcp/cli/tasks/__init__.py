"""`trio-mcp tasks`: lists, watches and cancels background tasks that exist already.

Owns what of them is shown at the terminal. Refuses to know how a client learns of their changes.
Read `commands.py` first, then `watch.py`.
"""
