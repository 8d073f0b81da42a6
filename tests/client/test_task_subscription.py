"""The states of a client's subscription to a task, and the reading of a server's acknowledgement."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trio_mcp.client.task_subscription import (
    TRANSITIONS,
    Subscription,
    SubscriptionEvent,
    read_acknowledgement,
)
from trio_mcp.wire.frames import Notification
from trio_mcp.wire.messages import META_HISTORY, META_REPORTS

ACKNOWLEDGEMENTS = {
    SubscriptionEvent.REFUSED,
    SubscriptionEvent.ACCEPTED,
    SubscriptionEvent.ACCEPTED_FROM_START,
}


def acknowledged(params: Any) -> Notification:
    raw = msgspec.UNSET if params is None else msgspec.Raw(msgspec.json.encode(params))
    return Notification("notifications/subscriptions/acknowledged", raw)


def test_every_state_can_be_reached_and_left():
    assert set(TRANSITIONS) == set(Subscription)
    reached, seen = {Subscription.AWAITED}, set()
    while reached - seen:
        state = (reached - seen).pop()
        seen.add(state)
        reached |= set(TRANSITIONS[state].values())
    assert reached == set(Subscription)


@pytest.mark.parametrize("state", Subscription)
def test_the_last_acknowledgement_counts_in_every_state(state: Subscription):
    promised = {event: TRANSITIONS[state][event] for event in ACKNOWLEDGEMENTS}
    assert promised == {
        SubscriptionEvent.REFUSED: Subscription.SILENT,
        SubscriptionEvent.ACCEPTED: Subscription.CHANGES,
        SubscriptionEvent.ACCEPTED_FROM_START: Subscription.COMPLETE,
    }


def test_an_ended_subscription_is_polled_once_and_then_as_if_there_were_none():
    ended = {moves.get(SubscriptionEvent.STREAM_ENDED) for moves in TRANSITIONS.values()}
    assert ended == {Subscription.ENDED, None}
    assert SubscriptionEvent.STREAM_ENDED not in TRANSITIONS[Subscription.ENDED], "it ends only once"
    polled = {
        state: moves[SubscriptionEvent.POLLED]
        for state, moves in TRANSITIONS.items()
        if SubscriptionEvent.POLLED in moves
    }
    assert polled == {Subscription.ENDED: Subscription.SILENT}


def test_changes_are_promised_by_two_states_only():
    assert {state for state in Subscription if state.sends_changes} == {
        Subscription.CHANGES,
        Subscription.COMPLETE,
    }


@pytest.mark.parametrize(
    ("params", "event"),
    [
        ({"notifications": {"taskIds": ["t"]}}, SubscriptionEvent.ACCEPTED),
        ({"notifications": {"taskIds": ["t"]}, "_meta": {META_REPORTS: "all"}}, "start"),
        ({"notifications": {"taskIds": ["t"]}, "_meta": {META_HISTORY: True}}, "start"),
        ({"notifications": {"taskIds": ["t"]}, "_meta": {META_HISTORY: False}}, SubscriptionEvent.ACCEPTED),
        ({"notifications": {"taskIds": ["u"]}, "_meta": {META_HISTORY: True}}, SubscriptionEvent.REFUSED),
        ({"notifications": {"taskIds": None}}, SubscriptionEvent.REFUSED),
        ({"notifications": {}}, SubscriptionEvent.REFUSED),
        ({"notifications": 5}, SubscriptionEvent.REFUSED),
        ({"notifications": {"taskIds": ["t"]}, "_meta": 5}, SubscriptionEvent.REFUSED),
        ({}, SubscriptionEvent.REFUSED),
        ([], SubscriptionEvent.REFUSED),
        (None, SubscriptionEvent.REFUSED),
    ],
)
def test_what_an_acknowledgement_promises(params: Any, event: SubscriptionEvent | str):
    expected = SubscriptionEvent.ACCEPTED_FROM_START if event == "start" else event
    assert read_acknowledgement(acknowledged(params), "t") is expected
