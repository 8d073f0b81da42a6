"""The command `trio-mcp`.

Owns options, terminal output and exit statuses. Refuses to know how messages travel.
Read `commands.py` first, then `call.py` and `display.py`.
"""
