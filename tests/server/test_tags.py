"""Tags: what has one of them is enabled and disabled together, also what is registered later."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_mcp import (
    DefinitionError,
    PromptDefinitionError,
    ProtocolError,
    ResourceDefinitionError,
    Server,
    ToolDefinitionError,
    open_client,
)
from trio_mcp.server.tags import TagRules


def make_server(tmp_path: Path) -> Server:
    """Each kind has one thing with the tag "admin", one with "beta" and one with none."""
    server = Server("tagged")
    for name, tags in (("a", {"admin"}), ("b", "beta"), ("c", ())):
        server.add_tool(lambda: "yes", name=name, tags=tags)
        server.add_prompt(lambda: "yes", name=name, tags=tags)
        server.add_resource(f"x://{name}", lambda: "yes", name=name, tags=tags)
        server.add_directory(f"{name}://files", tmp_path, name=name, tags=tags)
    return server


async def list_names(server: Server) -> dict[str, str]:
    async with open_client(server) as client:
        return {
            "tools": "".join(tool.name for tool in await client.list_tools()),
            "prompts": "".join(prompt.name for prompt in await client.list_prompts()),
            "resources": "".join(resource.name for resource in await client.list_resources()),
            "templates": "".join(template.name for template in await client.list_resource_templates()),
        }


def each(names: str) -> dict[str, str]:
    return dict.fromkeys(("tools", "prompts", "resources", "templates"), names)


async def test_disabling_a_tag_hides_what_has_it(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    server.disable(tags="admin")
    assert await list_names(server) == each("bc")
    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="Unknown tool: a"):
            await client.call_tool("a")
    server.enable(tags={"admin"})
    assert await list_names(server) == each("abc")


async def test_only_hides_all_else_also_what_is_registered_later(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    server.enable(tags={"admin", "other"}, only=True)
    assert await list_names(server) == each("a")
    server.add_tool(lambda: "yes", name="d", tags=["other", "beta"])
    server.add_tool(lambda: "yes", name="e")
    assert (await list_names(server))["tools"] == "ad"
    server.enable(everything=True)
    assert (await list_names(server))["tools"] == "abcde"
    server.add_tool(lambda: "yes", name="f")
    assert (await list_names(server))["tools"] == "abcdef"


async def test_a_rule_holds_for_the_first_resource_that_comes_later() -> None:
    server = Server("tagged")
    server.disable(tags="admin")
    server.add_resource("x://a", lambda: "yes", name="a", tags="admin")
    server.add_resource("x://{b}", lambda b: "yes", name="b", tags="admin")
    server.add_prompt(lambda: "yes", name="a", tags="admin")
    assert await list_names(server) == each("")
    server.enable(tags="admin")
    assert await list_names(server) == {"tools": "", "prompts": "a", "resources": "a", "templates": "b"}


async def test_the_last_word_counts(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    server.add_tool(lambda: "yes", name="both", tags={"admin", "beta"})
    server.disable(tags="admin")
    server.enable(tags="beta")
    assert (await list_names(server))["tools"] == "bcboth"
    server.enable(tools="a")
    server.disable(tools="c")
    assert (await list_names(server))["tools"] == "abboth"
    server.disable(tags="beta", everything=False)
    assert (await list_names(server))["tools"] == "a"
    server.disable(everything=True)
    server.enable(tools="c", tags="beta")
    assert (await list_names(server))["tools"] == "bcboth"


async def test_names_and_tags_are_switched_together_or_not_at_all(tmp_path: Path) -> None:
    server = make_server(tmp_path)
    with pytest.raises(ToolDefinitionError, match="there is no tool named 'z'"):
        server.disable(tags="admin", tools="z")
    with pytest.raises(TypeError, match="only=True hides what has none of the tags, so it needs tags"):
        server.enable(only=True)
    with pytest.raises(DefinitionError, match="enable and disable: a tag must be text"):
        server.enable(tags=[1])  # type: ignore[list-item]
    assert await list_names(server) == each("abc")


def test_what_is_no_tag_is_refused_at_registration() -> None:
    server = Server("tagged")
    with pytest.raises(ToolDefinitionError, match="tool 'a': a tag must be text that is not empty, not ''"):
        server.add_tool(lambda: "yes", name="a", tags=[""])
    with pytest.raises(PromptDefinitionError, match="prompt 'a': a tag must be text"):
        server.add_prompt(lambda: "yes", name="a", tags=[1])  # type: ignore[list-item]
    with pytest.raises(ResourceDefinitionError, match="resource 'x://a': a tag must be text"):
        server.add_resource("x://a", lambda: "yes", name="a", tags=[b"x"])  # type: ignore[list-item]


def test_rules_without_effect_are_forgotten() -> None:
    rules = TagRules()
    for number in range(1000):
        rules.add(frozenset({"a", "b"}), is_enabled=number % 2 == 0)
        rules.add(frozenset({"b"}), is_enabled=number % 2 == 1)
    assert repr(rules) == "<TagRules: 2>"
    assert not rules.allow(frozenset({"a"}))
    assert rules.allow(frozenset({"b"}))
    rules.add(None, is_enabled=False)
    assert not rules.allow(frozenset())
    assert repr(rules) == "<TagRules: 1>"
    rules.add(None, is_enabled=True)
    assert rules.allow(frozenset({"a"}))
    assert repr(rules) == "<TagRules: 0>"
