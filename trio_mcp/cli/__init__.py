"""The command `trio-mcp`.

Owns options, terminal output and exit statuses. Refuses to know how anything travels.
Read `main.py` first, then `commands.py`.
"""
