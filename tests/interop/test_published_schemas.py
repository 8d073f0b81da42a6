"""Every message of both sides fits the published schema of its revision, over every wire."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.conftest import LEGACY, MODERN, TRANSPORTS, Wire
from tests.interop.published_names import Naming, as_line, find_nulls, requests_of
from tests.interop.published_wire import Message, record
from trio_mcp.wire.eras import ERAS

CHECKER = Path(__file__).parents[1] / "peers" / "published_types.py"


Check: TypeAlias = Callable[[str, Sequence[tuple[str, Any]]], list[str]]


@pytest.fixture(scope="module")
def check(environment) -> Iterator[Check]:
    """Says what does not fit, by the types of the official package; its program is started once."""
    command = [environment("mcp2") / "bin" / "python", CHECKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def find_problems(revision: str, named: Sequence[tuple[str, Any]]) -> list[str]:
            process.stdin.write(as_line([revision, named]))
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield find_problems


@pytest.mark.parametrize("revision", ERAS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_message_fits_the_published_schema(check, autojump_clock, transport, revision):
    """The conformance fixture, driven by our client; progress, logs, questions, tasks and errors included."""
    messages = await record(Wire(transport, revision), revision)
    naming = Naming(revision, messages)
    nulls = [f"{path} is null: {message.json}" for message in messages for path in find_nulls(message.json)]
    problems = naming.problems + nulls + check(revision, naming.named)
    assert problems == []
    seen = Counter(name for name, _ in naming.named)
    for name in requests_of(revision, "client").values():
        assert seen[f"{name}Request"], f"{name} was not tested"
    assert seen["ProgressNotification"] > 3
    assert seen["LoggingMessageNotification"] > 3
    assert seen["JSONRPCErrorResponse"] > 3


@pytest.mark.parametrize(
    ("revision", "name", "value"),
    [
        (MODERN, "ListToolsResult", {"tools": []}),
        (
            MODERN,
            "ProgressNotification",
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}},
        ),
        (LEGACY, "CallToolResult", {"content": [{"type": "text"}]}),
        (LEGACY, "CallToolResult", {"content": [{"type": "text", "text": 1}]}),
        (LEGACY, "JSONRPCResultResponse", {"jsonrpc": "2.0", "id": 1}),
    ],
)
def test_a_value_that_does_not_fit_is_found(check, revision, name, value):
    (problem,) = check(revision, [(name, value)])
    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("revision", "side", "body"),
    [
        ("2025-03-26", "server", {"id": 1, "method": "elicitation/create"}),
        ("2025-06-18", "client", {"id": 1, "method": "tasks/get"}),
        (MODERN, "client", {"id": 1, "method": "initialize"}),
        (MODERN, "server", {"id": 1, "method": "sampling/createMessage"}),
        (MODERN, "client", {"id": 1, "method": "tasks/get", "params": {}}),
        (LEGACY, "server", {"method": "notifications/tasks", "params": {}}),
        (LEGACY, "server", {"id": 7, "result": {}}),
    ],
)
def test_a_message_that_a_revision_does_not_have_is_found(revision, side, body):
    assert len(Naming(revision, [Message(side, {"jsonrpc": "2.0", **body})]).problems) == 1


def test_a_null_is_found_unless_any_json_may_stand_there():
    free = {"params": {"arguments": {"a": None}, "ttl": None, "_meta": {"b": None}}}
    assert list(find_nulls(free)) == []
    assert list(find_nulls({"result": {"tools": [{"title": None}]}})) == [".result.tools[0].title"]
