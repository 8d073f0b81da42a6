"""The client that the official conformance suite is run against.

Written as any user of trio_mcp would write it. The suite starts it anew for each scenario,
names the scenario and the protocol revision in the environment, and gives the server's URL
as the last argument.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import trio

from trio_mcp import Client, ClientCredentials, ElicitRequest, EnterpriseManaged, JwtBearer, open_client

# What trio_mcp finds out by itself; older revisions are asked for.
NEWEST = "2026-07-28"

Scenario = Callable[[Client, dict[str, Any]], Awaitable[None]]


async def list_tools(client: Client, context: dict[str, Any]) -> None:
    await client.list_tools()


async def add_numbers(client: Client, context: dict[str, Any]) -> None:
    await client.list_tools()
    await client.call_tool("add_numbers", {"a": 5, "b": 3})


async def use_everything(client: Client, context: dict[str, Any]) -> None:
    for tool in await client.list_tools():
        await client.call_tool(tool.name)
    for resource in await client.list_resources():
        await client.read_resource(resource.uri)
    for prompt in await client.list_prompts():
        await client.get_prompt(prompt.name)


async def answer_with_defaults(client: Client, context: dict[str, Any]) -> None:
    await client.list_tools()
    await client.call_tool("test_client_elicitation_defaults")


async def reconnect(client: Client, context: dict[str, Any]) -> None:
    await client.list_tools()
    await client.call_tool("test_reconnection")


async def replay_calls(client: Client, context: dict[str, Any]) -> None:
    await client.list_tools()
    for call in context["toolCalls"]:
        await client.call_tool(call["name"], call["arguments"])


async def call_all(client: Client, context: dict[str, Any]) -> None:
    for tool in await client.list_tools():
        required = tool.input_schema.get("required", [])
        await client.call_tool(tool.name, dict.fromkeys(required, "value"))


async def preserve_schema(client: Client, context: dict[str, Any]) -> None:
    for tool in await client.list_tools():
        if tool.name != "json_schema_echo":
            await client.call_tool("json_schema_echo", {"schema": tool.input_schema})


async def carry_state(client: Client, context: dict[str, Any]) -> None:
    await client.list_tools()
    for name in ("echo_state", "unrelated", "no_state", "no_result_type"):
        await client.call_tool(f"test_mrtr_{name}")


async def use_first_tool(client: Client, context: dict[str, Any]) -> None:
    tools = await client.list_tools()
    await client.call_tool(tools[0].name)


SCENARIOS: dict[str, Scenario] = {
    "initialize": list_tools,
    "tools_call": add_numbers,
    "http-standard-headers": use_everything,
    "request-metadata": add_numbers,
    "elicitation-sep1034-client-defaults": answer_with_defaults,
    "sse-retry": reconnect,
    "http-custom-headers": replay_calls,
    "http-invalid-tool-headers": call_all,
    "sep-2322-client-request-state": carry_state,
    "json-schema-ref-no-deref": list_tools,
    "json-schema-2020-12-preservation": preserve_schema,
}


async def follow(url: str) -> str:
    """Authorize as a user would who agrees, and return the query of the address that it leads to."""
    import httpx2

    async with httpx2.AsyncClient() as browser:
        answer = await browser.get(url)
    return urlsplit(answer.headers["location"]).query


def make_auth(scenario: str, context: dict[str, Any]) -> Any:
    """What authorizes the client in a scenario; None if nothing has to."""
    if not scenario.startswith("auth/"):
        return None
    if scenario in GRANTS:
        return GRANTS[scenario](context)
    from trio_mcp import OAuth

    return OAuth(
        client_id=context.get("client_id"),
        client_secret=context.get("client_secret"),
        client_metadata_url="https://conformance-test.local/client-metadata.json",
        redirect=follow,
        redirect_uri="http://localhost:3000/callback",
        dpop="dpop" in scenario,
    )


def fill_in(request: ElicitRequest) -> dict[str, Any]:
    """Confirm; the client itself fills in what the form proposes."""
    names = request.schema["properties"].keys() - request.defaults.keys()
    return dict.fromkeys(names, True)


async def main(url: str) -> None:
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    revision = os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    act = use_first_tool if scenario.startswith("auth/") else SCENARIOS.get(scenario)
    if act is None:
        sys.exit(f"trio_mcp has nothing for {scenario} yet")
    async with open_client(
        url,
        protocol="auto" if revision == NEWEST else revision,
        elicitation_handler=fill_in,
        sampling_handler=lambda request: "Hello",
        roots=[Path.cwd()],
        auth=make_auth(scenario, context),
    ) as client:
        await act(client, context)


# Tokens that need no person.


def use_client_key(context: dict[str, Any]) -> ClientCredentials:
    return ClientCredentials(
        context["client_id"],
        private_key=context["private_key_pem"],
        algorithm=context["signing_algorithm"],
    )


def use_client_secret(context: dict[str, Any]) -> ClientCredentials:
    return ClientCredentials(context["client_id"], context["client_secret"])


def use_workload(context: dict[str, Any]) -> JwtBearer:
    return JwtBearer(context["valid_jwt"], client_id=context["client_id"])


def use_enterprise(context: dict[str, Any]) -> EnterpriseManaged:
    return EnterpriseManaged(
        context["idp_id_token"],
        client_id=context["client_id"],
        client_secret=context["client_secret"],
        idp_client_id=context["idp_client_id"],
        idp_issuer=context["idp_issuer"],
    )


GRANTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "auth/client-credentials-jwt": use_client_key,
    "auth/client-credentials-basic": use_client_secret,
    "auth/wif-jwt-bearer": use_workload,
    "auth/enterprise-managed-authorization": use_enterprise,
}


if __name__ == "__main__":
    trio.run(main, sys.argv[-1])
