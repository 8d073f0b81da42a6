"""What is measured: cells, and how their samples are taken from contestants.

Owns the workers, their turns and their versions. Refuses to import a contestant, or any package.
Read first: cell.py, then worker.py, then notifications.py.
"""
