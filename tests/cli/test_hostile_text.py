"""What a server says never changes the terminal of `trio-mcp`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import run, show_in_terminal, start_in_terminal

SERVER = r"""
import sys
from trio_mcp import Context, Server, ToolError

EVIL = "\x1b]0;title\x07\x1b[2J\x9b2J\u202e\n[info] forged"
server = Server("evil" + EVIL)


@server.tool(description="does it " + EVIL, name="evil")
async def evil(ctx: Context, fail: bool = False) -> str:
    print("\x1b[31mred\x1b[0m " + EVIL.replace("\n", ""), file=sys.stderr)
    await ctx.report_progress(1, 2, "step " + EVIL)
    await ctx.warning("log " + EVIL)
    if fail:
        raise ToolError("error " + EVIL)
    return "result " + EVIL


@server.resource("evil://resource", description="reads " + EVIL, title="title " + EVIL)
def resource() -> str:
    return "text " + EVIL


@server.prompt(description="asks " + EVIL)
def ask(argument: str) -> str:
    return "message " + EVIL


@ask.complete("argument")
def complete(value: str) -> list[str]:
    return ["value " + EVIL]
"""


@pytest.fixture
def evil_file(tmp_path: Path) -> Path:
    path = tmp_path / "evil.py"
    path.write_text(SERVER)
    return path


def harmful(text: str) -> list[str]:
    return [bad for bad in ("\x1b]", "\x1b[2J", "\x9b", "\u202e", "\x07") if bad in text]


@pytest.mark.parametrize(
    "arguments",
    [
        ["call", "FILE", "evil"],
        ["call", "FILE", "evil", "--quiet"],
        ["call", "FILE", "evil", "fail=true"],
        ["list", "FILE"],
        ["bench", "FILE", "evil", "--calls", "2"],
    ],
    ids=" ".join,
)
def test_a_terminal_gets_no_control_sequence_of_a_server(evil_file: Path, arguments: list[str]) -> None:
    words = [str(evil_file) if word == "FILE" else word for word in arguments]
    shown, _, status = start_in_terminal(*words, columns=200).finish()
    assert not harmful(shown), shown
    assert status in (0, 1), shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["call", "FILE", "evil"], "result "),
        (["read", "FILE", "evil://resource"], "text "),
        (["read", "FILE", "evil://resource", "--json"], "text "),
        (["prompt", "FILE", "ask", "argument=x"], "message "),
        (["complete", "FILE", "ask", "argument="], "value "),
    ],
    ids=" ".join,
)
def test_what_is_printed_to_a_terminal_is_printable(
    evil_file: Path, arguments: list[str], words: str
) -> None:
    command = [str(evil_file) if word == "FILE" else word for word in arguments]
    shown, status = show_in_terminal(*command, columns=200)
    assert not harmful(shown), shown
    assert words in shown
    assert status == 0


def test_lines_of_a_log_message_cannot_be_forged(evil_file: Path) -> None:
    done = run("call", evil_file, "evil")
    assert [line for line in done.stderr.splitlines() if line.startswith("[")] == [
        r"[warning] log \x1b]0;title\x07\x1b[2J\x9b2J\u202e\n[info] forged"
    ]


def test_a_program_gets_a_result_as_it_is_and_json_that_means_the_same(evil_file: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b2J\u202e\n[info] forged"
    assert run("call", evil_file, "evil").stdout == f"result {evil}\n"
    printed = run("list", evil_file, "--json").stdout
    assert not harmful(printed)
    assert json.loads(printed)["tools"][0]["description"] == f"does it {evil}"
