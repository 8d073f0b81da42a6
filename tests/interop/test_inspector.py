"""The MCP Inspector's command line, and the official client of the tasks extension, with our servers."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.peer_report import run_to_report

PEERS = Path(__file__).parents[1] / "peers"
OUR_SERVER = PEERS / "our_full_server.py"
ERAS = ["legacy", "modern"]

pytestmark = [
    pytest.mark.slow,  # a Node.js of its own is installed for them, and each command starts in a second
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm"),
]


@pytest.fixture(scope="module")
def inspector(environment: Callable[[str], Path]) -> Path:
    """The directory whose node_modules holds the Inspector, the client of tasks, and a new Node.js."""
    return environment("inspector")


@pytest.fixture(params=["stdio", "http"])
def target(request: pytest.FixtureRequest, serve: Callable[..., str]) -> Sequence[Any]:
    if request.param == "stdio":
        return (sys.executable, OUR_SERVER)
    return (serve(sys.executable, OUR_SERVER, "http"),)


def run_node(inspector: Path, *arguments: Any) -> dict[str, Any]:
    node = inspector / "node_modules" / "node" / "bin" / "node"
    seen, _ = run_to_report(node, *arguments)
    return seen


@pytest.fixture
def ask(inspector: Path, target: Sequence[Any]) -> Callable[..., Any]:
    """Asks one method of our server with the Inspector, and returns the result."""
    launcher = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"

    def ask(era: str, method: str, *options: Any) -> Any:
        common = ["--cli", *target, "--method", method, "--protocol-era", era, "--format", "json", "-q"]
        return run_node(inspector, inspector / launcher, *common, *options)["result"]

    return ask


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_lists_reads_and_calls(era: str, ask: Callable[..., Any]) -> None:
    tools = [tool["name"] for tool in ask(era, "tools/list")["tools"]]
    assert tools == ["add", "count", "show", "hide", "touch", "order", "introduce", "decide"]
    added = ask(era, "tools/call", "--tool-name", "add", "--tool-arg", "a=2", "b=3")
    assert added["structuredContent"] == {"result": 5}
    counted = ask(era, "tools/call", "--tool-name", "count", "--tool-arg", "n=3")
    assert counted["content"] == [{"type": "text", "text": "counted 3"}]
    resources = [each["uri"] for each in ask(era, "resources/list")["resources"]]
    assert resources == ["config://app", "logo://app"]
    templates = ask(era, "resources/templates/list")["resourceTemplates"]
    assert [each["uriTemplate"] for each in templates] == ["users://{user_id}/profile"]
    (contents,) = ask(era, "resources/read", "--uri", "users://7/profile")["contents"]
    assert contents["text"] == "user 7"
    greet, review, look = ask(era, "prompts/list")["prompts"]
    assert (review["name"], look["name"]) == ("review", "look")
    assert [argument["name"] for argument in greet["arguments"]] == ["name", "style"]
    (message,) = ask(era, "prompts/get", "--prompt-name", "greet", "--prompt-args", "name=Bo")["messages"]
    assert message["content"] == {"type": "text", "text": "Greet Bo, short"}


@pytest.fixture(scope="module", params=ERAS)
def tasks(request: pytest.FixtureRequest, inspector: Path, serve: Callable[..., str]) -> dict[str, Any]:
    """What the official client of the tasks extension saw of our tasks, in one of its two generations."""
    url = serve(sys.executable, PEERS / "our_task_http_server.py")
    seen = run_node(inspector, PEERS / "inspector" / "ext_tasks.mjs", inspector, request.param, url)
    assert seen["era"] == request.param
    return seen


def test_ext_tasks_runs_a_tool_as_a_task(tasks: dict[str, Any]) -> None:
    required = tasks["required"]
    assert (required["kind"], required["status"], required["last"]) == ("task", "completed", "completed")
    assert required["result"]["content"] == [{"type": "text", "text": "in a task: True"}]
    assert required["kinds"][0] == "working"
    assert required["kinds"][-2:] == ["completed", "outcome"]


def test_ext_tasks_answers_the_question_of_a_task(tasks: dict[str, Any]) -> None:
    assert tasks["asked"][0] == "Who are you?"
    assert tasks["greet"]["result"]["content"] == [{"type": "text", "text": "Hello, Ada!"}]
    assert "input_required" in tasks["greet"]["kinds"]


def test_ext_tasks_answers_two_questions_that_a_task_asks_at_once(tasks: dict[str, Any]) -> None:
    assert sorted(tasks["asked"][1:]) == ["Your first name?", "Your last name?"]
    assert tasks["interview"]["result"]["content"] == [{"type": "text", "text": "Grace Hopper"}]


def test_ext_tasks_shows_the_progress_on_the_record_of_a_task(tasks: dict[str, Any]) -> None:
    records = [record for record in tasks["interview"]["records"] if record is not None]
    assert records
    assert {(record["current"], record["total"], record["message"]) for record in records} == {
        (1, 2, "asking")
    }
    assert len({record["reportedAt"] for record in records}) == 1


def test_ext_tasks_cancels_a_task_and_its_handler_ends(tasks: dict[str, Any]) -> None:
    assert tasks["hang"] == {"status": "cancelled", "ended": True}


def test_ext_tasks_is_told_that_a_tool_failed(tasks: dict[str, Any]) -> None:
    if tasks["era"] == "legacy":
        assert tasks["fail"]["status"] == "failed"
    else:
        assert tasks["fail"]["result"]["isError"] is True


def test_ext_tasks_calls_a_tool_that_is_no_task(tasks: dict[str, Any]) -> None:
    assert (tasks["forbidden"]["kind"], tasks["forbidden"]["status"]) == ("immediate", "completed")
