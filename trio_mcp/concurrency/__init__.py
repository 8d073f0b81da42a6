"""Small Trio parts with nothing of MCP in them: nurseries, failures, channels, wake-ups.

Owns how tasks wait, end and fail. Refuses to know frames, sessions and progress.
Read `failures.py` first: it decides what of an exception passes on.
"""
