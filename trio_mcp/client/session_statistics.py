"""What a client's session holds at one moment, as numbers.

Owns the names of these numbers. Counts nothing itself.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class ClientSessionStatistics:
    """The number of objects that a session holds at one moment.

    `pending_calls` wait for an answer. `kept_calls` have become tasks whose progress is still received.
    `late_answers` are cancelled calls whose result may still arrive. `server_requests` are being answered.
    `subscriptions` include the tasks of 2025-11-25 whose notifications are received. `queued_frames` wait
    for the wire, `queued_logs` for the log handler.
    """

    pending_calls: int
    kept_calls: int
    late_answers: int
    server_requests: int
    subscriptions: int
    queued_frames: int
    queued_logs: int
    is_lost: bool
