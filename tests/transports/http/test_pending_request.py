"""The states of a request over HTTP: only the transitions of the table change them."""

from __future__ import annotations

from itertools import product

import pytest

from trio_mcp.transports.http.pending_request import (
    OVER,
    TRANSITIONS,
    PendingRequest,
    RequestEvent,
    RequestState,
)
from trio_mcp.wire.frames import Request

S, E = RequestState, RequestEvent

ALL = list(product(S, E))


def make_pending(state: RequestState = S.WAITING) -> PendingRequest:
    return PendingRequest(Request(1, "tools/call"), {}, state)


@pytest.mark.parametrize(("state", "event"), ALL, ids=lambda value: value.name)
def test_each_event_follows_the_table_or_changes_nothing(state, event):
    pending = make_pending(state)
    pending.note(event)
    assert pending.state is TRANSITIONS.get((state, event), state)


@pytest.mark.parametrize(
    ("events", "states"),
    [
        ((E.ASK, E.BEGIN, E.ANSWER), (S.ASKED, S.BEGUN, S.ANSWERED)),
        # The request is sent again in the session that replaces the ended one.
        (
            (E.ASK, E.REFUSE, E.ASK, E.BEGIN, E.ANSWER),
            (S.ASKED, S.REFUSED, S.ASKED, S.BEGUN, S.ANSWERED),
        ),
        ((E.ASK, E.REFUSE, E.ASK, E.REFUSE, E.LOSE), (S.ASKED, S.REFUSED, S.ASKED, S.REFUSED, S.LOST)),
        # The arguments do not fit into headers.
        ((E.ANSWER,), (S.ANSWERED,)),
        # A cancellation wins over all later events but the response to a legacy call.
        ((E.CANCEL, E.ASK, E.REFUSE, E.BEGIN), (S.CANCELLED,) * 4),
        ((E.ASK, E.BEGIN, E.CANCEL, E.ANSWER), (S.ASKED, S.BEGUN, S.CANCELLED, S.ANSWERED)),
        ((E.ASK, E.REFUSE, E.CANCEL, E.LOSE), (S.ASKED, S.REFUSED, S.CANCELLED, S.CANCELLED)),
        # A response is final.
        ((E.ASK, E.BEGIN, E.ANSWER, E.ANSWER, E.CANCEL), (S.ASKED, S.BEGUN, *(S.ANSWERED,) * 3)),
    ],
)
def test_a_request_walks_through_the_table(events, states):
    pending = make_pending()
    walked = []
    for event in events:
        pending.note(event)
        walked.append(pending.state)
    assert tuple(walked) == states


def test_every_state_can_be_reached_and_every_open_state_can_end():
    reached = {S.WAITING}
    for _ in S:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(S)
    for state in set(S) - set(OVER):
        assert TRANSITIONS[state, E.CANCEL] is S.CANCELLED
        assert TRANSITIONS[state, E.LOSE] is S.LOST


def test_no_transition_leads_out_of_the_final_states():
    for (before, _), after in TRANSITIONS.items():
        assert before not in OVER or after in OVER
    assert [state for state in S if make_pending(state).is_over] == list(OVER)


def test_a_request_shows_its_id_method_and_state():
    pending = make_pending()
    pending.note(E.ASK)
    assert repr(pending) == "<PendingRequest 1 tools/call: sent>"
