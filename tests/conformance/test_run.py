"""The runner of the conformance suite: when a scenario has passed, and the comparison with the baseline."""

import pytest

from tests.conformance.run import Outcome, judge, read_problems

SUCCESS = {"id": "a", "name": "A", "description": "it works", "status": "SUCCESS"}


def check(status, name="B"):
    return {"id": "b", "name": name, "description": "it works, too", "status": status}


def test_only_checks_that_succeed_pass_a_scenario():
    assert read_problems([SUCCESS, check("INFO")]) == []


@pytest.mark.parametrize("status", ["FAILURE", "WARNING", "SKIPPED"])
def test_a_check_that_did_not_succeed_is_a_problem(status):
    assert read_problems([SUCCESS, check(status)]) == [f"{status} b: it works, too"]


def test_a_scenario_that_checked_nothing_is_not_passed():
    assert read_problems([]) == ["nothing was checked"]
    assert read_problems([check("INFO")]) == ["nothing was checked"]


def test_features_that_a_revision_lacks_need_not_be_checked():
    assert read_problems([SUCCESS, check("SKIPPED", "ClientMcpMethodHeader_initialize")]) == []


def test_the_baseline_says_what_may_fail():
    outcome = Outcome("server", "2026-07-28", {"new": ["broken"], "known": ["broken"], "old": [], "fine": []})
    baseline = {"known": "not there", "old": "not there", "gone": "not there"}
    wrong, passed = judge(outcome, baseline, all_ran=True)
    assert passed == {"old"}
    assert wrong == [
        "server 2026-07-28 new must pass:",
        "    broken",
        "server 2026-07-28 gone is in the baseline, but not in the suite",
    ]
    assert judge(outcome, baseline, all_ran=False)[0] == wrong[:2]
