"""`trio-mcp bench`: it finds each fault of a server, and calls unknown what it cannot observe."""

from __future__ import annotations

import io
import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from rich.console import Console

from tests.cli.bench import faulty_server
from tests.cli.command import lines_shown, read_until, run, start, start_in_terminal
from tests.support.limits import HANG_SECONDS
from trio_mcp import ClientSettings, Context, Lossless, Server, TaskConfig, ToolError, open_client
from trio_mcp.cli.bench.counting_connector import CountingConnector
from trio_mcp.cli.bench.gauge import Gauge, open_gauge
from trio_mcp.cli.bench.histogram import DurationHistogram
from trio_mcp.cli.bench.load import FINISH_SECONDS, MAX_ERRORS, OTHER_ERRORS, Load, LoadRun, run_load
from trio_mcp.cli.bench.report import LoadReport, Subject, show_milliseconds
from trio_mcp.cli.bench.wire_count import ProgressFlow, WireCount

COUNT = faulty_server.COUNT
FAULTY = [sys.executable, "-m", "tests.cli.bench.faulty_server"]
LOAD = Load(calls=3, rounds=2, duration=10.0)
SUBJECT = Subject(server="s 1", protocol="2026-07-28", transport="stdio", tool="t", sees_late=True)


def measure(fault: str, *options: str) -> dict[str, Any]:
    """The report of six calls of a tool of the faulty server, as JSON, with the exit status added."""
    limits = ("--rounds", "2", "--duration", str(HANG_SECONDS))
    done = run("bench", "-n", "3", *limits, "--json", *options, fault, "--", *FAULTY)
    assert "Traceback" not in done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report | {"status": done.returncode}


def words(report: LoadReport) -> str:
    """The report as text."""
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(*report.render(), sep="\n")
    return capture.get()


def test_a_server_without_faults_is_status_0() -> None:
    report = measure("steady")
    assert (report["status"], report["faults"], report["stop"]) == (0, [], "rounds")
    assert report["calls"]["finished"] == 6
    assert report["notifications"]["received"] == report["notifications"]["delivered"] == 6 * COUNT
    assert report["order"] == {"kept": True, "brokenCalls": 0, "repeated": 0, "backwards": 0}
    assert report["losses"]["basis"] == "total"
    assert (report["losses"]["missing"], report["losses"]["judgedCalls"]) == (0, 6)
    assert report["late"] == {"updates": 0, "unknownTokens": 0}
    latency = report["latency"]
    assert [latency[name]["count"] for name in ("firstUpdate", "wholeCall")] == [6, 6]
    assert latency["betweenUpdates"]["count"] == 6 * (COUNT - 1)
    for times in latency.values():
        assert times["p50"] <= times["p90"] <= times["p99"] <= times["max"] < HANG_SECONDS


@pytest.mark.parametrize(
    ("fault", "part", "found"),
    [
        ("repeat", "order", {"kept": False, "brokenCalls": 6, "repeated": 6, "backwards": 0}),
        ("back", "order", {"kept": False, "brokenCalls": 6, "repeated": 0, "backwards": 6}),
        ("late", "late", {"updates": 12, "unknownTokens": 0}),
        ("stray", "late", {"updates": 0, "unknownTokens": 6}),
    ],
)
def test_broken_order_and_late_updates_are_status_1(fault: str, part: str, found: dict[str, Any]) -> None:
    report = measure(fault)
    assert report[part] == found
    assert report["status"] == 1
    assert report["faults"] == [part]
    assert report["calls"]["finished"] == 6


@pytest.mark.parametrize(
    ("fault", "missing"),
    [
        *(("skip", 18), ("end_early", 12), ("repeat", 0)),
        *((fault, None) for fault in ("tenths", "fractions", "without_total", "silent", "back")),
    ],
)
def test_losses_are_counted_if_progress_counts_up_to_a_total(fault: str, missing: int | None) -> None:
    losses = measure(fault)["losses"]
    assert losses["missing"] == missing
    assert losses["basis"] == (None if missing is None else "total")


@pytest.mark.parametrize(
    ("fault", "missing", "surplus", "status"),
    [("steady", 0, 0, 0), ("skip", 18, 0, 1), ("tenths", 102, 0, 1), ("repeat", 0, 6, 1)],
)
def test_losses_are_counted_against_the_expected_number(
    fault: str, missing: int, surplus: int, status: int
) -> None:
    report = measure(fault, "--expect", str(COUNT))
    assert (report["losses"]["missing"], report["losses"]["surplus"]) == (missing, surplus)
    assert report["status"] == status
    assert ("losses" in report["faults"]) == (status == 1)


def test_missing_numbers_alone_are_no_fault() -> None:
    """A server may merge updates, so a missing number proves no loss."""
    report = measure("skip")
    assert (report["status"], report["faults"]) == (0, [])


@pytest.mark.parametrize(("fault", "error"), [("fail", "it went wrong"), ("refuse", "not today")])
def test_failed_calls_are_status_1(fault: str, error: str) -> None:
    report = measure(fault)
    assert report["status"] == 1
    assert report["calls"]["failed"] == 6
    assert report["calls"]["finished"] == 0
    assert [(error in reason, count) for reason, count in report["calls"]["errors"].items()] == [(True, 6)]
    assert report["losses"]["judgedCalls"] == 0


def test_a_server_that_ends_is_called_no_more() -> None:
    report = measure("leave")
    assert (report["status"], report["stop"]) == (1, "connection lost")
    assert 1 <= report["calls"]["failed"] + report["calls"]["cut"] <= 3
    assert report["notifications"]["received"] == COUNT


def test_a_flood_does_not_overflow_the_client() -> None:
    """The server writes at once far more updates than the client may queue for a handler."""
    report = measure("flood")
    assert report["notifications"]["delivered"] == 6 * faulty_server.FLOOD
    assert (report["client"]["overflowedCalls"], report["faults"]) == (0, [])


def test_the_report_can_be_read_by_a_person(server_file: Path) -> None:
    done = run("bench", server_file, "work", "count=50", "-n", "2", "--rounds", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "printed while it is imported\n"
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert lines[1] == "work on calculator 1.2.3, stdio, protocol 2026-07-28"
    assert re.fullmatch(r"2 at once, 1 round in [\d.]+ m?s", lines[2])
    assert lines[4].startswith("calls    2 finished, ")
    assert lines[5].startswith("updates  100 received, ")
    assert lines[6:9] == [
        "order    kept in 2 calls",
        "losses   none: all numbers up to the total came in 2 calls",
        "late     none after a result",
    ]
    assert re.fullmatch(r"client   \d+% of a processor.*", lines[9])
    assert lines[11].split() == ["milliseconds", "p50", "p90", "p99", "max"]
    assert [line[1:16].strip() for line in lines[13:16]] == ["first update", "whole call", "between updates"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FILE", "wrok"], "the server has no tool 'wrok': did you mean 'work'?"),
        (["FILE", "work"], "'work' needs count (integer)"),
        (["FILE"], "say which tool to call: add a=...; echo text=... names=...; point x=...; picture; fail;"),
        (["FILE", "work", "-n", "0"], "from 1 to 1,000"),
        (["FILE", "work", "-n", "1001"], "from 1 to 1,000"),
        (["FILE", "work", "--rounds", "0"], "1 or more"),
        (["FILE", "work", "--duration", "0"], "larger than 0"),
        (["FILE", "work", "--expect", "-1"], "0 or more"),
    ],
)
def test_a_tool_that_cannot_be_measured_is_status_2(
    server_file: Path, arguments: list[str], message: str
) -> None:
    done = run("bench", *(word.replace("FILE", str(server_file)) for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_only_tool_needs_no_name() -> None:
    done = run("bench", "-n", "1", "--rounds", "1", "--json", "--", *FAULTY, "1")
    assert json.loads(done.stdout)["tool"] == "steady"
    assert done.returncode == 0


def test_servers_over_http_and_websocket_are_measured(server_file: Path) -> None:
    with start("run", server_file, "--http", ":0", "--ws", ":0") as process:
        assert process.stderr is not None
        try:
            told = read_until(process.stderr.fileno(), "Ctrl-C")
            if " ws://" not in told:
                told += read_until(process.stderr.fileno(), " ws://")
            http, websocket = re.findall(r" at (\S+);", told)
            done = [
                run("bench", url, "work", "count=30", "--json", *more)
                for url, *more in ([http], [http, "--protocol", "2025-11-25"], [websocket])
            ]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
    reports = [json.loads(command.stdout) for command in done]
    assert [report["transport"] for report in reports] == ["HTTP", "HTTP", "WebSocket"]
    for report in reports:
        assert report["notifications"]["received"] == 100 * 30
        assert (report["faults"], report["losses"]["missing"]) == ([], 0)
    assert [report["late"]["updates"] for report in reports] == [None, 0, 0]


def test_ctrl_c_reports_what_has_been_measured(server_file: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    arguments = ("hang", f"marker={marker}", "-n", "2", "--duration", "60")
    with start("bench", server_file, *arguments) as process:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), "2 updates")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "Interrupted."
    text = printed.decode()
    assert "2 at once, interrupted after" in text
    assert "0 finished, 0.0/s, 2 cancelled by Ctrl-C" in text
    assert "updates  2 received" in text
    assert "losses   unknown: no call finished" in text
    assert "first update" in text
    assert marker.read_text() == "cleaned up"


def test_in_a_terminal_bars_are_drawn_and_removed(server_file: Path, tmp_path: Path) -> None:
    arguments = ("hang", f"marker={tmp_path / 'marker'}", "-n", "12", "--duration", "60")
    terminal = start_in_terminal("bench", server_file, *arguments, columns=80)
    before = read_until(terminal.screen, "and 2 more")
    terminal.process.send_signal(signal.SIGINT)
    shown, printed, status = terminal.finish()
    lines = lines_shown(before + shown)
    assert any(re.search(r"^call 10 .*hanging.*10%.*1/10", line) for line in lines)
    assert any(re.match(r"hang  0 calls .*━.* \d+%", line) for line in lines)
    assert lines[-1] == "Interrupted."
    assert "\x1b[?25h" in shown, "the cursor comes back"
    assert "12 cancelled by Ctrl-C" in printed
    assert status == 130


server = Server("in memory")


@server.tool
async def hang(ctx: Context) -> None:
    await ctx.report_progress(1, 2)
    await trio.sleep_forever()


@server.tool
async def rest(ctx: Context) -> None:
    for number in range(1, 4):
        await ctx.report_progress(number, 3, "the same number, another message")
        await ctx.report_progress(number, 3, "as this one")
        await trio.sleep(1)


@server.tool
async def complain(ctx: Context) -> None:
    raise ToolError(f"{random.random()}")


@server.tool(task=TaskConfig(mode="required"))
async def toil(ctx: Context) -> None:
    for number in range(1, 4):
        await ctx.report_progress(number, 3)
        await trio.sleep(1)


async def carry(tool: str, load: Load, protocol: str = "auto") -> tuple[LoadRun, WireCount]:
    """Run a load against a server in memory; with an autojump clock it needs no time."""
    wire, carried = WireCount(), LoadRun(load)
    settings = ClientSettings(progress=Lossless())
    connector = CountingConnector(server, wire)
    async with open_client(connector, settings=settings, protocol=protocol) as client:
        await run_load(client, tool, {}, carried)
    return carried, wire


async def test_calls_that_do_not_end_are_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    started = trio.current_time()
    carried, wire = await carry("hang", LOAD)
    assert trio.current_time() - started >= LOAD.duration + FINISH_SECONDS
    assert (carried.stop, carried.cut, carried.finished, carried.failed) == ("duration", 3, 0, 0)
    report = LoadReport(SUBJECT, carried, wire)
    assert report.faults == ["unfinished"]
    assert "0 finished, 0.0/s, 3 cancelled 5 s after the end" in words(report)


async def test_a_duration_ends_the_load_between_calls(autojump_clock: trio.testing.MockClock) -> None:
    carried, wire = await carry("rest", Load(calls=2, rounds=None, duration=8.0))
    assert (carried.stop, carried.finished, carried.cut) == ("duration", 2 * 3, 0)
    assert carried.delivered == wire.received == 6 * 6
    # A message that changes alone travels with the smallest larger number, so the order is kept.
    assert (wire.repeated, wire.broken_calls) == (0, 0)


@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
async def test_calls_that_become_tasks_are_not_judged(
    autojump_clock: trio.testing.MockClock, protocol: str
) -> None:
    carried, wire = await carry("toil", LOAD, protocol)
    assert (carried.finished, carried.delivered) == (6, 18)
    assert (wire.tasks, wire.judged_calls) == (6, 0)
    report = LoadReport(SUBJECT, carried, wire)
    assert report.faults == []
    assert "6 calls became tasks, and are not judged" in words(report)


async def test_the_number_of_different_errors_is_bounded() -> None:
    carried, _ = await carry("complain", Load(calls=10, rounds=5, duration=60.0))
    assert carried.failed == sum(carried.errors.values()) == 50
    assert len(carried.errors) == MAX_ERRORS + 1
    assert carried.errors[OTHER_ERRORS] == 50 - MAX_ERRORS


async def test_lines_come_once_a_second(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    carried = LoadRun(LOAD)
    async with open_gauge("title", carried, None, quiet=False):
        await trio.sleep(3.5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(" s  0 calls finished, 0 updates, 0/s")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_bars_are_a_line_each_with_room_at_their_end(width: int) -> None:
    carried = LoadRun(Load(calls=11, rounds=1, duration=10.0))
    carried.fail("it went wrong")
    for slot, total in zip(carried.slots, (None, 0.0, 12345.0), strict=False):
        slot.update(1000, total, "two\nlines\x1b[2J " + "long " * 100)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(Gauge("a title of some length", carried).draw(width))
    lines = capture.get().splitlines()
    assert len(lines) == 1 + 10 + 1
    assert all("\x1b" not in line for line in lines)
    assert all(console.measure(line.rstrip()).maximum <= max(width - 3, 30) for line in lines)


@pytest.mark.parametrize(
    ("values", "total", "missing"),
    [
        ([1, 2, 3], 3, (0, 3)),
        ([0, 1, 2, 3], 3, (0, 3)),
        ([1.0, 2.0, 3.0], 3.0, (0, 3)),
        ([1], 1, (0, 1)),
        ([3, 4, 5], 5, (2, 5)),
        ([1, 2, 3, 9, 10], 12, (7, 12)),
        ([1], 2, None),
        ([1, 2, 3], 2.5, None),
        ([1, 2, 3], None, None),
        ([1, 2, 3], 2, None),
        ([-1, 0, 1], 1, None),
        ([1e300, 2e300], 3e300, None),
        ([10, 20, 21, 30], 30, None),
    ],
)
def test_missing_numbers_of_progress_that_counts(
    values: list[float], total: float | None, missing: tuple[int, int] | None
) -> None:
    together, apart = ProgressFlow(), ProgressFlow()
    gaps = DurationHistogram()
    assert together.add([(value, total, None, None) for value in values], 0.0, gaps) == (0, 0)
    for now, value in enumerate(values):
        assert apart.add([(value, total, None, None)], float(now), gaps) == (0, 0)
    assert together.missing_numbers() == apart.missing_numbers() == missing


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0"), (1e-7, "<0.001"), (0.0000123, "0.012"), (0.00123, "1.23"), (0.0123, "12.3"), (7.89, "7,890")],
)
def test_milliseconds_have_three_digits(seconds: float, shown: str) -> None:
    assert show_milliseconds(seconds) == shown


def test_the_report_says_if_the_client_was_the_limit() -> None:
    carried = LoadRun(LOAD, seconds=2.0, cpu_seconds=1.9, overflowed=2, failed=2, stop="rounds")
    text = words(LoadReport(SUBJECT, carried, WireCount()))
    assert "95% of a processor, which may be the limit; too slow for 2 calls, which failed" in text


def test_the_help_names_every_exit_status() -> None:
    helped: subprocess.CompletedProcess[str] = run("bench", "--help")
    for status in ("0 all well", "1 a call failed", "2 it could not", "130 interrupted"):
        assert status in " ".join(helped.stdout.split())
