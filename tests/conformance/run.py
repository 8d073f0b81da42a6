"""Runs the official conformance suite against tests/conformance/server.py and client.py.

Holds the outcome to baseline.json, the list of scenarios that are not passed yet and why.
It may only shrink: a scenario outside it must pass, and one inside it that passes must be
taken out, which --shrink does. The suite and the Node.js that runs it are in a directory of
their own, which `make conformance` makes. Needs only the standard library itself.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BASELINE = HERE / "baseline.json"
VERSIONS = ("2025-11-25", "2026-07-28")
SIDES = ("server", "client")

SCENARIO_TIMEOUT = 60
RUN_TIMEOUT = 600

# What the short run has of the client: all but authorization.
SHORT = {
    "2025-11-25": [
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ],
    "2026-07-28": [
        "tools_call",
        "request-metadata",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "sep-2322-client-request-state",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ],
}

# How many scenarios each revision requires; if the suite runs fewer, its report was not read right.
REQUIRED = {
    ("server", "2025-11-25"): 30,
    ("server", "2026-07-28"): 37,
    ("client", "2025-11-25"): 18,
    ("client", "2026-07-28"): 32,
}

# 2026-07-28 has no handshake, so the suite cannot see the headers of one and always skips these checks.
NOT_IN_THE_REVISION = {"ClientMcpMethodHeader_initialize", "ClientMcpMethodHeader_notifications_initialized"}

# What a handler cannot do through a proxy: it closes the response of its own server.
NOT_BEHIND_PROXIES = {"server-sse-polling": "the response is that of the proxy"}

_SUMMARY = re.compile(r"^[✓✗-] (\S+): ", re.MULTILINE)
_NOT_SCORED = re.compile(r"^  [✓✗-] (\S+) \(", re.MULTILINE)
_RESULT = re.compile(r"(.+)-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d+Z")

Baseline = dict[str, dict[str, dict[str, str]]]
Checks = dict[str, list[dict[str, Any]]]


@dataclass
class Outcome:
    """The problems of each scenario of one side at one revision; empty if it passed."""

    side: str
    version: str
    problems: dict[str, list[str]]
    not_scored: set[str] = field(default_factory=set)
    checks: Counter[str] = field(default_factory=Counter)
    """How many checks ended with each status, of all scenarios together."""
    all_ran: bool = False
    """Whether these are all scenarios that the revision has for that side."""

    @property
    def passed(self) -> set[str]:
        return {scenario for scenario, problems in self.problems.items() if not problems}

    @property
    def required(self) -> set[str]:
        return self.problems.keys() - self.not_scored

    def score(self, *, required: bool) -> str:
        counted = self.required if required else self.not_scored
        return f"{len(counted & self.passed)}/{len(counted)}" if counted else ""


class Suite:
    """The installed suite; `target` is what it is run against, by side."""

    def __init__(self, directory: Path, target: dict[str, list[str]]) -> None:
        modules = directory / "node_modules"
        suite = modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        if not suite.exists():
            raise SystemExit(f"there is no conformance suite in {directory}: make conformance installs it")
        self._command = [str(modules / "node" / "bin" / "node"), "--no-deprecation", str(suite)]
        self._target = target

    def run_all(self, side: str, version: str) -> Outcome:
        """Run all scenarios that a revision has for a side, also those that are not scored."""
        with TemporaryDirectory() as results:
            output = self._run(side, "--requirements", version, results=results)
            _, found, summary = output.rpartition("SUMMARY ===")
            scenarios = _SUMMARY.findall(summary)
            if not found or not scenarios:
                raise SystemExit(f"the suite did not finish:\n{output[-4000:]}")
            checks = read_results(Path(results), side)
        missing = ["the suite gave no result"]
        problems = {
            scenario: read_problems(checks[scenario]) if scenario in checks else missing
            for scenario in scenarios
        }
        not_scored = set(_NOT_SCORED.findall(summary))
        return Outcome(side, version, problems, not_scored, count_checks(checks), all_ran=True)

    def run_some(self, side: str, version: str, scenarios: Sequence[str]) -> Outcome:
        """Run some scenarios, each in a process of its own."""
        with TemporaryDirectory() as results, ThreadPoolExecutor(2) as pool:

            def run(scenario: str) -> str:
                options = ["--scenario", scenario, "--spec-version", version, "--force"]
                return self._run(side, *options, results=results)

            outputs = list(pool.map(run, scenarios))
            checks = read_results(Path(results), side)
        problems = {
            scenario: read_problems(checks[scenario]) if scenario in checks else [output[-2000:]]
            for scenario, output in zip(scenarios, outputs, strict=True)
        }
        return Outcome(side, version, problems, checks=count_checks(checks))

    def _run(self, side: str, *options: str, results: str) -> str:
        limit = ["--timeout", str(SCENARIO_TIMEOUT * 1000)]
        command = [*self._command, side, *self._target[side], *options, *limit, "--output-dir", results]
        environment = {**os.environ, "NO_COLOR": "1"}
        ended = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=RUN_TIMEOUT,
            env=environment,
            check=False,  # that something is not passed is told by the results
        )
        return ended.stdout.decode(errors="replace")


def read_results(directory: Path, side: str) -> Checks:
    """The checks of each scenario, read from the directory that the suite wrote."""
    found: Checks = {}
    for path in directory.rglob("checks.json"):
        match = _RESULT.fullmatch(path.parent.relative_to(directory).as_posix())
        assert match is not None, f"unexpected result {path}"
        scenario = match[1].removeprefix("server-") if side == "server" else match[1]
        found[scenario] = json.loads(path.read_text())
    return found


def count_checks(checks: Checks) -> Counter[str]:
    return Counter(check["status"] for scenario in checks.values() for check in scenario)


def read_problems(checks: list[dict[str, Any]]) -> list[str]:
    """Why a scenario did not pass: a check failed, warned or was skipped, or nothing was checked."""
    problems = [
        f"{check['status']} {check['id']}: {check.get('errorMessage') or check['description']}"
        for check in checks
        if check["status"] not in ("SUCCESS", "INFO")
        and not (check["status"] == "SKIPPED" and check["name"] in NOT_IN_THE_REVISION)
    ]
    if not problems and not any(check["status"] == "SUCCESS" for check in checks):
        problems.append("nothing was checked")
    return problems


@contextmanager
def served(*options: str) -> Iterator[str]:
    """Serve tests/conformance/server.py with these options during the block; yields its URL."""
    command = [sys.executable, "-m", "tests.conformance.server", *options]
    with (
        TemporaryDirectory() as directory,
        (Path(directory) / "log").open("w+") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip()
            if not url:
                log.seek(0)
                raise SystemExit(f"the server did not start:\n{log.read()}")
            yield url
        finally:
            process.terminate()


def judge(outcome: Outcome, baseline: dict[str, str]) -> tuple[list[str], set[str]]:
    """What is wrong, and which scenarios of the baseline pass by now."""
    wrong = []
    for scenario, problems in outcome.problems.items():
        if problems and scenario not in baseline:
            wrong.append(f"{outcome.side} {outcome.version} {scenario} must pass:")
            wrong += [f"    {problem}" for problem in problems]
    known = outcome.problems.keys()
    wrong += [
        f"{outcome.side} {outcome.version} {scenario} is in the baseline, but not in the suite"
        for scenario in baseline
        if outcome.all_ran and scenario not in known
    ]
    ran, required = len(outcome.required), REQUIRED[outcome.side, outcome.version]
    if outcome.all_ran and ran != required:
        wrong.append(f"{outcome.side} {outcome.version}: {required} scenarios are required, {ran} were run")
    return wrong, outcome.passed & baseline.keys()


def show(outcomes: Sequence[Outcome], baseline: Baseline) -> None:
    """Print how many scenarios passed, and how many checks passed, failed (or warned) and were skipped."""
    print(f"\n{'':20}{'scenarios':>18}{'checks':>25}")
    print(
        f"{'side':8}{'revision':12}{'required':>9}{'others':>9}"
        f"{'passed':>9}{'failed':>8}{'skipped':>8}   scenarios not passed"
    )
    for outcome in outcomes:
        known = baseline[outcome.side][outcome.version]
        not_passed = outcome.problems.keys() - outcome.passed
        reasons = Counter(known.get(scenario, "NOT IN THE BASELINE") for scenario in not_passed)
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        scores = outcome.score(required=True), outcome.score(required=False)
        checks = outcome.checks
        failed = checks["FAILURE"] + checks["WARNING"]
        print(
            f"{outcome.side:8}{outcome.version:12}{scores[0]:>9}{scores[1]:>9}"
            f"{checks['SUCCESS']:>9}{failed:>8}{checks['SKIPPED']:>8}   {told}"
        )


def run(suite: Suite, sides: Sequence[str], *, short: bool) -> list[Outcome]:
    outcomes = []
    for side in sides:
        for version in VERSIONS:
            begun = time.monotonic()
            if short and side == "client":
                outcomes.append(suite.run_some(side, version, SHORT[version]))
            else:
                outcomes.append(suite.run_all(side, version))
            print(f"ran {side} {version} in {time.monotonic() - begun:.1f} s", flush=True)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", type=Path, default=ROOT / ".envs" / "conformance", help="where it is")
    parser.add_argument("--side", choices=SIDES, help="only one side")
    parser.add_argument("--short", action="store_true", help="leave out the client's authorization")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--mounted", action="store_true", help="only the server, mounted in another one")
    kinds.add_argument("--proxied", action="store_true", help="only the server, behind a proxy of a proxy")
    parser.add_argument("--shrink", action="store_true", help="take what is passed out of the baseline")
    options = parser.parse_args()
    baseline: Baseline = json.loads(BASELINE.read_text())
    arguments = [f"--{kind}" for kind in ("mounted", "proxied") if getattr(options, kind)]
    sides = ["server"] if arguments else [options.side] if options.side else SIDES
    if options.proxied:
        baseline["server"]["2025-11-25"].update(NOT_BEHIND_PROXIES)
    client = shlex.join([sys.executable, str(HERE / "client.py")])
    with served(*arguments) as url:
        suite = Suite(options.suite, {"server": ["--url", url], "client": ["--command", client]})
        outcomes = run(suite, sides, short=options.short)
    show(outcomes, baseline)
    failed = False
    for outcome in outcomes:
        known = baseline[outcome.side][outcome.version]
        wrong, passed = judge(outcome, known)
        for line in wrong:
            print(line)
        for scenario in sorted(passed):
            print(f"{outcome.side} {outcome.version} {scenario} is passed by now: run with --shrink")
            if options.shrink:
                del known[scenario]
        failed = failed or bool(wrong) or (bool(passed) and not options.shrink)
    if options.shrink:
        BASELINE.write_text(json.dumps(baseline, indent=2) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
