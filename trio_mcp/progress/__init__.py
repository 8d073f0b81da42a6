"""Progress as runtime state: what a handler reports, its stages, its rate, its other processes.

Owns the values of one request and every way to change them. Refuses to know tools, sessions and transports.
Read `reporter.py` first.
"""
