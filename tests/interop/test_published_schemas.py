"""Every message of both sides fits the published schema of its revision, over every wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

import pytest

from tests.conftest import LEGACY, MODERN, TRANSPORTS, Wire
from tests.interop.published_checks import HAS_NPM, Check, open_schemas, open_types
from tests.interop.published_names import Naming, find_nulls, requests_of
from tests.interop.published_wire import Message, record
from trio_mcp.wire.eras import ERAS

OLDEST = "2024-11-05"  # its schema is not in the suite

needs_npm = pytest.mark.skipif(not HAS_NPM, reason="needs npm")


@pytest.fixture(scope="module")
def check_types() -> Iterator[Check]:
    with open_types() as check:
        yield check


@pytest.fixture(scope="module")
def check_schemas() -> Iterator[Check]:
    with open_schemas() as check:
        yield check


Recorded: TypeAlias = dict[tuple[str, str], Naming]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """The messages that were recorded already, by wire and revision."""
    return {}


async def find_messages(recorded: Recorded, transport: str, revision: str) -> Naming:
    """The conformance fixture, driven by our client; progress, logs, questions, tasks and errors included."""
    if (transport, revision) not in recorded:
        messages = await record(Wire(transport, revision), revision)
        recorded[transport, revision] = Naming(revision, messages)
    return recorded[transport, revision]


@pytest.mark.parametrize("revision", ERAS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_message_fits_the_published_types(
    check_types, recorded, autojump_clock, transport, revision
):
    naming = await find_messages(recorded, transport, revision)
    assert naming.problems + naming.find_nulls() + check_types(revision, naming.named) == []
    seen = Counter(name for name, _ in naming.named)
    for name in requests_of(revision, "client").values():
        assert seen[f"{name}Request"], f"{name} was not tested"
    assert seen["ProgressNotification"] > 3
    assert seen["LoggingMessageNotification"] > 3
    assert seen["JSONRPCErrorResponse"] > 3


@needs_npm
@pytest.mark.parametrize("revision", [revision for revision in ERAS if revision != OLDEST])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_message_fits_the_published_schema(
    check_schemas, recorded, autojump_clock, transport, revision
):
    naming = await find_messages(recorded, transport, revision)
    assert check_schemas(revision, naming.named) == []


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
@pytest.mark.parametrize("checker", ["check_types", pytest.param("check_schemas", marks=needs_npm)])
def test_a_value_that_does_not_fit_is_found(request, checker, revision, name, value):
    (problem,) = request.getfixturevalue(checker)(revision, [(name, value)])
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
