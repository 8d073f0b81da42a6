"""The twin of `full_client.py` for the official SDK's 1.x line: `python sdk1_full_client.py TARGET...`.

TARGET is a URL, of Streamable HTTP, HTTP+SSE or WebSocket, or the command of a stdio server.
"""

import json
import os
import sys
import warnings
from typing import Any

import anyio
import mcp.types as types
from mcp import ClientSession, McpError, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.websocket import websocket_client
from pydantic import AnyUrl

RUN_SECONDS = 100
"""Less than the test waits, so that a client that hangs can still say where."""
PLACE = AnyUrl("config://app")
ANSWERS = {
    "What?": {"what": "tea", "size": "l"},
    "First name?": {"name": "Ada"},
    "Last name?": {"name": "Lovelace"},
}


class Host:
    """What the client answers and hears."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.heard: list[Any] = []
        self.news = anyio.Event()

    async def answer(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        if params.mode == "url":
            self.asked.append(params.url)
            return types.ElicitResult(action="accept")
        self.asked.append([params.message, sorted(params.requestedSchema["properties"])])
        if params.message not in ANSWERS:
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content=ANSWERS[params.message])

    async def think(
        self, context: Any, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        self.asked.append(params.messages[0].content.text)
        content = types.TextContent(type="text", text="Ada")
        return types.CreateMessageResult(role="assistant", content=content, model="model-1")

    async def list_roots(self, context: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///work", name="Work")])

    async def hear(self, message: Any) -> None:
        message = getattr(message, "root", message)
        if isinstance(message, types.ToolListChangedNotification | types.ResourceUpdatedNotification):
            self.heard.append(message)
            self.news.set()
            self.news = anyio.Event()


def connect(target: str, *args: str) -> Any:
    if target.endswith("/sse"):
        return sse_client(target)
    if target.startswith("http"):
        return streamable_http_client(target)
    if target.startswith("ws"):
        return websocket_client(target)
    return stdio_client(StdioServerParameters(command=target, args=list(args), env=dict(os.environ)))


async def find_refusal(work: Any) -> int:
    try:
        await work
    except McpError as error:
        return error.error.code
    raise AssertionError("it was not refused")


async def read(session: ClientSession, uri: str) -> Any:
    (content,) = (await session.read_resource(AnyUrl(uri))).contents
    return content


async def call(session: ClientSession, name: str, arguments: Any = None, on_progress: Any = None) -> str:
    result = await session.call_tool(name, arguments or {}, progress_callback=on_progress)
    return result.content[0].text


async def use_resources(session: ClientSession) -> dict[str, Any]:
    logo = await read(session, "logo://app")
    templates = (await session.list_resource_templates()).resourceTemplates
    return {
        "resources": [[str(each.uri), each.mimeType] for each in (await session.list_resources()).resources],
        "templates": [each.uriTemplate for each in templates],
        "config": (await read(session, "config://app")).text,
        "logo": [logo.mimeType, logo.blob],
        "profile": (await read(session, "users://7/profile")).text,
        "unknown": await find_refusal(read(session, "nowhere://at/all")),
    }


async def use_prompts(session: ClientSession) -> dict[str, Any]:
    prompts = (await session.list_prompts()).prompts
    review = await session.get_prompt("review", {"text": "Ishmael"})
    (picture,) = (await session.get_prompt("look")).messages
    style = types.PromptReference(type="ref/prompt", name="review")
    user = types.ResourceTemplateReference(type="ref/resource", uri="users://{user_id}/profile")
    styles = await session.complete(style, {"name": "style", "value": "d"}, {"text": "x"})
    users = await session.complete(user, {"name": "user_id", "value": "4"})
    return {
        "prompts": [prompt.name for prompt in prompts],
        "arguments": [[argument.name, argument.required] for argument in prompts[1].arguments],
        "messages": [[message.role, message.content.text] for message in review.messages],
        "picture": [picture.content.type, picture.content.mimeType, picture.content.data],
        "missing": await find_refusal(session.get_prompt("review")),
        "styles": styles.completion.values,
        "users": users.completion.values,
    }


async def hear_changes(session: ClientSession, host: Host) -> dict[str, Any]:
    await session.subscribe_resource(PLACE)
    await call(session, "show")
    await call(session, "touch")
    while len(host.heard) < 2:
        await host.news.wait()
    told = sorted(message.method for message in host.heard)
    uris = [str(message.params.uri) for message in host.heard if "updated" in message.method]
    await session.unsubscribe_resource(PLACE)
    return {
        "told": told,
        "uris": uris,
        "prompts_honoured": None,
        "tools": [tool.name for tool in (await session.list_tools()).tools],
        "hidden": await call(session, "hide"),
    }


async def use_questions(session: ClientSession, host: Host) -> dict[str, Any]:
    progress: list[Any] = []

    async def note(*update: Any) -> None:
        progress.append(list(update))

    return {
        "order": await call(session, "order"),
        "introduced": await call(session, "introduce", {"greeting": "Hello"}, note),
        "declined": await call(session, "decide"),
        "asked": host.asked,
        "progress": progress,
    }


async def report(*target: str) -> None:
    host = Host()
    with anyio.fail_after(RUN_SECONDS):
        async with (
            connect(*target) as (read_stream, write_stream, *_),
            ClientSession(
                read_stream,
                write_stream,
                elicitation_callback=host.answer,
                sampling_callback=host.think,
                list_roots_callback=host.list_roots,
                message_handler=host.hear,
            ) as session,
        ):
            initialized = await session.initialize()
            seen = {
                "version": initialized.protocolVersion,
                "server": initialized.serverInfo.name,
                "declared": sorted(initialized.capabilities.model_dump(exclude_none=True)),
                **await use_resources(session),
                **await use_prompts(session),
                **await hear_changes(session, host),
                **await use_questions(session, host),
            }
    print(json.dumps(seen))


if __name__ == "__main__":
    # The WebSocket client is deprecated, but users of this line have no other.
    warnings.simplefilter("ignore", DeprecationWarning)
    anyio.run(report, *sys.argv[1:])
