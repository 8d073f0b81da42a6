"""Lists and contents of resources as servers send them: pages, flaws, questions, silence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tests.support.fake_server import DISCOVERED, FakeServer, error, result, silence
from trio_mcp import CallTimeout, ClientSettings, Lossless, ProtocolError, RemoteProtocolError, open_client
from trio_mcp.client.round_answers import MAX_ROUNDS
from trio_mcp.client.server_requests import MAX_REQUESTS


def serve(**rules: Any) -> FakeServer:
    """A modern server with a rule for each method, whose slashes are written as underscores."""
    methods = {method.replace("_", "/"): rule for method, rule in rules.items()}
    return FakeServer({"server/discover": result(DISCOVERED), **methods})


def pages(member: str, *items: dict[str, Any]) -> Any:
    """A rule that answers with one item on each page."""

    def answer(request):
        index = int(msgspec.json.decode(request.params).get("cursor") or 0)
        more = {"nextCursor": str(index + 1)} if index + 1 < len(items) else {}
        return result({member: [items[index]], **more})(request)

    return answer


async def test_all_pages_of_a_list_are_read():
    resources = [{"uri": f"x://{number}", "name": str(number)} for number in range(3)]
    templates = [{"uriTemplate": f"x://{{a}}/{number}", "name": str(number)} for number in range(2)]
    server = serve(
        resources_list=pages("resources", *resources),
        resources_templates_list=pages("resourceTemplates", *templates),
    )
    async with open_client(server) as client:
        assert [found.uri for found in await client.list_resources()] == ["x://0", "x://1", "x://2"]
        listed = await client.list_resource_templates()
        assert [found.uri_template for found in listed] == ["x://{a}/0", "x://{a}/1"]


async def test_one_flawed_resource_does_not_hide_the_others():
    listed = [{"uri": "x://a", "name": "a", "size": "big"}, {"name": "no uri"}, {"uri": "x://b", "name": "b"}]
    server = serve(resources_list=result({"resources": listed}))
    async with open_client(server) as client:
        assert [(found.uri, found.size) for found in await client.list_resources()] == [
            ("x://a", None),
            ("x://b", None),
        ]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"contents": "text"},
        {"contents": [{"uri": "x://y", "blob": "no base64!"}]},
        {"contents": [], "resultType": "unheard of"},
    ],
    ids=str,
)
async def test_a_malformed_answer_is_an_error(answer):
    async with open_client(serve(resources_read=result(answer))) as client:
        with pytest.raises(RemoteProtocolError):
            await client.read_resource("x://y")


async def test_an_error_of_the_server_is_raised_with_its_code_and_data():
    async with open_client(serve(resources_read=error(-32002, {"uri": "x://y"}))) as client:
        with pytest.raises(ProtocolError) as caught:
            await client.read_resource("x://y")
    assert (caught.value.code, caught.value.data) == (-32002, {"uri": "x://y"})


async def test_questions_of_the_server_are_answered_and_the_request_is_sent_again():
    asked = []

    def answer(request):
        params = msgspec.json.decode(request.params)
        asked.append((params.get("inputResponses"), params.get("requestState")))
        if len(asked) > 1:
            return result({"contents": [{"uri": "x://y", "text": "done"}]})(request)
        question = {
            "method": "elicitation/create",
            "params": {"message": "Who?", "requestedSchema": {"type": "object", "properties": {}}},
        }
        return result(
            {"resultType": "input_required", "inputRequests": {"who": question}, "requestState": "sealed"}
        )(request)

    async with open_client(
        serve(resources_read=answer), elicitation_handler=lambda request: {"name": "ada"}
    ) as client:
        assert (await client.read_resource("x://y")).text == "done"
    assert asked == [(None, None), ({"who": {"action": "accept", "content": {"name": "ada"}}}, "sealed")]


async def test_a_server_that_asks_without_end_is_left():
    server = serve(resources_read=result({"resultType": "input_required", "requestState": "again"}))
    async with open_client(server) as client:
        with pytest.raises(RemoteProtocolError, match=f"more than {MAX_ROUNDS} times"):
            await client.read_resource("x://y")
    assert server.asked.count("resources/read") == MAX_ROUNDS + 1


async def test_a_server_that_asks_too_much_at_once_is_left():
    question = {"method": "elicitation/create", "params": {"message": "", "requestedSchema": {}}}
    questions = {str(number): question for number in range(MAX_REQUESTS + 1)}
    server = serve(resources_read=result({"resultType": "input_required", "inputRequests": questions}))
    asked = []
    async with open_client(server, elicitation_handler=asked.append) as client:
        with pytest.raises(RemoteProtocolError, match=f"asks {MAX_REQUESTS + 1} questions at once"):
            await client.read_resource("x://y")
    assert not asked


@pytest.mark.parametrize("times", [{"idle_timeout": 3}, {"max_timeout": 5}], ids=str)
async def test_a_read_without_an_answer_times_out(times, autojump_clock):
    server = serve(resources_read=silence)
    async with open_client(server) as client:
        with pytest.raises(CallTimeout, match="resource 'x://y'"):
            await client.read_resource("x://y", **times)
        assert trio.current_time() >= next(iter(times.values()))
    assert "notifications/cancelled" in server.asked


async def test_a_lossless_client_reads_as_well():
    server = serve(resources_read=result({"contents": [{"uri": "x://y", "text": "done"}]}))
    async with open_client(server, settings=ClientSettings(progress=Lossless())) as client:
        got = await client.read_resource("x://y", progress_handler=lambda *update: None)
    assert got.data == "done"


async def test_times_that_are_none_are_refused():
    async with open_client(serve()) as client:
        with pytest.raises(ValueError, match="idle_timeout"):
            await client.read_resource("x://y", idle_timeout=-1)
