"""The bar and the lines: their content, how often they are drawn, and their width."""

from __future__ import annotations

import io
import math

import pytest
import trio
import trio.testing
from rich.console import Console
from rich.spinner import Spinner

from trio_mcp import LogMessage
from trio_mcp.cli.display import draw_line, make_log_handler, open_display
from trio_mcp.handlers.meter import Meter, Reading, show_count, show_number, show_rate, show_share, show_time

LONG = "a/very/long/path/" * 20


def meter_at(*updates: tuple[float, float | None, str | None]) -> Meter:
    """One update each second from second 1 on, with a sample after each."""
    meter = Meter(0.0)
    for second, update in enumerate(updates, 1):
        meter.update(*update)
        meter.sample(float(second))
    return meter


def drawn(meter: Meter, width: int, *, now: float = 2.0, ended: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(draw_line(meter, now, "title", Spinner("dots"), width, ended=ended))
    return capture.get()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("message", [None, "short", LONG, "two\nlines\x1b[2J\rreturn", "宽" * 100])
@pytest.mark.parametrize("total", [None, 12345.0, 0.0])
@pytest.mark.parametrize("ended", [True, False])
def test_a_bar_is_one_line_with_room_at_its_end(
    width: int, message: str | None, total: float | None, ended: bool
) -> None:
    line = drawn(meter_at((1000, total, message), (2000, total, message)), width, ended=ended)
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert "\x1b" not in line
    assert Console(width=width).measure(line.rstrip()).maximum <= max(width - 3, 30)


def test_a_bar_shows_message_share_rate_and_time_left() -> None:
    meter = meter_at((0, 100, "a"), (25, 100, "b"))
    line = drawn(meter, 120)
    for word in ("b ", "25%", "25/100", "25/s", "0:03 left", "━"):
        assert word in line


def test_without_a_total_there_is_a_count_and_the_time_so_far() -> None:
    line = drawn(meter_at((0, None, "a"), (1234, None, "b")), 80)
    for word in ("b ", "1,234", "1,234/s", "0:02"):
        assert word in line
    assert "%" not in line
    assert "left" not in line


def test_the_rate_of_slow_work_is_not_forgotten_between_two_updates() -> None:
    """One step a minute, drawn ten times a second: the time left counts down, and grows if no step comes."""
    meter = Meter(0.0)
    for step in range(4):
        meter.update(step, 10)
        for tenth in range(600):
            meter.sample(60 * step + tenth / 10)
    assert meter.rate(180.0) == pytest.approx(1 / 60)
    assert [round(meter.time_left(second)) for second in (180.0, 200.0, 239.0)] == [420, 400, 361]
    assert meter.time_left(400.0) > 420


def test_before_the_first_update_there_is_the_title() -> None:
    assert "title" in drawn(Meter(0.0), 80)


def test_the_newest_update_counts() -> None:
    meter = Meter(10.0)
    assert meter.newest is None
    assert meter.time_left(11.0) == math.inf
    assert meter.average(11.0) == 0
    for number in range(1, 1001):
        meter.update(number, 2000, f"file {number}")
    assert meter.updates == 1000
    assert meter.newest == Reading(1000, 2000, "file 1000")
    assert meter.rate(11.0) == 0, "nothing has been sampled yet"
    meter.sample(11.0)
    meter.update(1500, 2000)
    assert meter.rate(12.0) == 500
    assert meter.time_left(12.0) == 1
    assert meter.average(12.0) == 1499 / 2


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (show_number(0), "0"),
        (show_number(1234567), "1,234,567"),
        (show_number(0.25), "0.25"),
        (show_number(1e20), "1e+20"),
        (show_count(Reading(5)), "5"),
        (show_count(Reading(5, 1000)), "5/1,000"),
        (show_share(Reading(5)), ""),
        (show_share(Reading(999, 1000)), "99%"),
        (show_share(Reading(2000, 1000)), "100%"),
        (show_share(Reading(-1, 1000)), "0%"),
        (show_share(Reading(1, -1)), ""),
        (show_rate(0), ""),
        (show_rate(0.5), "0.5/s"),
        (show_rate(12345.6), "12,346/s"),
        (show_time(7.4), "0:07"),
        (show_time(75), "1:15"),
        (show_time(3723), "1:02:03"),
        (show_time(math.inf), "-:--"),
    ],
)
def test_numbers_are_shown_in_few_characters(shown: str, text: str) -> None:
    assert shown == text


async def test_lines_show_the_first_and_the_last_update(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_display("title", None) as display:
        for number in range(1, 10_001):
            display.update(number, 10_000, f"file {number}")
    assert capsys.readouterr().err == "  0% 1/10,000 file 1\n100% 10,000/10,000 file 10000\n"
    assert display.meter.updates == 10_000


async def test_lines_come_at_most_five_times_a_second(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_display("title", None) as display:
        for number in range(1, 1001):
            display.update(number)
            await trio.sleep(0.01)
    lines = capsys.readouterr().err.splitlines()
    assert 45 <= len(lines) <= 52
    assert (lines[0], lines[-1]) == ("1", "1,000")


async def test_a_line_that_was_held_back_comes_while_nothing_happens(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_display("title", None) as display:
        display.update(1, None, "download")
        display.update(2, None, "build")
        await trio.sleep(0.3)
        assert capsys.readouterr().err == "1 download\n2 build\n"
    assert capsys.readouterr().err == "", "no line comes twice"


async def test_without_updates_no_line_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_display("title", None):
        pass
    assert capsys.readouterr().err == ""


async def test_an_exception_in_the_block_comes_out_alone() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_display("title", None):
            raise ZeroDivisionError


async def test_a_live_bar_ends_with_the_last_update() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=True, _environ={"TERM": "xterm"})
    log = make_log_handler(console)
    async with open_display("title", console) as display:
        for number in range(1, 100_001):
            display.update(number, 100_000, f"file {number}")
        log(LogMessage("warning", "look out"))
    shown = screen.getvalue()
    assert "file 100000" in shown
    assert "look out" in shown
    assert shown.count("\n") <= 4, "the bar is drawn over itself"
    assert shown.count("file ") < 100, "drawing does not follow every update"


def test_logs_without_a_terminal_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log = make_log_handler(None)
    log(LogMessage("info", "text\x1b[2J"))
    log(LogMessage("error", {"key": "ü"}, "tool"))
    assert capsys.readouterr().err == '[info] text\\x1b[2J\n[error] tool: {"key": "ü"}\n'
