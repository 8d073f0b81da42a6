"""A server: its definition, what handlers are given, the answers to MCP's methods, ways to serve.

Refuses to know the client package, and how frames travel. Read `definition.py` first, then
`application.py` (the table of methods), `tool_methods.py` and `context.py`.
"""
