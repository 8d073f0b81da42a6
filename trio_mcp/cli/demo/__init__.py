"""`trio-mcp demo`: progress over files that are really read.

Owns a server of one tool and the command that shows it. Refuses to know the network.
Read `run.py` first.
"""
