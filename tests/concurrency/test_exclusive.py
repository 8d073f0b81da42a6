"""One task at a time in each direction of a transport."""

from __future__ import annotations

import pytest
import trio

from trio_mcp.concurrency.exclusive import Exclusive


def test_a_second_task_is_refused_while_the_first_is_inside():
    sending = Exclusive("sending on")
    with sending:
        with pytest.raises(trio.BusyResourceError, match="another task is sending on this"), sending:
            pytest.fail("two tasks were let in")
        # The refusal does not let a third one in.
        with pytest.raises(trio.BusyResourceError), sending:
            pytest.fail("two tasks were let in")


def test_the_next_task_may_enter_after_the_first_has_left():
    sending = Exclusive("sending on")
    for _ in range(2):
        with sending:
            pass


def test_a_task_that_failed_has_left():
    sending = Exclusive("sending on")
    with pytest.raises(ValueError, match="broken"), sending:
        raise ValueError("broken")
    with sending:
        pass
