"""Progress as runtime state: the values of a request, its stages, its rate, its worker processes.

Owns every way to change these values. Refuses to know tools, sessions and transports.
Read `reporter.py` first, then `stages.py` and `shares.py`.
"""
