"""Prompts with the official SDK: `python sdk_prompts.py serve`, or `python sdk_prompts.py MODE COMMAND...`.

The first is a stdio server. The second is a client of the stdio server COMMAND. It prints what it saw.
"""

import json
import os
import sys

import anyio
from mcp import Client, StdioServerParameters, stdio_client
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.prompts.base import AssistantMessage, Message, UserMessage
from mcp_types import Completion, CompletionArgument, CompletionContext, PromptReference

RUN_SECONDS = 100


def make_server() -> MCPServer:
    server = MCPServer("sdk-prompts", version="1.0", log_level="ERROR")

    @server.prompt()
    def review(text: str, style: str = "dry") -> list[Message]:
        """Ask for a review."""
        return [UserMessage(f"Review in {style} style: {text}"), AssistantMessage("My first remark:")]

    @server.prompt()
    def look() -> Image:
        """Show a picture."""
        return Image(data=b"picture", format="png")

    @server.completion()
    async def complete(
        ref: PromptReference, argument: CompletionArgument, context: CompletionContext | None
    ) -> Completion:
        known = (context.arguments if context else None) or {}
        values = [f"{argument.value}{ending} {known.get('text', '')}" for ending in ("ry", "ramatic")]
        return Completion(values=values, total=2, has_more=False)

    return server


async def report(mode: str, command: str, *args: str) -> None:
    with anyio.fail_after(RUN_SECONDS):
        transport = stdio_client(
            StdioServerParameters(command=command, args=list(args), env=dict(os.environ))
        )
        async with Client(transport, mode=mode) as client:
            listed = (await client.list_prompts()).prompts
            prompt = await client.get_prompt("review", {"text": "Ishmael"})
            (picture,) = (await client.get_prompt("look")).messages
            completion = (
                await client.complete(
                    PromptReference(name="review"), {"name": "style", "value": "d"}, {"text": "x"}
                )
            ).completion
            capabilities = client.server_capabilities
    seen = {
        "names": [prompt.name for prompt in listed],
        "arguments": [[argument.name, argument.required] for argument in listed[0].arguments],
        "messages": [[message.role, message.content.text] for message in prompt.messages],
        "picture": [picture.content.type, picture.content.mime_type, picture.content.data],
        "values": completion.values,
        "declared": [capabilities.prompts is not None, capabilities.completions is not None],
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        anyio.run(make_server().run_stdio_async)
    else:
        anyio.run(report, *sys.argv[1:])
