"""`trio-mcp demo`: progress of a server process that reads real files.

Owns a server of one tool, and the command that calls it. Refuses to know the network.
Read `run.py` first.
"""
