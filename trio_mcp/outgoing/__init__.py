"""What waits for a wire, and the single writer that empties it.

Owns order, caps and pace of what leaves. Refuses to know methods, handlers and how bytes travel.
Read `call_queue.py` first, then `slot.py` and `outbox.py`.
"""
