"""Forms: the answers that a field accepts, and a whole form at a terminal."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import CONTROL, lines_shown, read_until, run, start_in_terminal
from trio_mcp.cli.prompter import FormField, read_answer
from trio_mcp.cli.schemas import Schema

SERVER = Path(__file__).with_name("task_server.py")

SIZES = {"type": "string", "enum": ["s", "l"], "enumNames": ["small", "large"]}
TITLED = {"type": "string", "oneOf": [{"const": "1", "title": "two"}, {"const": "2", "title": "one"}]}

every_way = pytest.mark.parametrize(
    "options", [[], ["--task"], ["--protocol", "2025-11-25"], ["--task", "--protocol", "2025-11-25"]]
)


def schema(node: Any) -> Schema:
    return Schema.of(node, {})


@pytest.mark.parametrize(
    ("node", "text", "value"),
    [
        ({"type": "string"}, "5", "5"),
        ({"type": "integer"}, "-5", -5),
        ({"type": "number"}, "5", 5),
        ({"type": "number"}, "2.5e3", 2500.0),
        ({"type": "boolean"}, "Y", True),
        ({"type": "boolean"}, "no", False),
        (SIZES, "small", "s"),
        (SIZES, "l", "l"),
        (SIZES, "2", "l"),
        (TITLED, "1", "1"),
        (TITLED, "one", "2"),
        ({"type": "array", "items": SIZES}, "large, 1", ["l", "s"]),
        ({"type": "array", "items": {"anyOf": TITLED["oneOf"]}}, "two", ["1"]),
        ({"type": "string", "minLength": 2}, "ab", "ab"),
    ],
)
def test_a_typed_answer_becomes_a_value(node: Any, text: str, value: Any) -> None:
    read = read_answer(text, schema(node))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("node", "text", "words"),
    [
        ({"type": "integer"}, "2.5", "It must be of the type integer."),
        ({"type": "integer"}, "five", "It must be of the type integer."),
        ({"type": "number"}, "true", "It must be of the type number."),
        ({"type": "boolean"}, "maybe", "Say y or n."),
        (SIZES, "3", "Choose from 1 small, 2 large."),
        (SIZES, "medium", "Choose from 1 small, 2 large."),
        ({"type": "integer", "minimum": 3}, "2", "It must be at least 3."),
        ({"type": "number", "exclusiveMaximum": 3}, "3", "It must be less than 3."),
        ({"type": "string", "maxLength": 3}, "abcd", "It must be at most 3 characters."),
        ({"type": "array", "items": SIZES, "minItems": 2}, "s", "It must be at least 2 choices."),
    ],
)
def test_an_answer_that_does_not_fit_is_explained(node: Any, text: str, words: str) -> None:
    with pytest.raises(ValueError, match="^" + words.replace(".", r"\.")):
        read_answer(text, schema(node))


@pytest.mark.parametrize(
    ("node", "required", "prompt"),
    [
        ({"type": "string"}, True, "  name (string): "),
        ({"type": "string"}, False, "  name (string, optional): "),
        ({"type": "boolean", "default": True}, False, "  name (y/n) [y]: "),
        (
            {**SIZES, "default": "l", "title": "Size\x1b[2J"},
            True,
            "  Size\\x1b[2J (1 small, 2 large) [large]: ",
        ),
        (
            {"type": "array", "items": SIZES, "default": ["s", "l"]},
            True,
            "  name (1 small, 2 large; several with commas) [small, large]: ",
        ),
    ],
)
def test_a_prompt_says_what_may_be_typed(node: Any, required: bool, prompt: str) -> None:
    assert FormField("name", schema(node), required).prompt.plain == prompt


def read_prompt(screen: int, label: str) -> str:
    """Read until the cursor is behind a prompt with `label`."""
    seen = read_until(screen, label)
    while not CONTROL.sub("", seen).endswith(": "):
        seen += read_until(screen, ": ")
    return seen


@every_way
def test_a_form_is_filled_in(options: list[str]) -> None:
    terminal = start_in_terminal("call", SERVER, "ask", *options, columns=80, keyboard=True)
    seen = ""
    for label, typed in (
        ("size", "medium"),
        ("Choose from", "2"),
        ("copies", "3"),
        ("gift", ""),
        ("note", "héllo"),
        ("extras", "1,2"),
    ):
        seen += read_prompt(terminal.screen, label)
        terminal.type(f"{typed}\n")
    shown, printed, status = terminal.finish()
    assert status == 0, shown
    assert printed == "Order(size='small', copies=3, gift=False, note='héllo', extras=['milk', 'sugar'])\n"
    lines = lines_shown(seen + shown)
    for line in (
        "The server asks: What may it be?",
        "  How much of it.",
        "  size (1 large, 2 small): medium",
        "  copies (integer): 3",
        "  gift (y/n) [n]: ",
        "  note (string): héllo",
        "  extras (1 milk, 2 sugar; several with commas, optional): 1,2",
    ):
        assert line in lines
    assert "after" in lines_shown(shown)[-1], "the bar is back"
    assert "\x1b[?25h" in shown, "the cursor is back"


@every_way
@pytest.mark.parametrize("typed", ["\n", "\x04"], ids=["empty", "ctrl-d"])
def test_a_form_is_declined(options: list[str], typed: str) -> None:
    terminal = start_in_terminal("call", SERVER, "ask", *options, columns=80, keyboard=True)
    read_prompt(terminal.screen, "size")
    terminal.type(typed)
    shown, printed, status = terminal.finish()
    assert (printed, status) == ("decline\n", 0)
    assert "declined" in lines_shown(shown)


@every_way
def test_ctrl_c_at_a_prompt_cancels_the_call(options: list[str]) -> None:
    terminal = start_in_terminal("call", SERVER, "ask", *options, columns=80, keyboard=True)
    begun = read_prompt(terminal.screen, "size")
    terminal.process.send_signal(signal.SIGINT)
    shown, printed, status = terminal.finish()
    assert (printed, status) == ("", 130)
    assert lines_shown(shown)[-1] == "Cancelled."
    whole = begun + shown
    assert whole.rfind("\x1b[?25h") > whole.rfind("\x1b[?25l"), "the cursor is back"


@every_way
def test_without_a_terminal_a_form_is_declined(options: list[str]) -> None:
    done = run("call", SERVER, "ask", *options)
    assert (done.stdout, done.returncode) == ("decline\n", 0), done.stderr
    assert "declined, without a terminal to ask on: What may it be?" in done.stderr
