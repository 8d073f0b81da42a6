"""Results of tools in the messages that a model gets (MCP sampling, "Message Content Constraints")."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp.wire.sampling import find_message_flaw

USE = {"type": "tool_use", "id": "1", "name": "add", "input": {}}
RESULT = {"type": "tool_result", "toolUseId": "1", "content": []}
TEXT = {"type": "text", "text": "x"}


@pytest.mark.parametrize(
    ("messages", "flaw"),
    [
        ([("user", TEXT), ("assistant", [TEXT, USE]), ("user", [RESULT])], None),
        ([("user", {"type": ["no", "name"]})], None),  # what is no known block is not its business
        ([("assistant", USE), ("user", [RESULT, TEXT])], "mixed with other content"),
        ([("assistant", USE), ("assistant", [RESULT])], "mixed with other content"),
        ([("assistant", USE), ("user", TEXT)], "Tool result missing"),
        ([("assistant", USE)], "Tool result missing"),
        ([("user", [RESULT])], "without its use"),
    ],
    ids=str,
)
def test_each_use_of_a_tool_has_its_result_in_the_next_message(messages: Any, flaw: str | None) -> None:
    found = find_message_flaw([{"role": role, "content": content} for role, content in messages])
    assert found is None if flaw is None else flaw in str(found)


def test_a_message_is_an_object() -> None:
    assert find_message_flaw(["text"]) == "a message is an object"
