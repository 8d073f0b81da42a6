"""Type hints and JSON Schema: what a tool's signature says, and values converted to it.

Owns schemas, conversion and readable problems. Refuses to know Trio, calls and content blocks.
Read `parameters.py` first, then `rewriter.py`.
"""
