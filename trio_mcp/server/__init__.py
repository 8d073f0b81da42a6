"""A server's definition, and what runs it: tools, Context, results, tasks, ways to serve.

Owns MCP's methods and what handlers are given. Refuses to know the client package.
Read `server.py` first, then `application.py` and `context.py`.
"""
