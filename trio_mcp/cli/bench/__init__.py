"""`trio-mcp bench`: a server under load, measured and checked.

Owns the load, the count of what arrived, and the report. Refuses to know which server it is.
Read `run.py` first, then `load.py` and `wire_count.py`.
"""
