"""`trio-mcp` from end to end: output, errors and exit statuses."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import trio_mcp
from tests.cli.command import SECONDS, command, environment, lines_shown, run, start_in_terminal

MISSING_EXTRA = """
import sys
sys.modules[{name!r}] = None
sys.argv = ["trio-mcp", "list", "x.py"]
from trio_mcp.cli.main import main
main()
"""


def test_list_shows_a_table(server_file: Path) -> None:
    done = run("list", server_file)
    assert done.returncode == 0, done.stderr
    assert "calculator 1.2.3, protocol 2026-07-28" in done.stdout
    for words in ("add", "a*: integer", "b: integer", "names*: string[]", "Point | null", "Add two numbers."):
        assert words in done.stdout


def test_list_prints_json(server_file: Path) -> None:
    done = run("list", server_file, "--json", "--protocol", "2025-06-18")
    listed = json.loads(done.stdout)
    assert listed["server"] == {"name": "calculator", "version": "1.2.3"}
    assert listed["protocolVersion"] == "2025-06-18"
    assert listed["tools"][0]["name"] == "add"
    assert listed["tools"][0]["inputSchema"]["required"] == ["a"]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["add", "a=1", "b=2"], "3\n"),
        (["add", "--json", '{"a": 4}'], "5\n"),
        (["add", "a=1", "--structured"], '{\n  "result": 2\n}\n'),
        (["point", "x=1"], '{"x":1,"y":null}\n'),
        (
            ["echo", "text=5", "names=a", "names=b", 'point={"x": 1}', "mode=7"],
            "('5', ['a', 'b'], Point(x=1, y=None), 7)\n",
        ),
        (["picture"], "[image/png, 3 bytes]\n"),
    ],
)
def test_call_prints_the_result(server_file: Path, arguments: list[str], printed: str) -> None:
    done = run("call", server_file, *arguments)
    assert done.stdout == printed
    assert done.returncode == 0, done.stderr


def test_a_command_line_and_a_command_at_the_end_are_targets(server_file: Path) -> None:
    words = command("run", server_file)
    assert run("call", " ".join(words), "add", "a=1").stdout == "2\n"
    assert run("call", "add", "a=1", "--", *words).stdout == "2\n"


def test_the_server_gets_an_environment_and_a_directory(tmp_path: Path) -> None:
    (tmp_path / "where.py").write_text(
        "import os\n"
        "from trio_mcp import Server\n"
        "server = Server('where')\n"
        "@server.tool\n"
        "def where() -> str:\n"
        "    return f\"{os.environ['ONE']} {os.environ['TWO']} {os.getcwd()}\"\n"
    )
    options = ["--env", "ONE=1", "--env", "TWO=a b", "--cwd", "/"]
    done = run("call", tmp_path / "where.py", "where", *options)
    assert done.stdout == "1 a b /\n", done.stderr
    assert "where" in run("list", tmp_path / "where.py", *options).stdout


def test_progress_is_printed_as_lines(server_file: Path) -> None:
    done = run("call", server_file, "work", "count=5000")
    lines = [line for line in done.stderr.splitlines() if "step" in line]
    assert lines[0].startswith("  0% 1/5,000 step 1 long")
    assert lines[-1].startswith("100% 5,000/5,000 step 5000 long")
    assert done.stdout == "done\n"


def test_log_messages_are_printed_between_the_progress(server_file: Path) -> None:
    done = run("call", server_file, "tell")
    assert '[info] {"key": "value"}\n[warning] tool: look out\n' in done.stderr
    assert "too small" not in done.stderr
    assert "too small" in run("call", server_file, "tell", "--log-level", "debug").stderr


def test_quiet_shows_only_what_the_server_itself_writes(server_file: Path) -> None:
    assert run("call", server_file, "tell", "--quiet").stderr == "printed while it is imported\n"
    assert "step" not in run("call", server_file, "work", "count=3", "--quiet").stderr


def test_a_tool_that_fails_is_status_1(server_file: Path) -> None:
    done = run("call", server_file, "fail")
    assert (done.returncode, done.stdout) == (1, "")
    assert "it went wrong\nin two lines\n" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["call", "FILE", "ad", "a=1"], "the server has no tool 'ad': did you mean 'add'?"),
        (["call", "FILE", "add"], "'add' needs a (integer)"),
        (["call", "FILE", "add", "c=1"], "'add' has no parameter 'c'"),
        (["call", "FILE", "add", "a"], "'a' is no argument"),
        (["call", "FILE", "picture", "--structured"], "the tool 'picture' returned no structured content"),
        (["call", "FILE", "add", "a=1", "--idle-timeout", "0"], "larger than 0"),
        (["call", "FILE", "add", "a=1", "--protocol", "1999-01-01"], "1999-01-01"),
        (["call", "FILE", "leave"], "the server closed the connection"),
        (["call", "FILE"], "TOOL"),
        (["call", "FILE", "add", "a=1", "--ttl", "5"], "it needs --task"),
        (["call", "FILE", "add", "a=1", "--task", "--protocol", "2025-11-25"], "cannot run as a task"),
        (["call", "FILE", "add", "a=1", "--task", "--protocol", "2025-06-18"], "has no background tasks"),
        (["list", "none.py"], "there is no file 'none.py'"),
        (["list", "FILE:other"], "the server closed the connection"),
        (["list", "--"], "after -- there must be a command"),
        (["list", "--", "no-such-command-anywhere"], "cannot start the server 'no-such-command-anywhere'"),
        (["list", "FILE", "--nonsense"], "--nonsense"),
        (["run", "none.py"], "there is no file 'none.py'"),
        (["demo", "no/such/directory"], "there is no directory 'no/such/directory'"),
        (["nonsense"], "nonsense"),
    ],
)
def test_errors_are_one_line_and_status_2(server_file: Path, arguments: list[str], message: str) -> None:
    done = run(*(word.replace("FILE", str(server_file)) for word in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("trio-mcp: ")]
    assert message in lines[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--idle-timeout", "made no progress for 0.2 seconds"),
        ("--max-timeout", "took longer than 0.2 seconds"),
    ],
)
def test_a_timeout_is_status_124(server_file: Path, tmp_path: Path, option: str, words: str) -> None:
    marker = tmp_path / "marker"
    done = run("call", server_file, "hang", f"marker={marker}", option, "0.2")
    assert done.returncode == 124
    assert f"trio-mcp: tool 'hang' {words}\n" in done.stderr


def test_a_file_that_cannot_be_imported_is_status_1(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    done = run("run", broken)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "trio-mcp: " in done.stderr


def test_version_and_help() -> None:
    assert run("--version").stdout == f"{trio_mcp.__version__}\n"
    assert run().stdout == run("--help").stdout
    for name in ("run", "list", "call", "tasks", "demo"):
        assert name in run("--help").stdout
    assert "KEY=VALUE" in run("call", "--help").stdout


@pytest.mark.parametrize("name", ["rich", "cyclopts"])
def test_a_missing_extra_is_named(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MISSING_EXTRA.format(name=name)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"trio-mcp needs {name}; run: pip install 'trio-mcp[cli]'\n"


@pytest.mark.parametrize("arguments", [["list", "FILE"], ["call", "FILE", "add", "a=1"]])
def test_a_stdout_that_nobody_reads_is_no_traceback(server_file: Path, arguments: list[str]) -> None:
    words = command(*(word.replace("FILE", str(server_file)) for word in arguments))
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(80)
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 141
    assert b"Traceback" not in errors
    assert b"Exception ignored" not in errors


def test_demo_counts_hashes_and_shows_progress(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_bytes(b"1\n2\n")
    (tmp_path / "b" / "c.py").write_bytes(b"3\n")
    done = run("demo", tmp_path)
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(b"1\n2\n3\n").hexdigest() in done.stdout
    rows = [line.split() for line in done.stdout.splitlines()]
    for row in ([".txt", "1", "2", "4"], [".py", "1", "1", "2"], ["total", "2", "3", "6"]):
        assert row in rows
    assert "4 updates" in done.stdout
    assert done.stderr.splitlines()[0] == "0 counting files"
    assert done.stderr.splitlines()[-1] == "100% 2/2 b/c.py"


def test_demo_can_run_as_a_background_task(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"1\n2\n")
    done = run("demo", tmp_path, "--task")
    assert done.returncode == 0, done.stderr
    assert hashlib.sha256(b"1\n2\n").hexdigest() in done.stdout
    assert re.fullmatch(r"task +[\w-]+, completed, [1-9]\d* snapshots", done.stdout.splitlines()[-1])
    assert done.stderr.splitlines()[-1] == "100% 1/1 a.txt"


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("total", ["true", "false"])
def test_a_terminal_shows_a_bar_on_one_line(server_file: Path, columns: int, total: str) -> None:
    terminal = start_in_terminal(
        "call", server_file, "work", "count=20000", f"total={total}", columns=columns
    )
    shown, printed, status = terminal.finish()
    assert (printed, status) == ("done\n", 0)
    lines = lines_shown(shown)
    assert "step 20000" in lines[-1]
    assert ("100%" in lines[-1]) == (total == "true")
    assert all(len(line) <= columns - 3 for line in lines)
    assert "\x1b[?25h" in shown, "the cursor is back"


def test_stderr_of_the_server_is_printed_above_the_bar(server_file: Path) -> None:
    shown, printed, status = start_in_terminal("call", server_file, "chat", columns=80).finish()
    assert (printed, status) == ("done\n", 0)
    lines = lines_shown(shown)
    for line in ("printed while it is imported", "word 0", "word 1", "word 2", "warning a log message"):
        assert line in [shown.rstrip() for shown in lines]
