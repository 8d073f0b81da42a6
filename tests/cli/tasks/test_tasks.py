"""`trio-mcp tasks` and `call --task` from end to end, in both eras."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from tests.cli.command import lines_shown, read_until, run, start, start_in_terminal
from tests.support.limits import HANG_SECONDS
from trio_mcp.cli.tasks.listing import make_table
from trio_mcp.cli.tasks.rows import TaskRow, draw_rows, shorten
from trio_mcp.client.task_snapshot import TaskSnapshot
from trio_mcp.handlers.meter import Meter

pytestmark = pytest.mark.slow

SERVER = Path(__file__).parents[1] / "task_server.py"

both_eras = pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])


def keeper(*tasks: str) -> str:
    """The command line of a server that has `tasks`."""
    return shlex.join([sys.executable, str(SERVER), *tasks]) + " "


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@both_eras
def test_a_call_can_run_as_a_task(protocol: str) -> None:
    done = run("call", SERVER, "count", "--task", "--protocol", protocol)
    assert (done.stdout, done.returncode) == ("counted 10\n", 0), done.stderr
    lines = done.stderr.splitlines()
    # In 2025-11-25 progress may come together with the answer that names the task.
    assert [line for line in lines if re.fullmatch(r"task [\w-]{32}", line)]
    assert lines[-1] == "100% 10/10 all of it"


@both_eras
def test_a_call_as_a_task_that_fails_is_status_1(protocol: str) -> None:
    done = run("call", SERVER, "fail", "--task", "--protocol", protocol)
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.splitlines()[-1] == "the disk is full"


def test_ttl_says_how_long_the_task_is_kept() -> None:
    done = run("call", SERVER, "kept", "--task", "--ttl", "77", "--protocol", "2025-11-25")
    assert done.stdout == "77 seconds\n", done.stderr


def test_a_server_may_answer_at_once_without_a_task(server_file: Path) -> None:
    done = run("call", server_file, "add", "a=1", "--task")
    assert (done.stdout, done.returncode) == ("2\n", 0)
    assert done.stderr.splitlines()[-1] == "The server answered at once, without a task."
    assert "at once" not in run("call", server_file, "add", "a=1", "--task", "--quiet").stderr


@both_eras
@pytest.mark.parametrize("option", ["--idle-timeout", "--max-timeout"])
def test_a_timeout_cancels_the_task(tmp_path: Path, protocol: str, option: str) -> None:
    marker = tmp_path / "marker"
    for seconds in ("0.5", "2", "8", "32"):  # a busy machine may need longer to start the task
        words = ["hang", f"marker={marker}", "--task", option, seconds, "--protocol", protocol]
        done = run("call", SERVER, *words)
        assert done.returncode == 124, done.stderr
        if "hanging" in done.stderr:
            break
    assert marker.read_text() == "cleaned up"


@both_eras
def test_ctrl_c_cancels_the_task(tmp_path: Path, protocol: str) -> None:
    marker = tmp_path / "marker"
    with start("call", SERVER, "hang", f"marker={marker}", "--task", "--protocol", protocol) as process:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), "hanging")
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, printed) == (130, b"")
    assert errors.decode().splitlines()[-1] == "Cancelled."
    assert marker.read_text() == "cleaned up"


def test_in_a_terminal_the_id_is_printed_above_the_bar() -> None:
    shown, printed, status = start_in_terminal("call", SERVER, "count", "--task", columns=80).finish()
    assert (printed, status) == ("counted 10\n", 0)
    assert any(re.match(r"task [\w-]{32}", line) for line in lines_shown(shown))
    assert "all of it" in lines_shown(shown)[-1]


def test_list_shows_the_tasks_of_the_connection() -> None:
    assert run("tasks", "list", SERVER).stdout == "no tasks\n"
    tasks = ["one=stored-completed", "two=stored-working", "three=fail"]
    done = run("tasks", "list", keeper(*tasks))
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    rows = [re.sub(r" 1:[1-5]\d ", " AGE ", row) for row in rows]
    assert "one completed AGE done elsewhere (7/7)" in rows
    assert "two working AGE done elsewhere (7/7)" in rows
    assert done.returncode == 0


def test_list_prints_json() -> None:
    assert json.loads(run("tasks", "list", SERVER, "--json").stdout) == []
    done = run("tasks", "list", keeper("one=stored-completed"), "--json")
    (task,) = json.loads(done.stdout)
    assert (task["id"], task["status"], task["ttl"]) == ("one", "completed", 3600)
    assert task["statusMessage"] == "done elsewhere (7/7)"
    assert datetime.fromisoformat(task["createdAt"]).tzinfo is not None


def test_listing_tasks_needs_protocol_2025_11_25() -> None:
    done = run("tasks", "list", SERVER, "--protocol", "2026-07-28")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trio-mcp: protocol 2026-07-28 cannot list tasks; --protocol 2025-11-25 can\n"


@both_eras
@pytest.mark.parametrize(
    ("task", "printed", "error", "status"),
    [
        ("one=stored-completed", "from another process\n", "", 0),
        ("one=stored-cancelled", "", "trio-mcp: task one was cancelled", 1),
        ("one=fail", "", "the disk is full", 1),
        ("one=count", "counted 10\n", "", 0),
        ("-one=count", "counted 10\n", "", 0),
    ],
)
def test_result_prints_as_call_does(protocol: str, task: str, printed: str, error: str, status: int) -> None:
    ident = task.partition("=")[0]
    done = run("tasks", "result", keeper(task), ident, "--protocol", protocol)
    assert (done.stdout, done.returncode) == (printed, status), done.stderr
    assert error in done.stderr


@both_eras
def test_result_waits(protocol: str, pipe: Path) -> None:
    target = keeper(f"one=count:{pipe}")
    with start("tasks", "result", target, "one", "--protocol", protocol) as process:
        pipe.write_text("go on")  # returns when the tool has come to its pipe
        printed, _ = process.communicate(timeout=HANG_SECONDS)
    assert (printed, process.returncode) == (b"counted 10\n", 0)


@both_eras
@pytest.mark.parametrize(
    ("task", "printed", "status"),
    [
        ("one=count:{pipe}", "one is cancelled\n", 0),
        ("one=stored-cancelled", "one is cancelled\n", 0),
        ("one=stored-completed", "one has ended: completed\n", 1),
        ("one=stored-working", "one is cancelled\n", 0),
    ],
)
def test_cancel_prints_the_state_of_the_task_afterwards(
    protocol: str, task: str, printed: str, status: int, pipe: Path
) -> None:
    done = run("tasks", "cancel", keeper(task.format(pipe=pipe)), "one", "--protocol", protocol)
    assert (done.stdout, done.returncode) == (printed, status), done.stderr


@both_eras
@pytest.mark.parametrize("name", ["watch", "result", "cancel"])
def test_an_unknown_task_is_one_line_and_status_2(protocol: str, name: str) -> None:
    done = run("tasks", name, keeper("one=stored-completed"), "none", "--protocol", protocol)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "trio-mcp: the server has no task 'none', or no longer\n"


@both_eras
def test_watch_shows_lines_until_all_have_ended(protocol: str, pipe: Path) -> None:
    command = keeper("one=stored-completed", f"two=count:{pipe}").split()
    words = ["tasks", "watch", "one", "two", "--protocol", protocol, "--", *command]
    with start(*words) as process:
        assert process.stderr is not None
        begun = read_until(process.stderr.fileno(), "two working")
        pipe.write_text("go on")
        _, rest = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 0
    lines = (begun + rest.decode()).splitlines()
    assert "one completed 100% 7/7 done elsewhere" in lines
    assert lines[-1] == "two completed 100% 10/10 all of it"


@both_eras
@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("one=fail", "one failed  30% 3/10 the disk is full"),
        ("one=stored-cancelled", "one cancelled 100% 7/7 done elsewhere"),
    ],
)
def test_watch_is_status_1_if_not_all_completed(protocol: str, task: str, line: str) -> None:
    done = run("tasks", "watch", keeper(task, "two=count"), "one", "two", "--protocol", protocol)
    assert done.returncode == 1
    assert line in done.stderr.splitlines()


def test_watch_leaves_questions_to_others_and_ctrl_c_cancels_nothing() -> None:
    with start("tasks", "watch", keeper("one=ask"), "one") as process:
        assert process.stderr is not None
        read_until(process.stderr.fileno(), "one input required  50% 1/2 before")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "Stopped waiting."


@pytest.mark.parametrize("columns", [80, 120])
def test_watch_draws_a_bar_for_each_task(columns: int, pipe: Path) -> None:
    target = keeper("one=stored-completed", "two=fail", f"three=count:{pipe}")
    terminal = start_in_terminal("tasks", "watch", target, "one", "two", "three", columns=columns)
    begun = read_until(terminal.screen, "half of it")
    pipe.write_text("go on")
    shown, _, status = terminal.finish()
    assert status == 1
    one, two, three = lines_shown(begun + shown)[-3:]
    for line, name, words in (
        (one, "one", ("done elsewhere", "7/7", "completed")),
        (two, "two", ("the disk is full", "3/10", "failed")),
        (three, "three", ("all of it", "10/10", "completed")),
    ):
        assert line.startswith(name)
        assert all(word in line for word in words)
        assert len(line) <= columns - 3
    assert "\x1b[?25h" in shown, "the cursor is back"


LONG = "a/very/long/path/" * 20


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_bars_of_tasks_are_a_line_each_with_room_at_its_end(width: int) -> None:
    snapshots = [
        TaskSnapshot(id="a" * 32, status="working"),
        TaskSnapshot(id="b" * 32, status="input_required", status_message="two\nlines\x1b[2J"),
        TaskSnapshot(
            id="c", status="working", current=5, total=9, message=LONG, reported_at=datetime.now(UTC)
        ),
        TaskSnapshot(id="d", status="working", current=12345, reported_at=datetime.now(UTC)),
    ]
    rows = [TaskRow(snapshot.id, meter=Meter(0.0)) for snapshot in snapshots]
    for row, snapshot in zip(rows, snapshots, strict=True):
        row.update(snapshot)
    rows[3].end("failed", "宽" * 100)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(draw_rows(rows, width))
    drawn = capture.get()
    assert drawn.count("\n") == len(rows)
    assert "\x1b" not in drawn
    for line in drawn.splitlines():
        assert Console(width=width).measure(line.rstrip()).maximum <= max(width - 3, 30)
    if width >= 60:
        assert "input required" in drawn
        assert "12,345" in drawn


def test_bars_of_tasks_show_rate_and_time_left() -> None:
    def look(current: float, **told: float) -> TaskSnapshot:
        now = datetime.now(UTC)
        return TaskSnapshot(id="one", status="working", current=current, total=100, reported_at=now, **told)

    def draw(width: int) -> str:
        console = Console(file=io.StringIO(), width=width, color_system=None)
        with console.capture() as capture:
            console.print(draw_rows([row], width))
        return capture.get()

    row = TaskRow("one", meter=Meter(0.0))
    row.update(look(40))
    assert row.pace(0.0) == ("", "-:-- left"), "nobody knows yet"
    row.update(look(40, rate=2.0, eta=30.0))
    assert row.pace(0.0) == ("2/s", "0:30 left"), "the server, which has watched for longer"
    row.update(look(70, rate=2.0, eta=15.0))
    assert row.pace(10.0) == ("3/s", "0:10 left"), "what was seen from here"
    assert " left" in draw(100)
    assert " left" not in draw(80)
    row.end("completed", None)
    assert row.pace(10.0) == ("", "")
    assert " left" not in draw(100)


def test_a_snapshot_without_progress_keeps_the_earlier_progress() -> None:
    row = TaskRow("one")
    row.update(TaskSnapshot(id="one", status="working", current=5, total=9, reported_at=datetime.now(UTC)))
    row.update(TaskSnapshot(id="one", status="working", status_message="busy"))
    assert row.describe() == "one working  55% 5/9 busy"
    row.end("completed", None)
    assert row.describe() == "one completed  55% 5/9"


def test_ids_are_shortened_as_far_as_they_can_be_told_apart() -> None:
    assert shorten(["x" * 32]) == ["x" * 8]
    assert shorten(["task-number-1", "task-number-2", "3"]) == ["task-number-1", "task-number-2", "3"]
    assert shorten(["same", "same"]) == ["same", "same"]


def test_the_list_fits_a_small_terminal_and_ages_are_never_negative() -> None:
    now = datetime.now(UTC)
    tasks = [
        TaskSnapshot(id="i" * 32, status="input_required", created_at=now + timedelta(hours=1), message=LONG),
        TaskSnapshot(id="j", status="completed", created_at=now - timedelta(hours=1)),
        TaskSnapshot(id="k", status="failed"),
    ]
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as capture:
        console.print(make_table(tasks, now))
    lines = capture.get().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any("input required" in line and " 0:00 " in line for line in lines)
    assert any("1:00:00" in line for line in lines)
