"""Progress handlers of a client: plain callables, handlers that are opened for a call, bars, lines.

Owns how progress is shown, and how the rate of updates is limited. Refuses to know connections,
calls and tasks. Read `sink.py` first.
"""
