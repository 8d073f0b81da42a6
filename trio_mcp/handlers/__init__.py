"""What a client hands its progress to: callables, handlers with a session, bars, lines.

Owns how progress is shown and thinned out. Refuses to know connections, calls and tasks.
Read `sink.py` first.
"""
