"""Everything that waits for a wire, and the single writer that sends it.

Owns the order, the caps and the pace of sending. Refuses to know methods, handlers and bytes.
Read `call_queue.py` first, then `slot.py` and `outbox.py`.
"""
