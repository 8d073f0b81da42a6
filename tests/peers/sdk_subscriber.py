"""A client of the official SDK that subscribes: `python sdk_subscriber.py MODE URL`, or `MODE COMMAND...`.

It calls `show` and `touch` of our_changing_server.py, and prints what it was told meanwhile.
"""

import json
import os
import sys
import warnings
from typing import Any

import anyio
from mcp import Client, StdioServerParameters, stdio_client

RUN_SECONDS = 100
URI = "config://app"


async def report(mode: str, target: str, *args: str) -> None:
    notifications: list[Any] = []
    heard = anyio.Event()

    async def hear(message: Any) -> None:
        nonlocal heard
        notifications.append(getattr(message, "root", message))
        heard.set()
        heard = anyio.Event()

    transport = (
        target
        if target.startswith("http")
        else stdio_client(StdioServerParameters(command=target, args=list(args), env=dict(os.environ)))
    )
    with anyio.fail_after(RUN_SECONDS):
        async with Client(transport, mode=mode, message_handler=hear) as client:
            if mode == "legacy":
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the method is gone from the modern revision
                    await client.subscribe_resource(URI)
                await client.call_tool("show")
                await client.call_tool("touch")
                wanted = {"notifications/tools/list_changed", "notifications/resources/updated"}
                while {message.method for message in notifications} != wanted:
                    await heard.wait()
                told = sorted(message.method for message in notifications)
                uris = [message.params.uri for message in notifications if "updated" in message.method]
            else:
                async with client.listen(
                    tools_list_changed=True, prompts_list_changed=True, resource_subscriptions=[URI]
                ) as subscription:
                    await client.call_tool("show")
                    first = await anext(subscription)
                    await client.call_tool("touch")
                    second = await anext(subscription)
                    told = [type(first).__name__, type(second).__name__]
                    uris = [second.uri]
                    told.append(str(subscription.honored.prompts_list_changed))
            names = [tool.name for tool in (await client.list_tools()).tools]
    print(json.dumps({"told": told, "uris": [str(uri) for uri in uris], "names": names}))


if __name__ == "__main__":
    anyio.run(report, *sys.argv[1:])
