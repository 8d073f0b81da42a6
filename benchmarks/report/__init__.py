"""From samples to what is shown: tables, a page and plots.

Refuses to know of processes. Read first: scores.py.
"""
