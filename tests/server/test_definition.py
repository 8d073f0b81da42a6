"""A server and its definition: what a program sets on the one is what the other keeps."""

from __future__ import annotations

import pytest

from trio_mcp import (
    DefinitionError,
    Icon,
    Implementation,
    MemoryTaskStore,
    PromptDefinitionError,
    ResourceDefinitionError,
    Server,
    ServerSettings,
    TaskConfig,
    TaskSettings,
    ToolDefinitionError,
    open_server,
)
from trio_mcp.server.definition import ServerDefinition


def test_what_a_server_is_made_of_is_in_its_definition():
    store, config = MemoryTaskStore(), TaskConfig(mode="optional")
    settings, task_settings = ServerSettings(max_requests=2), TaskSettings(max_running=3)
    server = Server(
        "demo",
        version="2",
        title="Demo",
        instructions="Be quick.",
        settings=settings,
        task_settings=task_settings,
        task_store=store,
        default_task=config,
    )
    definition = server.definition
    assert definition.info == server.info == Implementation(name="demo", version="2", title="Demo")
    assert definition.instructions == server.instructions == "Be quick."
    assert definition.settings is server.settings is settings
    assert definition.task_settings is server.task_settings is task_settings
    assert definition.task_store is server.task_store is store
    assert definition.default_task is server.default_task is config
    assert server.name == "demo"


async def test_a_server_shows_itself_with_all_that_it_was_given(wire):
    icon = Icon(src="https://example.com/icon.svg", mime_type="image/svg+xml", sizes=["any"])
    server = Server(
        "demo",
        version="2",
        title="Demo",
        description="Shows.",
        icons=[icon],
        website_url="https://example.com",
    )
    async with wire.open(server) as client:
        assert client.server_info == server.info
        assert client.server_info.icons == [icon]
        assert client.server_info.description == "Shows."
        assert client.server_info.website_url == "https://example.com"


def test_what_is_set_on_a_server_is_set_in_its_definition():
    server, other = Server("demo"), Server("other")
    server.instructions = "Be slow."
    server.settings = settings = ServerSettings(max_requests=2)
    assert server.definition.instructions == "Be slow."
    assert server.definition.settings is settings
    assert other.instructions is None


def test_tools_are_kept_in_the_definition_and_read_only_at_the_server():
    server = Server("demo")
    tools = server.tools

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    assert list(tools) == list(server.definition.tools) == ["add"]
    with pytest.raises(TypeError):
        tools["other"] = tools["add"]
    with pytest.raises(ToolDefinitionError, match="already a tool named 'add'"):
        server.definition.add_tool(tools["add"])


async def test_a_definition_opens_the_lifespan_that_was_registered_at_its_server():
    server = Server("demo")
    async with server.open_lifespan() as value:
        assert value is None

    @server.lifespan
    async def lifespan(given):  # noqa: ASYNC900  # what a lifespan may be
        yield given

    for opened in (server.open_lifespan(), server.definition.open_lifespan()):
        async with opened as value:
            assert value is server


async def test_whatever_has_a_definition_can_be_run():
    class Named:
        definition = ServerDefinition(
            Implementation(name="bare", version="1"), None, ServerSettings(), TaskSettings(), None, False
        )

    async with open_server(Named()) as running:
        assert running.settings is Named.definition.settings


async def test_representations_show_the_name_and_the_state():
    server = Server("demo")
    assert repr(server) == "<Server 'demo' tools=0>"
    async with open_server(server) as running:
        assert repr(running) == "<RunningServer 'demo' open>"
    assert repr(running) == "<RunningServer 'demo' closing>"


class Album:
    def find(self, name: str) -> str:
        return name


def takes_complex(name: complex) -> str:
    return str(name)


def takes_any_number(*names: str) -> str:
    return ""


def has_unknown_type(name: Nowhere) -> str:  # noqa: F821  # it is unknown on purpose
    return str(name)


def has_wrong_default(name: int = "a") -> str:  # type: ignore[assignment]  # it is wrong on purpose
    return str(name)


@pytest.mark.parametrize(
    "function",
    [Album.find, takes_complex, takes_any_number, has_unknown_type, has_wrong_default],
    ids=lambda function: function.__name__,
)
def test_the_message_of_a_flaw_names_what_was_registered_and_the_parameter_once(function):
    server = Server("demo")
    registrations = [
        ("tool 'mine'", ToolDefinitionError, lambda: server.add_tool(function, name="mine")),
        ("prompt 'mine'", PromptDefinitionError, lambda: server.add_prompt(function, name="mine")),
        (
            "resource 'x://{name}'",
            ResourceDefinitionError,
            lambda: server.add_resource("x://{name}", function, name="mine"),
        ),
    ]
    for subject, error, register in registrations:
        with pytest.raises(DefinitionError) as refused:
            register()
        assert type(refused.value) is error
        message = str(refused.value)
        assert message.startswith(f"{subject}, parameter "), message
        assert message.count("tool ") == (subject.startswith("tool")), message


def test_an_unbound_method_is_told_how_it_is_registered():
    with pytest.raises(ResourceDefinitionError, match=r"server\.add_resource\(uri, instance\.method\)"):
        Server("demo").add_resource("x://{name}", Album.find)
