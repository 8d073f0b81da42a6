"""Text of a peer, made safe to be shown on a terminal and in a log."""

from __future__ import annotations

import json
import logging

import pytest

from trio_mcp.log_records import MESSAGE_CHARACTERS
from trio_mcp.printable import escape_in_json, one_line, printable

HARMFUL = {
    "escape": ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    "clear": ("\x1b[2J", r"\x1b[2J"),
    "c1 csi": ("\x9b2J", r"\x9b2J"),
    "delete": ("a\x7f", r"a\x7f"),
    "backspace": ("a\b", r"a\x08"),
    "carriage return": ("good\rbad", r"good\rbad"),
    "null": ("\0", r"\x00"),
    "override": ("\u202egpj.exe", r"\u202egpj.exe"),
    "isolate": ("\u2066a\u2069", r"\u2066a\u2069"),
    "marks of direction": ("\u200e\u200f\u061c", r"\u200e\u200f\u061c"),
    "no width": ("pay\u200bpal\ufeff", r"pay\u200bpal\ufeff"),
    "joiner in a word": ("pay\u200dpal\u200c", r"pay\u200dpal\u200c"),
    "soft hyphen": ("a\xadb", r"a\xadb"),
    "line separators": ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
    "lone surrogate": ("a\ud83d", r"a\ud83d"),
    "tags": ("\U000e0041", r"\U000e0041"),
    "filler": ("\u3164", r"\u3164"),
    "variation selectors": ("a\U000e0100", r"a\U000e0100"),
}


@pytest.mark.parametrize(("text", "shown"), HARMFUL.values(), ids=HARMFUL)
@pytest.mark.parametrize("lines", [False, True])
def test_what_could_change_a_terminal_or_hide_becomes_visible(text: str, shown: str, lines: bool) -> None:
    expected = "good\nbad" if lines and text == "good\rbad" else shown
    assert printable(text, lines=lines) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "é ü ß",
        "日本語",
        "שלום",
        "العربية",
        "می\u200cخواهم",  # noqa: RUF001  # these letters are meant
        "👩\u200d💻",
        "10\xa0km",
        "⣿⠀",
        "\ue0b0",
    ],
)
def test_readable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_newlines_stay_only_if_several_lines_are_meant() -> None:
    assert printable("a\n[info] b\tc") == r"a\n[info] b\tc"
    assert printable("a\r\nb\tc", lines=True) == "a\nb\tc"
    assert one_line("a\n\n  b\x1b") == r"a b\x1b"


@pytest.mark.parametrize("text", [text for text, _ in HARMFUL.values()])
def test_within_json_an_escape_keeps_the_value(text: str) -> None:
    encoded = json.dumps(text, ensure_ascii=False)
    clean = printable(encoded, escape=escape_in_json)
    assert json.loads(clean) == text
    assert printable(clean) == clean


def test_records_of_the_package_are_clean(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("trio_mcp")
    logger.warning("the server says: %s", "no\nERROR forged \x1b[2J")
    assert caplog.messages == [r"the server says: no\nERROR forged \x1b[2J"]


def test_the_text_of_an_exception_is_clean_in_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("trio_mcp")
    try:
        raise ValueError("\x1b]0;title\x07")
    except ValueError:
        logger.exception("it failed")
    assert "\x1b" not in caplog.text
    assert r"ValueError: \x1b]0;title\x07" in caplog.text
    assert "Traceback" in caplog.text


def test_a_record_is_of_bounded_length(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("trio_mcp").warning("the server says: %s", "x" * 1_000_000)
    (message,) = caplog.messages
    assert len(message) < MESSAGE_CHARACTERS + 100
    assert message.endswith("... (1,000,017 characters)")
