"""A Python client that uses all of `our_full_server.py`: `python full_client.py PEER MODE TARGET...`.

PEER is mcp (the official SDK) or fastmcp, MODE legacy or auto, TARGET a URL or the command of a stdio server.
It prints what it saw as one JSON object, the same as `ts_full_client.mjs`.
"""

import json
import os
import sys
import warnings
from typing import Any

import anyio
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.subscriptions import listen

RUN_SECONDS = 100
"""Less than the test waits, so that a client that hangs can still say where."""
PLACE = "config://app"
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

    def answer(self, params: types.ElicitRequestParams) -> types.ElicitResult:
        if params.mode == "url":
            self.asked.append(params.url)
            return types.ElicitResult(action="accept")
        self.asked.append([params.message, sorted(params.requested_schema["properties"])])
        if params.message not in ANSWERS:
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content=ANSWERS[params.message])

    def think(self, messages: list[types.SamplingMessage]) -> types.CreateMessageResult:
        self.asked.append(messages[0].content.text)
        content = types.TextContent(type="text", text="Ada")
        return types.CreateMessageResult(role="assistant", content=content, model="model-1")

    async def hear(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification | types.ResourceUpdatedNotification):
            self.heard.append(message)
            self.news.set()
            self.news = anyio.Event()


ROOTS = [types.Root(uri="file:///work", name="Work")]


class Sdk:
    """The verbs of the official SDK."""

    def __init__(self, host: Host, mode: str, target: list[str]) -> None:
        async def elicit(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
            return host.answer(params)

        async def sample(context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
            return host.think(params.messages)

        async def list_roots(context: Any) -> types.ListRootsResult:
            return types.ListRootsResult(roots=ROOTS)

        self.client = Client(
            self.connect(*target),
            mode=mode,
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=list_roots,
            message_handler=host.hear,
        )

    def connect(self, target: str, *args: str) -> Any:
        if target.endswith("/sse"):
            return sse_client(target)
        if target.startswith("http"):
            return target
        return stdio_client(StdioServerParameters(command=target, args=list(args), env=dict(os.environ)))

    @property
    def facts(self) -> tuple[str, str, types.ServerCapabilities]:
        client = self.client
        return client.protocol_version, client.server_info.name, client.server_capabilities

    async def resources(self) -> list[types.Resource]:
        return (await self.client.list_resources()).resources

    async def templates(self) -> list[types.ResourceTemplate]:
        return (await self.client.list_resource_templates()).resource_templates

    async def read(self, uri: str) -> Any:
        (content,) = (await self.client.read_resource(uri)).contents
        return content

    async def prompts(self) -> list[types.Prompt]:
        return (await self.client.list_prompts()).prompts

    async def complete(self, ref: Any, argument: dict[str, str], known: dict[str, str]) -> types.Completion:
        return (await self.client.complete(ref, argument, known)).completion

    async def tools(self) -> list[types.Tool]:
        return (await self.client.list_tools()).tools

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> str:
        result = await self.client.call_tool(name, arguments, progress_callback=on_progress)
        return result.content[0].text


class FastMcp:
    """The verbs of FastMCP."""

    def __init__(self, host: Host, mode: str, target: list[str]) -> None:
        import fastmcp
        from fastmcp.client.elicitation import ElicitResult
        from fastmcp.client.transports import StdioTransport

        async def elicit(message: str, kind: Any, params: types.ElicitRequestParams, context: Any) -> Any:
            answer = host.answer(params)
            return ElicitResult(action=answer.action, content=answer.content)

        async def sample(messages: Any, params: Any, context: Any) -> types.CreateMessageResult:
            return host.think(messages)

        command, *args = target
        self.client = fastmcp.Client(
            command if command.startswith("http") else StdioTransport(command, args, env=dict(os.environ)),
            mode=mode,
            elicitation_handler=elicit,
            sampling_handler=sample,
            roots=ROOTS,
            message_handler=host.hear,
        )

    @property
    def facts(self) -> tuple[str, str, types.ServerCapabilities]:
        session = self.client.session
        return session.protocol_version, session.server_info.name, session.server_capabilities

    async def resources(self) -> list[types.Resource]:
        return await self.client.list_resources()

    async def templates(self) -> list[types.ResourceTemplate]:
        return await self.client.list_resource_templates()

    async def read(self, uri: str) -> Any:
        (content,) = await self.client.read_resource(uri)
        return content

    async def prompts(self) -> list[types.Prompt]:
        return await self.client.list_prompts()

    async def complete(self, ref: Any, argument: dict[str, str], known: dict[str, str]) -> types.Completion:
        return await self.client.complete(ref, argument, known)

    async def tools(self) -> list[types.Tool]:
        return await self.client.list_tools()

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> str:
        result = await self.client.call_tool(name, arguments, progress_handler=on_progress)
        return result.content[0].text


async def find_refusal(work: Any) -> int:
    try:
        await work
    except MCPError as error:
        return error.code
    raise AssertionError("it was not refused")


async def use_resources(peer: Any) -> dict[str, Any]:
    logo = await peer.read("logo://app")
    return {
        "resources": [[str(each.uri), each.mime_type] for each in await peer.resources()],
        "templates": [each.uri_template for each in await peer.templates()],
        "config": (await peer.read(PLACE)).text,
        "logo": [logo.mime_type, logo.blob],
        "profile": (await peer.read("users://7/profile")).text,
        "unknown": await find_refusal(peer.read("nowhere://at/all")),
    }


async def use_prompts(peer: Any) -> dict[str, Any]:
    prompts = await peer.prompts()
    review = await peer.client.get_prompt("review", {"text": "Ishmael"})
    (picture,) = (await peer.client.get_prompt("look")).messages
    style = types.PromptReference(name="review")
    user = types.ResourceTemplateReference(uri="users://{user_id}/profile")
    return {
        "prompts": [prompt.name for prompt in prompts],
        "arguments": [[argument.name, argument.required] for argument in prompts[1].arguments],
        "messages": [[message.role, message.content.text] for message in review.messages],
        "picture": [picture.content.type, picture.content.mime_type, picture.content.data],
        "missing": await find_refusal(peer.client.get_prompt("review")),
        "styles": (await peer.complete(style, {"name": "style", "value": "d"}, {"text": "x"})).values,
        "users": (await peer.complete(user, {"name": "user_id", "value": "4"}, {})).values,
    }


async def hear_legacy(peer: Any, host: Host) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these methods are gone from the modern revision
        session = peer.client.session
        await session.subscribe_resource(PLACE)
        await peer.call("show", {})
        await peer.call("touch", {})
        while len(host.heard) < 2:
            await host.news.wait()
        told = sorted(message.method for message in host.heard)
        uris = [str(message.params.uri) for message in host.heard if "updated" in message.method]
        await session.unsubscribe_resource(PLACE)
    return {"told": told, "uris": uris, "prompts_honoured": None}


async def hear_modern(peer: Any) -> dict[str, Any]:
    async with listen(
        peer.client.session,
        tools_list_changed=True,
        prompts_list_changed=True,
        resource_subscriptions=[PLACE, "nowhere://at/all"],
    ) as subscription:
        await peer.call("show", {})
        first = await anext(subscription)
        await peer.call("touch", {})
        second = await anext(subscription)
        honoured = subscription.honored
    kinds = {"ToolsListChanged": "tools/list_changed", "ResourceUpdated": "resources/updated"}
    told = [f"notifications/{kinds[type(change).__name__]}" for change in (first, second)]
    assert [str(uri) for uri in honoured.resource_subscriptions] == [PLACE]
    return {"told": sorted(told), "uris": [second.uri], "prompts_honoured": honoured.prompts_list_changed}


async def use_questions(peer: Any, host: Host) -> dict[str, Any]:
    progress: list[Any] = []

    async def note(*update: Any) -> None:
        progress.append(list(update))

    order = await peer.call("order", {})
    introduced = await peer.call("introduce", {"greeting": "Hello"}, note)
    declined = await peer.call("decide", {})
    return {
        "order": order,
        "introduced": introduced,
        "declined": declined,
        "asked": host.asked,
        "progress": progress,
    }


async def report(peer_name: str, mode: str, *target: str) -> None:
    host = Host()
    peer = {"mcp": Sdk, "fastmcp": FastMcp}[peer_name](host, mode, list(target))
    with anyio.fail_after(RUN_SECONDS):
        async with peer.client:
            version, name, capabilities = peer.facts
            heard = await (hear_legacy(peer, host) if mode == "legacy" else hear_modern(peer))
            seen = {
                "version": version,
                "server": name,
                "declared": sorted(capabilities.model_dump(exclude_none=True, by_alias=True)),
                **await use_resources(peer),
                **await use_prompts(peer),
                **heard,
                "tools": [tool.name for tool in await peer.tools()],
                "hidden": await peer.call("hide", {}),
                **await use_questions(peer, host),
            }
    print(json.dumps(seen))


if __name__ == "__main__":
    anyio.run(report, *sys.argv[1:])
