"""A client of the official SDK that answers questions: `python sdk_rounds.py MODE COMMAND...`.

It calls the tool "introduce" of the stdio server COMMAND, and prints the result and the progress that it saw.
"""

import json
import os
import sys

import anyio
from mcp import Client, StdioServerParameters, stdio_client
from mcp_types import CreateMessageResult, ElicitResult, TextContent

RUN_SECONDS = 100
NAMES = {"First name?": "Ada", "Last name?": "Lovelace"}


async def fill_in(context, params) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": NAMES[params.message]})


async def think(context, params) -> CreateMessageResult:
    return CreateMessageResult(role="assistant", content=TextContent(text="yes"), model="none")


async def report(mode: str, command: str, *args: str) -> None:
    seen = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append([progress, total, message])

    with anyio.fail_after(RUN_SECONDS):
        transport = stdio_client(
            StdioServerParameters(command=command, args=list(args), env=dict(os.environ))
        )
        async with Client(
            transport, mode=mode, elicitation_callback=fill_in, sampling_callback=think
        ) as client:
            result = await client.call_tool("introduce", {"greeting": "Hello"}, progress_callback=note)
    print(json.dumps({"text": result.content[0].text, "progress": seen}))


if __name__ == "__main__":
    anyio.run(report, *sys.argv[1:])
