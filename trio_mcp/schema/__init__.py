"""Type hints and JSON Schema: what a tool's signature says, and values converted to it.

Owns schemas, conversion and readable problems. Refuses to know Trio, tools and the wire.
Read `parameters.py` first.
"""
