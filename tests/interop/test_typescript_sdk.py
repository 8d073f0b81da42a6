"""Background tasks of 2025-11-25 with the official TypeScript SDK over stdio, each as client and as server.

The SDK's client forgets a call's progress handler as soon as it reads the response, and handles
notifications a moment after they were read. Updates that are read together with the response of a
plain call are therefore lost inside the SDK, so these tests look at the transport's record of what
arrived. For a task the SDK keeps the handler, and nothing is lost.
"""

import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from tests.support.peer_report import run_to_report
from trio_mcp import Client, TaskCancelled, TaskHandle, ToolError, open_client

PEERS = Path(__file__).parents[1] / "peers"
UPDATES = [[i, 200, f"update {i}"] for i in range(1, 201)]
METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32601, -32602, -32603

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


@pytest.fixture(scope="module")
def ts1(environment: Callable[[str], Path]) -> Path:
    """The directory whose node_modules holds the SDK."""
    return environment("ts1")


# The SDK's client and our server.


@pytest.fixture(scope="module")
def report(ts1: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the SDK's client saw of our server."""
    directory = tmp_path_factory.mktemp("markers")
    server = [sys.executable, PEERS / "our_task_server.py"]
    seen, _ = run_to_report("node", PEERS / "ts1" / "client.mjs", ts1, directory, *server)
    return seen


def assert_streamed(seen: dict[str, Any], last: str) -> None:
    """taskCreated, then nothing but taskStatus, then the end (`callToolStream`)."""
    first, *between, end = seen["kinds"]
    assert (first, end) == ("taskCreated", last)
    assert between == ["taskStatus"] * len(seen["statuses"])
    assert seen["task"]["status"] == "working"  # a task starts so, however fast it is (SPEC 44)


def test_it_negotiates_and_sees_our_capabilities(report: dict[str, Any]) -> None:
    assert report["protocolVersion"] == "2025-11-25"
    assert report["serverVersion"]["name"] == "our-task-server"
    tasks = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    assert report["capabilities"]["tasks"] == tasks  # SPEC 43
    support = report["taskSupport"]
    assert (support["loop"], support["required"]) == ("optional", "required")
    assert support["forbidden"] in (None, "forbidden")


def test_a_stream_goes_from_created_over_status_to_the_result(report: dict[str, Any]) -> None:
    gate = report["gate"]
    assert_streamed(gate, "result")
    assert set(gate["statuses"][:-1]) == {"working"}
    assert gate["statuses"][-1] == "completed"
    assert gate["callbacks"] == [[1, 2, "waiting"], [2, 2, "through"]]
    assert gate["result"]["text"] == "through the gate"


def test_all_progress_of_a_task_arrives_in_order_by_the_calls_token(report: dict[str, Any]) -> None:
    """SPEC 46 and 49."""
    task = report["task"]
    assert_streamed(task, "result")
    assert task["wire"]["progress"] == UPDATES
    assert task["callbacks"] == UPDATES
    assert task["wire"]["createdBeforeProgress"]
    assert task["wire"]["finalAfterProgress"]
    assert task["wire"]["related"] == [task["task"]["taskId"]]
    *working, final = task["wire"]["statuses"]
    assert set(working) == {"working"}
    assert final == "completed"


def test_a_finished_task_and_its_result_can_be_fetched(report: dict[str, Any]) -> None:
    """SPEC 45 and 46."""
    task = report["task"]
    task_id = task["task"]["taskId"]
    assert task["result"] == {"text": "looped 200", "isError": False, "related": task_id}
    assert task["resultAgain"] == {"text": "looped 200", "isError": False}
    afterwards = task["afterwards"]
    assert (afterwards["taskId"], afterwards["status"]) == (task_id, "completed")
    assert afterwards["createdAt"] == task["task"]["createdAt"] <= afterwards["lastUpdatedAt"]
    assert "io.modelcontextprotocol/related-task" not in afterwards["_meta"]


def test_the_progress_of_a_plain_call_is_on_the_wire_before_its_result(report: dict[str, Any]) -> None:
    direct = report["direct"]
    assert direct["text"] == "looped 200"
    assert direct["wire"] == UPDATES
    assert direct["wireBeforeResult"]
    # The SDK delivers the first of them. It reports an error for each of the rest, and for nothing else.
    handled = len(direct["callbacks"])
    assert direct["callbacks"] == UPDATES[:handled]
    lost = [complaint for complaint in report["complaints"] if "unknown token" in complaint]
    assert len(lost) == len(UPDATES) - handled
    assert lost == report["complaints"]


def test_tasks_at_once_do_not_mix(report: dict[str, Any]) -> None:
    assert len(report["atOnce"]) == 10
    for task in report["atOnce"]:
        base = task["base"]
        assert task["text"] == str(base)
        assert task["callbacks"] == [[base + i, None, str(base)] for i in range(50)]


def test_a_tool_error_fails_the_task(report: dict[str, Any]) -> None:
    """SPEC 48; the result can be fetched all the same."""
    failed = report["failed"]
    assert_streamed(failed, "error")
    assert failed["statuses"][-1] == "failed"
    task_id = failed["task"]["taskId"]
    assert failed["result"] == {"text": "failed on purpose", "isError": True, "related": task_id}


def test_a_cancelled_task_ends_and_stays_cancelled(report: dict[str, Any]) -> None:
    """SPEC 47; the handler's finally has run while the server went on serving."""
    cancelled = report["cancelled"]
    assert cancelled["streamed"]["task"]["taskId"] == cancelled["taskId"], "the newest is listed first"
    assert not cancelled["markedBefore"]
    assert cancelled["working"] == "working"
    assert [cancelled[when] for when in ("cancelled", "next", "settled")] == ["cancelled"] * 3
    assert cancelled["ended"] == {"text": "ended", "isError": False}
    assert cancelled["markedAfter"]
    assert cancelled["again"]["code"] == INVALID_PARAMS
    assert cancelled["result"]["code"] == INTERNAL_ERROR
    assert_streamed(cancelled["streamed"], "error")
    assert cancelled["streamed"]["statuses"][-1] == "cancelled"


def test_a_task_asks_its_client_and_goes_on(report: dict[str, Any]) -> None:
    answered = report["answered"]
    assert_streamed(answered, "result")
    assert answered["statuses"][-1] == "input_required"
    task_id = answered["task"]["taskId"]
    (asked,) = answered["asked"]
    assert (asked["taskId"], asked["status"]) == (task_id, "input_required")  # SPEC 46
    assert asked["message"] == "Who are you?"
    assert asked["schema"]["properties"] == {"name": {"type": "string"}}
    assert answered["wire"]["statuses"] == ["working", "input_required", "working", "completed"]
    assert answered["result"] == {"text": "Hello, TypeScript!", "isError": False, "related": task_id}
    assert answered["afterwards"] == "completed"


def test_required_and_forbidden_are_honoured(report: dict[str, Any]) -> None:
    """SPEC 43."""
    negotiation = report["negotiation"]
    assert negotiation["requiredDirectly"]["code"] == METHOD_NOT_FOUND
    assert "requires task-based execution" in negotiation["requiredBySdk"]["message"]
    kinds = [kind for kind, *_ in negotiation["required"]]
    assert kinds == ["taskCreated", *["taskStatus"] * (len(kinds) - 2), "result"]
    assert negotiation["required"][-1] == ["result", "in a task: True"]
    assert negotiation["forbidden"] == [["result", "no task"]]
    assert negotiation["forbiddenAsTask"]["kinds"] == ["error"]
    assert negotiation["forbiddenAsTask"]["error"]["code"] == METHOD_NOT_FOUND


def test_unknown_tasks_and_cursors_are_refused(report: dict[str, Any]) -> None:
    """SPEC 48."""
    assert {method: refused["code"] for method, refused in report["unknown"].items()} == {
        "get": INVALID_PARAMS,
        "result": INVALID_PARAMS,
        "cancel": INVALID_PARAMS,
        "cursor": INVALID_PARAMS,
    }


def test_all_tasks_are_listed_newest_first(report: dict[str, Any]) -> None:
    pages = report["listed"]
    assert [len(page) for page in pages[:-1]] == [5] * (len(pages) - 1)
    listed = [task for page in pages for task in page]
    assert sorted(task["taskId"] for task in listed) == sorted(report["created"])
    times = [task["createdAt"] for task in listed]
    assert times == sorted(times, reverse=True)
    # These ran one after another, so that their order is known.
    ends = {
        report["answered"]["task"]["taskId"]: "completed",
        report["cancelled"]["taskId"]: "cancelled",
        report["failed"]["task"]["taskId"]: "failed",
        report["gate"]["task"]["taskId"]: "completed",
        report["task"]["task"]["taskId"]: "completed",
    }
    statuses = [(task["taskId"], task["status"]) for task in listed if task["taskId"] in ends]
    assert statuses == list(ends.items())


# Our client and the SDK's server.


@asynccontextmanager
async def connected(ts1: Path, **options: Any) -> AsyncIterator[Client]:
    command = ["node", str(PEERS / "ts1" / "server.mjs"), str(ts1)]
    with trio.fail_after(HANG_SECONDS):
        async with open_client(command, **options) as client:
            yield client


async def create(client: Client, tool: str, *args: Any, **options: Any) -> TaskHandle:
    task = await client.call_tool(tool, *args, task=True, **options)
    assert isinstance(task, TaskHandle)
    assert task.id is not None
    return task


async def test_our_client_gets_a_tasks_progress_in_order_before_its_result(ts1: Path) -> None:
    seen: list[list[Any]] = []
    async with connected(ts1) as client:
        assert client.protocol_version == "2025-11-25"
        task = await create(
            client, "loop", {"n": len(UPDATES)}, progress_handler=lambda *update: seen.append(list(update))
        )
        assert (await task.result()).text == "looped 200"
        assert seen == UPDATES
        status = await task.status()
        assert status is not None
        assert status.status == "completed"
        assert [listed.id for listed in await client.list_tasks()] == [task.id]


async def test_our_client_answers_a_task(ts1: Path) -> None:
    """The SDK holds the question back until tasks/result asks for it."""
    async with connected(ts1, elicitation_handler=lambda request: {"name": "Trio"}) as client:
        task = await create(client, "greet")
        assert (await task.result()).text == "Hello, Trio!"


async def test_our_client_sees_a_task_fail(ts1: Path) -> None:
    async with connected(ts1) as client:
        task = await create(client, "fail")
        with pytest.raises(ToolError, match="failed on purpose"):
            await task.result()
        assert (await client.fetch_task(task.id)).status == "failed"


async def test_our_client_cancels_a_task_and_goes_on(ts1: Path) -> None:
    async with connected(ts1) as client:
        task = await create(client, "hang")
        assert (await client.fetch_task(task.id)).status == "working"
        await task.cancel()
        assert (await client.fetch_task(task.id)).status == "cancelled"
        with pytest.raises(TaskCancelled):
            await task.result()
        assert (await client.call_tool("echo", {"text": "still here"})).text == "still here"


async def test_our_client_runs_a_required_tool_as_a_task(ts1: Path) -> None:
    async with connected(ts1) as client:
        assert (await (await create(client, "required")).result()).text == "in a task"
