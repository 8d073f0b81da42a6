"""Background tasks: their record, their store, and the nursery that they run in.

Owns a task from its creation until its record expires. Refuses to know tools, sessions and Context.
Read `record.py` first, then `live_task.py` and `supervisor.py`.
"""
