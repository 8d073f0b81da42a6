"""The runner of the conformance suite: when a scenario has passed, and the comparison with the baseline."""

from collections import Counter

import pytest

from tests.conformance.run import REQUIRED, Outcome, count_checks, judge, read_problems, show

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
    assert read_problems([SUCCESS, check("FAILURE", "ClientMcpMethodHeader_initialize")]) != []


def test_the_baseline_says_what_may_fail():
    outcome = Outcome("server", "2026-07-28", {"new": ["broken"], "known": ["broken"], "old": [], "fine": []})
    outcome.problems |= {f"other {number}": [] for number in range(REQUIRED["server", "2026-07-28"] - 4)}
    baseline = {"known": "not there", "old": "not there", "gone": "not there"}
    wrong, passed = judge(outcome, baseline, all_ran=True)
    assert passed == {"old"}
    assert wrong == [
        "server 2026-07-28 new must pass:",
        "    broken",
        "server 2026-07-28 gone is in the baseline, but not in the suite",
    ]
    assert judge(outcome, baseline, all_ran=False)[0] == wrong[:2]


def test_all_scenarios_that_a_revision_requires_must_have_run():
    required = REQUIRED["server", "2026-07-28"]
    outcome = Outcome("server", "2026-07-28", {str(number): [] for number in range(required)})
    assert judge(outcome, {}, all_ran=True) == ([], set())
    outcome.not_scored = {"0"}
    wrong = [f"server 2026-07-28: {required} scenarios are required, {required - 1} were run"]
    assert judge(outcome, {}, all_ran=True) == (wrong, set())
    assert judge(outcome, {}, all_ran=False) == ([], set())


def test_the_report_counts_scenarios_and_checks(capsys):
    counts = count_checks(
        {
            "fine": [SUCCESS, SUCCESS, check("INFO")],
            "new": [SUCCESS, check("FAILURE"), check("WARNING")],
            "known": [check("SKIPPED")],
        }
    )
    assert counts == Counter(SUCCESS=3, INFO=1, FAILURE=1, WARNING=1, SKIPPED=1)
    problems = {"fine": [], "new": ["broken"], "known": ["skipped"]}
    outcome = Outcome("server", "2026-07-28", problems, {"known"}, counts)
    show([outcome], {"server": {"2026-07-28": {"known": "not there"}}})
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line[:7] == ["server", "2026-07-28", "1/2", "0/1", "3", "2", "1"]
    assert " ".join(line[7:]) == "1 NOT IN THE BASELINE, 1 not there"
