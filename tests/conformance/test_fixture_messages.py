"""The messages of the conformance fixture over every wire, as the official suite asserts them over HTTP.

Each test that takes `open_asker` validates all answers, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.conformance.asker import TASKS, WITH_TASKS
from tests.conformance.conftest import OpenAsker
from tests.conformance.server import SCHEMA, make_server
from tests.conftest import LEGACY, MODERN, TRANSPORTS, WIRES, Wire
from tests.support.change_listener import SUBSCRIPTION_ID, open_listener
from tests.support.raw_peer import call, open_raw

MODERN_TRANSPORTS: Final = [wire.transport for wire in WIRES if wire.protocol == MODERN]

INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, UNSUPPORTED_VERSION = -32602, -32601, -32021, -32022

over_modern_wires = pytest.mark.parametrize("transport", MODERN_TRANSPORTS)


def accepted(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


def content_text(result: Mapping[str, Any]) -> str:
    assert result["resultType"] == "complete"
    return result["content"][0]["text"]


@over_modern_wires
async def test_the_server_says_what_it_is(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        found = await asker.result("server/discover")
    assert found["resultType"] == "complete"
    assert found["supportedVersions"][0] == MODERN
    assert found["_meta"]["io.modelcontextprotocol/serverInfo"] == {
        "name": "trio-mcp-conformance",
        "version": "1.0",
    }
    capabilities = found["capabilities"]
    assert {"tools", "prompts", "resources", "completions", "logging"} <= capabilities.keys()
    assert TASKS in capabilities["extensions"]
    assert "tasks" not in capabilities


@over_modern_wires
async def test_a_revision_that_the_server_has_not_is_refused(transport: str) -> None:
    async with open_raw(transport, make_server()) as peer:
        request = call("call", "test_simple_text")
        request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01"
        error = (await peer.ask(request))["error"]
    assert error["code"] == UNSUPPORTED_VERSION
    assert error["data"]["requested"] == "2099-01-01"
    assert MODERN in error["data"]["supported"]


@over_modern_wires
async def test_lists_and_resources_say_how_long_they_may_be_kept(open_asker: OpenAsker) -> None:
    lists = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"]
    async with open_asker() as asker:
        results = [await asker.result(method) for method in lists]
        results.append(await asker.result("resources/read", {"uri": "test://static-text"}))
    for result in results:
        assert isinstance(result["ttlMs"], int)
        assert result["ttlMs"] >= 0
        assert result["cacheScope"] in ("public", "private")
    (schema,) = [
        tool["inputSchema"] for tool in results[0]["tools"] if tool["name"] == "json_schema_2020_12_tool"
    ]
    assert schema == SCHEMA
    assert list(schema) == list(SCHEMA)


@over_modern_wires
async def test_methods_that_the_revision_has_not_are_not_found(open_asker: OpenAsker) -> None:
    removed: dict[str, dict[str, Any]] = {
        "ping": {},
        "logging/setLevel": {"level": "info"},
        "resources/subscribe": {"uri": "test://watched-resource"},
        "resources/unsubscribe": {"uri": "test://watched-resource"},
        "tasks/result": {"taskId": "x"},
        "tasks/list": {},
        "no/such/method": {},
    }
    async with open_asker() as asker:
        errors = {method: await asker.error(method, params) for method, params in removed.items()}
    assert {error["code"] for error in errors.values()} == {METHOD_NOT_FOUND}


@over_modern_wires
async def test_an_answer_to_a_question_ends_the_call(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        asked = await asker.call_round("elicitation")
        question = asked["inputRequests"]["user_name"]
        answers = {"user_name": accepted(name="Ada"), "not_asked": accepted(name="Bob")}
        ended = await asker.call_round(
            "elicitation", inputResponses=answers, requestState=asked["requestState"]
        )
    assert asked["resultType"] == "input_required"
    assert question["method"] == "elicitation/create"
    assert question["params"]["message"] == "What is your name?"
    assert question["params"]["requestedSchema"]["properties"] == {"name": {"type": "string"}}
    assert question["params"]["requestedSchema"]["required"] == ["name"]
    assert content_text(ended) == "Hello, Ada!"


@over_modern_wires
async def test_what_does_not_answer_is_asked_again_or_refused(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        again = [
            await asker.call_round("elicitation", inputResponses=responses)
            for responses in ({"wrong_key": accepted(name="Ada")}, {}, None)
        ]
        refused = [
            await asker.error(
                "tools/call",
                {"name": "test_input_required_result_elicitation", "inputResponses": responses},
            )
            for responses in ("no object", 1, ["user_name"])
        ]
    for result in again:
        assert result["resultType"] == "input_required"
        assert result["inputRequests"].keys() == {"user_name"}
    assert [error["code"] for error in refused] == [INVALID_PARAMS] * 3


@over_modern_wires
async def test_models_and_roots_are_asked_for_in_the_same_way(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        sampling = (await asker.call_round("sampling"))["inputRequests"]
        roots = (await asker.call_round("list_roots"))["inputRequests"]
        answer = {"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "m"}
        sampled = await asker.call_round("sampling", inputResponses={"capital_question": answer})
        root = {"uri": "file:///project", "name": "Project"}
        listed = await asker.call_round("list_roots", inputResponses={"client_roots": {"roots": [root]}})
    question = sampling["capital_question"]
    assert question["method"] == "sampling/createMessage"
    assert question["params"]["maxTokens"] == 100
    (message,) = question["params"]["messages"]
    assert message == {"role": "user", "content": {"type": "text", "text": "What is the capital of France?"}}
    assert roots["client_roots"]["method"] == "roots/list"
    assert content_text(sampled) == "Paris"
    assert content_text(listed) == "file:///project"


@over_modern_wires
async def test_all_questions_of_a_round_are_asked_at_once(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        asked = await asker.call_round("multiple_inputs")
        answers = {
            "user_name": accepted(name="Ada"),
            "greeting": {"role": "assistant", "content": {"type": "text", "text": "Hello"}, "model": "m"},
            "client_roots": {"roots": []},
        }
        ended = await asker.call_round(
            "multiple_inputs", inputResponses=answers, requestState=asked["requestState"]
        )
    assert {key: question["method"] for key, question in asked["inputRequests"].items()} == {
        "user_name": "elicitation/create",
        "greeting": "sampling/createMessage",
        "client_roots": "roots/list",
    }
    assert asked["inputRequests"]["greeting"]["params"]["maxTokens"] == 50
    assert content_text(ended) == "Hello Ada, who has 0 roots"


@over_modern_wires
async def test_the_state_of_each_round_is_another(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        first = await asker.call_round("multi_round")
        second = await asker.call_round(
            "multi_round",
            inputResponses={"step1": accepted(name="Ada")},
            requestState=first["requestState"],
        )
        ended = await asker.call_round(
            "multi_round",
            inputResponses={"step2": accepted(color="green")},
            requestState=second["requestState"],
        )
    assert first["inputRequests"].keys() == {"step1"}
    assert second["inputRequests"].keys() == {"step2"}
    assert first["requestState"] != second["requestState"]
    assert content_text(ended) == '{"name":"Ada"} {"color":"green"}'


@over_modern_wires
async def test_a_state_goes_on_only_as_it_was_given(open_asker: OpenAsker) -> None:
    answers = {"confirm": accepted(ok=True)}
    async with open_asker() as asker:
        asked = await asker.call_round("request_state")
        ended = await asker.call_round(
            "request_state", inputResponses=answers, requestState=asked["requestState"]
        )
        tampered = await asker.call_round("tampered_state")
        params = {
            "name": "test_input_required_result_tampered_state",
            "inputResponses": answers,
            "requestState": f"{tampered['requestState']}-TAMPERED",
        }
        error = await asker.error("tools/call", params)
    assert asked["inputRequests"]["confirm"]["params"]["requestedSchema"]["properties"] == {
        "ok": {"type": "boolean"}
    }
    assert content_text(ended) == "state-ok: accept"
    assert error["code"] == INVALID_PARAMS


@over_modern_wires
async def test_only_declared_capabilities_are_used(open_asker: OpenAsker) -> None:
    name = "test_input_required_result_capabilities"
    async with open_asker() as asker:
        asked = await asker.result("tools/call", {"name": name}, {"sampling": {}})
        error = await asker.error("tools/call", {"name": "test_missing_capability"}, {})
    assert [question["method"] for question in asked["inputRequests"].values()] == ["sampling/createMessage"]
    assert error["code"] == MISSING_CAPABILITY
    assert error["data"]["requiredCapabilities"] == {"sampling": {}}


@over_modern_wires
async def test_prompts_ask_as_tools_do_and_lists_never(open_asker: OpenAsker) -> None:
    params: dict[str, Any] = {"name": "test_input_required_result_prompt"}
    async with open_asker() as asker:
        asked = await asker.result("prompts/get", params)
        answers = {"user_context": accepted(context="a test")}
        params |= {"inputResponses": answers, "requestState": asked["requestState"]}
        ended = await asker.result("prompts/get", params)
        others = [await asker.result(method) for method in ("tools/list", "prompts/list", "resources/list")]
    assert asked["resultType"] == "input_required"
    assert asked["inputRequests"]["user_context"]["method"] == "elicitation/create"
    assert ended["messages"][0]["content"]["text"] == "Use this context: a test"
    assert {result["resultType"] for result in (ended, *others)} == {"complete"}


@over_modern_wires
async def test_a_task_is_created_flat_and_has_its_result_within(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        created = await asker.start_task("slow_compute", seconds=0, label="x")
        ended = await asker.wait_task(created["taskId"], "completed")
        failed = await asker.wait_task((await asker.start_task("protocol_error_job"))["taskId"], "failed")
        direct = await asker.start_task("greet", name="Ada")
    assert created["resultType"] == "task"
    assert {"status", "createdAt", "lastUpdatedAt"} <= created.keys()
    assert created["ttlMs"] is None or isinstance(created["ttlMs"], int)
    assert isinstance(created["pollIntervalMs"], int)
    assert created.keys().isdisjoint({"task", "ttl", "pollInterval", "result", "error", "requestState"})
    assert ended["resultType"] == "complete"
    assert ended["result"]["content"][0]["text"] == "Computed 'x' in 0 seconds."
    assert "io.modelcontextprotocol/related-task" not in ended["result"].get("_meta", {})
    assert failed["error"]["code"] == -32603
    assert failed["error"]["message"]
    assert "result" not in failed
    assert content_text(direct) == "Hello, Ada!"
    assert "taskId" not in direct


@over_modern_wires
async def test_a_task_that_was_cancelled_says_so(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        created = await asker.start_task("slow_compute", seconds=3600)
        acknowledged = await asker.result("tasks/cancel", {"taskId": created["taskId"]}, WITH_TASKS)
        ended = await asker.wait_task(created["taskId"], "cancelled")
        error = await asker.error("tasks/get", {"taskId": "no such task"}, WITH_TASKS)
    assert acknowledged["resultType"] == "complete"
    assert "taskId" not in acknowledged
    assert ended.keys().isdisjoint({"result", "error"})
    assert error["code"] == INVALID_PARAMS


@over_modern_wires
async def test_a_task_waits_for_all_its_answers(open_asker: OpenAsker) -> None:
    async with open_asker() as asker:
        task_id = (await asker.start_task("multi_input"))["taskId"]
        waiting = await asker.wait_task(task_id, "input_required", questions=2)
        first, second = waiting["inputRequests"]
        update = {"taskId": task_id, "inputResponses": {first: accepted(name="Ada")}}
        acknowledged = await asker.result("tasks/update", update, WITH_TASKS)
        still = await asker.get_task(task_id)
        update = {"taskId": task_id, "inputResponses": {second: accepted(name="Lovelace")}}
        await asker.result("tasks/update", update, WITH_TASKS)
        ended = await asker.wait_task(task_id, "completed")
    assert {question["method"] for question in waiting["inputRequests"].values()} == {"elicitation/create"}
    assert acknowledged["resultType"] == "complete"
    assert still["status"] == "input_required"
    assert still["inputRequests"].keys() == {second}
    told = ended["result"]["content"][0]["text"]
    assert "Ada" in told
    assert "Lovelace" in told


@over_modern_wires
async def test_a_tool_may_ask_before_it_becomes_a_task(open_asker: OpenAsker) -> None:
    params: dict[str, Any] = {"name": "test_tool_with_task"}
    async with open_asker() as asker:
        asked = await asker.result("tools/call", params, WITH_TASKS)
        answers = {"user_name": accepted(name="Ada")}
        params |= {"inputResponses": answers, "requestState": asked["requestState"]}
        created = await asker.result("tools/call", params, WITH_TASKS)
        ended = await asker.wait_task(created["taskId"], "completed")
    assert asked["resultType"] == "input_required"
    assert "taskId" not in asked
    assert created["resultType"] == "task"
    assert "requestState" not in created
    assert ended["result"]["content"][0]["text"] == "Hello, Ada!"


@over_modern_wires
async def test_clients_without_the_extension_get_no_tasks(open_asker: OpenAsker) -> None:
    required = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    computing = {"name": "slow_compute", "arguments": {"seconds": 0}}
    async with open_asker() as asker:
        direct = await asker.result("tools/call", computing)
        tolerated = await asker.result("tools/call", {**computing, "task": {"ttl": 1000}})
        errors = [
            await asker.error("tools/call", {"name": "failing_job"}),
            await asker.error("tasks/get", {"taskId": "x"}),
            await asker.error("tasks/update", {"taskId": "x", "inputResponses": {}}),
            await asker.error("tasks/cancel", {"taskId": "x"}),
        ]
    assert content_text(direct) == content_text(tolerated) == "Computed '' in 0 seconds."
    assert [error["code"] for error in errors] == [MISSING_CAPABILITY] * 4
    assert [error["data"] for error in errors] == [required] * 4


@over_modern_wires
async def test_a_listener_is_told_only_what_it_asked_for(transport: str) -> None:
    async with open_listener(Wire(transport, MODERN), make_server()) as listener:
        request, honoured = await listener.listen(prompts_list_changed=True)
        begun = len(listener.messages)
        await listener.client.call_tool("test_trigger_tool_change")
        await listener.client.call_tool("test_trigger_prompt_change")
        told = await listener.receive(method="notifications/prompts/list_changed")
        methods = [message.get("method") for message in listener.messages[begun:]]
    assert honoured == {"promptsListChanged": True}
    assert told["params"]["_meta"][SUBSCRIPTION_ID] == request.id
    assert "notifications/tools/list_changed" not in methods


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_legacy_client_is_answered_as_its_revision_says(transport: str) -> None:
    requests: dict[str, dict[str, Any]] = {
        "ping": {},
        "logging/setLevel": {"level": "info"},
        "resources/subscribe": {"uri": "test://watched-resource"},
        "resources/unsubscribe": {"uri": "test://watched-resource"},
    }
    answers: dict[str, Any] = {}
    async with open_raw(transport, make_server()) as peer:
        begun = (await peer.initialize(LEGACY))["result"]
        for method, params in requests.items():
            await peer.send({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
            answers[method] = await peer.receive_matching(id=method)
        await peer.send(call("call", "test_simple_text", modern=False))
        called = (await peer.receive_matching(id="call"))["result"]
    assert begun["protocolVersion"] == LEGACY
    assert begun["serverInfo"]["name"] == "trio-mcp-conformance"
    assert begun["capabilities"]["resources"]["subscribe"] is True
    assert all(answer["result"] == {} for answer in answers.values())
    assert called == {"content": [{"type": "text", "text": "This is a simple text response for testing."}]}
