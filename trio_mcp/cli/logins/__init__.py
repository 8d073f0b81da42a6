"""`trio-mcp login`, `logout` and `whoami`: tokens of servers with a URL, kept for the other commands.

Imported only by a command that needs them, because most commands meet no server that wants a token.
"""
