"""The runner of the conformance suite: when a scenario has passed, and the comparison with the baseline."""

import json
from collections import Counter

import pytest

from tests.conformance.run import BASELINE, REQUIRED, SHORT, Outcome, count_checks, judge, read_problems, show

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
    baseline = {"known": "not there", "old": "not there", "gone": "not there"}
    wrong, passed = judge(outcome, baseline)
    assert passed == {"old"}
    assert wrong == ["server 2026-07-28 new must pass:", "    broken"]
    outcome.problems |= {f"other {number}": [] for number in range(REQUIRED["server", "2026-07-28"] - 4)}
    outcome.all_ran = True
    gone = "server 2026-07-28 gone is in the baseline, but not in the suite"
    assert judge(outcome, baseline) == ([*wrong, gone], {"old"})


def test_all_scenarios_that_a_revision_requires_must_have_run():
    required = REQUIRED["server", "2026-07-28"]
    outcome = Outcome("server", "2026-07-28", {str(number): [] for number in range(required)}, all_ran=True)
    assert judge(outcome, {}) == ([], set())
    outcome.not_scored = {"0"}
    wrong = [f"server 2026-07-28: {required} scenarios are required, {required - 1} were run"]
    assert judge(outcome, {}) == (wrong, set())
    outcome.all_ran = False
    assert judge(outcome, {}) == ([], set())


@pytest.mark.parametrize("version", SHORT)
def test_the_short_run_leaves_out_only_what_is_in_the_baseline(version):
    baseline = json.loads(BASELINE.read_text())
    assert baseline["client"][version].keys().isdisjoint(SHORT[version])
    assert {reason for side in baseline.values() for reason in side[version].values()} <= {
        "authorization",
        "always skipped by the suite",
    }


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
