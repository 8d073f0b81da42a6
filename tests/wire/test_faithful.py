"""Messages that are handed on keep what this version does not know."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from trio_mcp.wire.content import TextContent
from trio_mcp.wire.faithful import read_faithfully
from trio_mcp.wire.messages import CallToolResult, Tool
from trio_mcp.wire.prompts import GetPromptResult, Prompt
from trio_mcp.wire.resources import ReadResourceResult

TOOL = {"name": "t", "inputSchema": {"type": "object"}}


def through(message: Any, kind: Any) -> Any:
    return json.loads(msgspec.json.encode(read_faithfully(json.dumps(message).encode(), kind, "it")))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (TOOL, Tool),
        ({**TOOL, "new": {"a": [1, None]}, "io.x/y": 2}, Tool),
        ({**TOOL, "annotations": {"readOnlyHint": False, "newHint": True}}, Tool),
        ({**TOOL, "icons": [{"src": "a", "new": 1}, {"src": "b"}], "_meta": {"k": None}}, Tool),
        ({"name": "p", "arguments": [{"name": "a", "required": False, "new": 1}]}, Prompt),
        (
            {"content": [{"type": "text", "text": "a", "new": 1}, {"type": "new", "x": {}}], "n": 1},
            CallToolResult,
        ),
        ({"content": [], "structuredContent": [1, 2.0], "isError": True}, CallToolResult),
        (
            {"messages": [{"role": "user", "content": {"type": "text", "text": "a", "new": 1}, "n": 2}]},
            GetPromptResult,
        ),
        (
            {"contents": [{"uri": "x:/y", "text": "t", "new": 1}], "ttlMs": 5, "cacheScope": "public"},
            ReadResourceResult,
        ),
    ],
)
def test_a_message_is_encoded_as_it_came(message: Any, kind: Any) -> None:
    assert through(message, kind) == message


def test_what_was_read_is_of_the_type_and_can_be_changed() -> None:
    raw = json.dumps({**TOOL, "new": 1, "annotations": {"readOnlyHint": True, "newHint": 2}}).encode()
    tool = read_faithfully(raw, Tool, "it")
    assert isinstance(tool, Tool)
    assert tool.annotations is not None
    assert tool.annotations.read_only_hint is True
    renamed = json.loads(msgspec.json.encode(msgspec.structs.replace(tool, name="other")))
    assert renamed == {**json.loads(raw), "name": "other"}


def test_a_known_block_is_of_its_type_and_an_unknown_one_is_encoded() -> None:
    raw = b'{"content": [{"type": "text", "text": "a"}, {"type": "new"}]}'
    first, second = read_faithfully(raw, CallToolResult, "it").content
    assert isinstance(first, TextContent)
    assert isinstance(second, msgspec.Raw)


@pytest.mark.parametrize(
    "message", [{"inputSchema": {}}, {"name": 5, "inputSchema": {}}, [], {**TOOL, "_meta": 1}]
)
def test_what_is_essential_and_unreadable_is_an_error(message: Any) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_faithfully(json.dumps(message).encode(), Tool, "it")


def test_what_is_for_display_and_unreadable_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert through({**TOOL, "title": 5, "annotations": [1]}, Tool) == TOOL
    assert "title of it is left out" in caplog.text
    assert "annotations of it is left out" in caplog.text


def test_absent_is_not_null() -> None:
    assert through({"content": [], "structuredContent": None}, CallToolResult) == {
        "content": [],
        "structuredContent": None,
    }
    assert through({"content": []}, CallToolResult) == {"content": []}
