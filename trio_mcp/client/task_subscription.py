"""Where a client's subscription to one task stands (MCP subscriptions).

Owns the states, the table of their transitions, and the reading of the server's acknowledgement.
Sends nothing and waits for nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import msgspec

from trio_mcp.wire.frames import Notification
from trio_mcp.wire.messages import META_HISTORY, META_REPORTS


class Subscription(enum.Enum):
    """What the server sends of a task without being asked each time."""

    AWAITED = "asked for, not acknowledged yet"
    SILENT = "the server promises nothing, so the task is polled"
    CHANGES = "the server sends changes from now on"
    COMPLETE = "the server sends the state now, behind the history if that is wanted, and then changes"
    ENDED = "the subscription has just ended, so the task is polled at once"

    @property
    def sends_changes(self) -> bool:
        """Whether the server has promised to send changes."""
        return self in (Subscription.CHANGES, Subscription.COMPLETE)


class SubscriptionEvent(enum.Enum):
    """What can happen to a subscription."""

    REFUSED = "acknowledged without the task"
    ACCEPTED = "acknowledged with the task"
    ACCEPTED_FROM_START = "acknowledged with the task, beginning with what is known so far"
    STREAM_ENDED = "an answer, an error, or the end of the connection"
    POLLED = "the client has decided to poll"


_ACKNOWLEDGED: Final[Mapping[SubscriptionEvent, Subscription]] = {
    SubscriptionEvent.REFUSED: Subscription.SILENT,
    SubscriptionEvent.ACCEPTED: Subscription.CHANGES,
    SubscriptionEvent.ACCEPTED_FROM_START: Subscription.COMPLETE,
}

# A server may acknowledge late, and more than once: the last acknowledgement counts. It may also
# arrive after the end, if the client took a message that it could not read for the end.
TRANSITIONS: Final[Mapping[Subscription, Mapping[SubscriptionEvent, Subscription]]] = {
    Subscription.AWAITED: {**_ACKNOWLEDGED, SubscriptionEvent.STREAM_ENDED: Subscription.ENDED},
    Subscription.SILENT: {**_ACKNOWLEDGED, SubscriptionEvent.STREAM_ENDED: Subscription.ENDED},
    Subscription.CHANGES: {**_ACKNOWLEDGED, SubscriptionEvent.STREAM_ENDED: Subscription.ENDED},
    Subscription.COMPLETE: {**_ACKNOWLEDGED, SubscriptionEvent.STREAM_ENDED: Subscription.ENDED},
    Subscription.ENDED: {**_ACKNOWLEDGED, SubscriptionEvent.POLLED: Subscription.SILENT},
}


def read_acknowledgement(frame: Notification, task_id: str) -> SubscriptionEvent:
    """Read notifications/subscriptions/acknowledged; a malformed one promises nothing."""
    try:
        params = msgspec.json.decode(frame.params) if not isinstance(frame.params, msgspec.UnsetType) else {}
        if task_id not in (params["notifications"].get("taskIds") or ()):
            return SubscriptionEvent.REFUSED
        meta = params.get("_meta", {})
        if META_REPORTS in meta or meta.get(META_HISTORY) is True:
            return SubscriptionEvent.ACCEPTED_FROM_START
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return SubscriptionEvent.REFUSED
    return SubscriptionEvent.ACCEPTED
