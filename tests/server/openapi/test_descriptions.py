"""What clients see of operations: names, schemas, annotations; and documents that are refused."""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

import httpx2
import pytest
import trio

from tests.server.openapi.documents import GITHUB, PETSTORE, REF, answer
from tests.support.limits import HANG_SECONDS
from tests.support.web_api import WebApi, document, open_api
from trio_mcp import DefinitionError, ResourceDefinitionError, Server, ToolDefinitionError
from trio_mcp.schema import schema_check
from trio_mcp.server.tool import ToolDefinition


def read(spec: Any, **options: Any) -> dict[str, ToolDefinition]:
    """The tools of a document."""
    return dict(Server.from_openapi(spec, WebApi().client(), **options).tools)


def one(
    operation: dict[str, Any], schemas: Any = None, version: str = "3.1.0", **options: Any
) -> ToolDefinition:
    """The tool of one operation."""
    spec = document({"/x": {"post": {"operationId": "it", **operation}}}, schemas, version)
    return read(spec, **options)["it"]


def body(schema: Any, kind: str = "application/json", required: bool = True, **media: Any) -> dict[str, Any]:
    return {"requestBody": {"required": required, "content": {kind: {"schema": schema, **media}}}}


def test_an_operation_of_3_0_in_json_schema() -> None:
    tools = read(PETSTORE)
    assert list(tools) == [
        *("findPets", "addPet", "getPet", "replacePet", "deletePet", "getPhoto", "addPhoto"),
    ]
    assert tools["findPets"].listing.input_schema == {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"type": "string"}},
            "limit": {
                "type": "integer",
                "format": "int32",
                "exclusiveMinimum": 0,
                "maximum": 100,
                "description": "The most to return",
            },
            "X-Trace": {"type": "string", "maxLength": 40},
        },
        "additionalProperties": False,
    }


def test_what_is_read_only_is_no_argument_and_what_is_write_only_no_result() -> None:
    add = read(PETSTORE)["addPet"].listing
    assert list(add.input_schema["properties"]) == ["name", "tag", "secret", "parent", "owner"]
    assert add.input_schema["required"] == ["name"]
    assert list(add.input_schema["$defs"]["Pet"]["properties"]) == [
        "name",
        "tag",
        "secret",
        "parent",
        "owner",
    ]
    assert add.output_schema is not None
    pet = add.output_schema["$defs"]["Pet"]
    assert list(pet["properties"]) == ["id", "name", "tag", "parent", "owner"]
    assert pet["required"] == ["id", "name"]


def test_nullable_of_3_0_allows_null() -> None:
    properties = read(PETSTORE)["addPet"].listing.input_schema["properties"]
    assert properties["tag"] == {"type": ["string", "null"], "enum": ["cat", "dog", None]}
    owner = {"type": "object", "properties": {"email": {"type": "string", "format": "email"}}}
    assert properties["owner"] == {"anyOf": [{"allOf": [owner]}, {"type": "null"}]}


def test_a_schema_that_refers_to_itself_stays_a_definition_and_others_take_the_place_of_references() -> None:
    tools = read(GITHUB)
    issue = tools["issues_create"].listing.output_schema
    assert issue is not None
    assert issue["type"] == "object"
    assert issue["$ref"] == "#/$defs/issue"
    assert list(issue["$defs"]) == ["issue"]
    users = issue["$defs"]["issue"]["properties"]["assignee"]
    assert users == {
        "anyOf": [{"type": "null"}, {"type": "object", "properties": {"login": {"type": "string"}}}]
    }


def test_names_are_those_that_every_host_takes() -> None:
    paths = {
        "/a": {
            "get": {"operationId": "issues/list-for-repo"},
            "post": {"operationId": "issues list-for-repo"},
        },
        "/b/{id}": {"get": {"parameters": [{"name": "id", "in": "path"}]}},
        "/c": {"get": {"operationId": "x" * 80}, "put": {"operationId": "x" * 90}},
        "/d": {"get": {"operationId": "名前"}},
    }
    names = list(read(document(paths)))
    assert names == [
        *("issues_list-for-repo", "issues_list-for-repo_2", "get_b_id", "x" * 64, f"{'x' * 60}_2", "get_d"),
    ]


def test_names_may_be_given() -> None:
    by_map = read(PETSTORE, include=["*Pet"], names={"getPet": "look_at_pet"})
    assert list(by_map) == ["addPet", "look_at_pet", "replacePet", "deletePet"]
    by_function = read(PETSTORE, include=["getPet"], names=lambda operation: f"{operation.tags[0]}_get")
    assert list(by_function) == ["pets_get"]
    with pytest.raises(DefinitionError, match="POST /pets: the name 'same' is taken"):
        read(PETSTORE, names=lambda operation: "same")


def test_operations_are_chosen_by_id_by_path_and_by_function() -> None:
    assert list(read(PETSTORE, include=["GET /pets*"])) == ["findPets", "getPet", "getPhoto"]
    assert list(read(PETSTORE, include="get*", exclude=["getPhoto"])) == ["getPet"]
    chosen = read(PETSTORE, exclude=lambda operation: "admin" in operation.tags or operation.method == "GET")
    assert list(chosen) == ["addPet", "replacePet", "addPhoto"]


def test_annotations_come_from_the_method() -> None:
    tools = read(PETSTORE)
    hints = {
        name: (a.read_only_hint, a.destructive_hint, a.idempotent_hint, a.open_world_hint)
        for name, tool in tools.items()
        if (a := tool.listing.annotations) is not None
    }
    assert hints["getPet"] == (True, None, True, True)
    assert hints["addPet"] == (False, False, False, True)
    assert hints["replacePet"] == (False, True, True, True)
    assert hints["deletePet"] == (False, True, True, True)


def test_descriptions_come_from_the_document() -> None:
    tools = read(PETSTORE)
    shown = {name: (tool.listing.title, tool.listing.description) for name, tool in tools.items()}
    assert shown["findPets"] == ("Find pets", "Finds the pets that have a tag.")
    assert shown["addPet"] == (None, "Add a pet")
    assert shown["getPet"] == (None, "GET /pets/{petId}")
    assert shown["deletePet"] == (None, "Deprecated. DELETE /pets/{petId}")


async def test_the_server_has_the_name_and_version_of_the_api() -> None:
    async with open_api(PETSTORE, WebApi()) as mcp:
        assert mcp.server_info is not None
        assert (mcp.server_info.name, mcp.server_info.version) == ("Pets", "1.2.0")
    assert Server.from_openapi(PETSTORE, WebApi().client(), name="mine").name == "mine"


def test_a_body_that_is_made_of_several_schemas_is_given_field_by_field() -> None:
    schemas = {
        "New": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}},
        "Dated": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}},
    }
    merged = {"allOf": [{"$ref": f"{REF}New"}, {"$ref": f"{REF}Dated"}, {"required": ["at"]}]}
    schema = one(body(merged), schemas).listing.input_schema
    assert list(schema["properties"]) == ["name", "at"]
    assert sorted(schema["required"]) == ["at", "name"]


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"type": "object", "properties": {"a": {}}}, {"type": "string"}]},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}, "minProperties": 1},
        {"type": "object", "additionalProperties": {"type": "integer"}},
    ],
    ids=["choice", "array", "any object", "rule", "map"],
)
def test_any_other_body_is_one_argument(schema: dict[str, Any]) -> None:
    listing = one(body(schema)).listing
    assert listing.input_schema["properties"] == {"body": schema}
    assert listing.input_schema["required"] == ["body"]


async def test_fields_beyond_those_of_the_document_go_to_the_body_if_it_takes_them() -> None:
    schema = {"type": "object", "properties": {"a b": {}}, "additionalProperties": {"type": "integer"}}
    parameters = [{"name": "q", "in": "query", "schema": {"type": "string"}}]
    spec = document({"/x": {"post": {"operationId": "it", "parameters": parameters, **body(schema)}}})
    api = WebApi()
    async with open_api(spec, api) as mcp:
        await mcp.call_tool("it", {"a_b": "1", "more": 2, "q": "x"})
    assert json.loads(api.last.content) == {"a b": "1", "more": 2}
    assert api.target == "/x?q=x"


async def test_an_optional_body_is_not_sent_without_its_fields_and_complete_with_them() -> None:
    schema = {"type": "object", "required": ["a", "b"], "properties": {"a": {}, "b": {}, "c": {}}}
    spec = document({"/x": {"post": {"operationId": "it", **body(schema, required=False)}}})
    api = WebApi()
    async with open_api(spec, api) as mcp:
        await mcp.call_tool("it")
        assert (api.last.content, "content-type" in api.last.headers) == (b"", False)
        failed = await mcp.call_tool("it", {"c": 1}, raise_on_error=False)
        assert failed.is_error
        assert "'a' is a dependency of 'c'" in failed.text
        await mcp.call_tool("it", {"a": 1, "b": 2})
        assert json.loads(api.last.content) == {"a": 1, "b": 2}
    assert len(api.requests) == 2


def test_names_of_arguments_are_those_that_hosts_take() -> None:
    parameters = [
        {"name": "filter[name]", "in": "query"},
        {"name": "filter(name)", "in": "query"},
        {"name": "body", "in": "query"},
        {"name": "id", "in": "query"},
        {"name": "id", "in": "header"},
    ]
    schema = one({"parameters": parameters, **body({"type": "string"})}).listing.input_schema
    assert list(schema["properties"]) == [
        *("filter_name", "filter_name__query", "body__query", "id", "id__header", "body"),
    ]


def test_words_that_json_schema_does_not_know_are_left_out() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "xml": {"name": "A"}, "x-note": 1, "externalDocs": {}, "example": "e"},
            "b": {
                "type": "file",
                "pattern": "\\p{L}+",
                "discriminator": {"propertyName": "t"},
                "required": True,
            },
            "c": {
                "type": "integer",
                "minimum": 1,
                "exclusiveMinimum": False,
                "maximum": 5,
                "exclusiveMaximum": True,
            },
            "d": {"type": "string", "pattern": "^a$", "default": {"$ref": "none"}, "enum": [{"xml": 1}]},
        },
    }
    made = one(body(schema), version="3.0.0").listing.input_schema["properties"]
    assert made == {
        "a": {"type": "string", "examples": ["e"]},
        "b": {},
        "c": {"type": "integer", "minimum": 1, "exclusiveMaximum": 5},
        "d": {"type": "string", "pattern": "^a$", "default": {"$ref": "none"}, "enum": [{"xml": 1}]},
    }


def test_what_stands_beside_a_reference_counts_in_3_1_only() -> None:
    schemas = {"Name": {"type": "string"}}
    schema = {"type": "object", "properties": {"a": {"$ref": f"{REF}Name", "maxLength": 3}}}
    for version, made in (("3.0.3", {"type": "string"}), ("3.1.0", {"type": "string", "maxLength": 3})):
        assert one(body(schema), schemas, version).listing.input_schema["properties"]["a"] == made


def test_references_lead_anywhere_in_the_document() -> None:
    schema = {"$ref": "#/paths/~1x/post/responses/200/content/application~1json/schema"}
    responses = answer({"type": "object", "properties": {"a": {"type": "integer"}}})
    del responses["default"]
    tool = one({**body({"type": "object", "properties": {"x": schema}}), "responses": responses})
    made = tool.listing.input_schema["properties"]["x"]
    assert made == {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_methods_of_3_2() -> None:
    paths = {
        "/x": {"query": {"operationId": "ask"}, "additionalOperations": {"COPY": {"operationId": "copy"}}}
    }
    tools = read(document(paths, version="3.2.0"))
    assert list(tools) == ["ask", "copy"]


async def test_a_method_of_3_2_is_sent() -> None:
    paths = {"/x": {"additionalOperations": {"COPY": {"operationId": "copy"}}}}
    api = WebApi()
    async with open_api(document(paths, version="3.2.0"), api) as mcp:
        await mcp.call_tool("copy")
    assert api.last.method == "COPY"


YAML = """
openapi: 3.0.0
info: {title: Dated, version: 2024-01-31}
paths:
  /x:
    get:
      operationId: it
      parameters:
        - {name: since, in: query, schema: {type: string, format: date, example: 2024-01-31}}
        - {name: on, in: query, schema: {type: string, enum: [on, 12:30, 010, 1e3, 5, 1.5, true, null]}}
      responses:
        200:
          description: ok
          content: {application/json: {schema: {type: object, properties: {on: {type: boolean}}}}}
"""


@pytest.mark.parametrize(
    "spec", [YAML, YAML.encode(), json.dumps(PETSTORE), b"\xef\xbb\xbf" + json.dumps(PETSTORE).encode()]
)
def test_a_document_may_be_text(spec: str | bytes) -> None:
    tools = read(spec)
    assert set(tools) & {"it", "getPet"}


def test_yaml_is_read_as_the_json_that_it_means() -> None:
    listing = read(YAML)["it"].listing
    assert listing.input_schema["properties"]["since"]["examples"] == ["2024-01-31"]
    values = ["on", "12:30", "010", 1000.0, 5, 1.5, True, None]
    assert listing.input_schema["properties"]["on"]["enum"] == values
    assert listing.output_schema == {"type": "object", "properties": {"on": {"type": "boolean"}}}


def test_a_dict_that_another_reader_has_made_of_yaml_is_read_as_well() -> None:
    spec = document({"/x": {"get": {"operationId": "it", "responses": {200: {"description": "ok"}}}}})
    spec["info"]["version"] = datetime.date(2024, 1, 31)
    assert Server.from_openapi(spec, WebApi().client()).info.version == "2024-01-31"


def test_yaml_without_its_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(DefinitionError, match="install pyyaml, or give it as a dict"):
        read(YAML)
    assert read(json.dumps(PETSTORE))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"swagger": "2.0"}, "the document is Swagger 2.0: convert it to OpenAPI 3 first"),
        ({"openapi": "2.9"}, "not '2.9'"),
        ({"openapi": 3.1}, "has openapi: 3.0, 3.1 or 3.2, not 3.1"),
        ({}, "not None"),
        ({"openapi": "3.1.0"}, "the document has no paths"),
        ({"openapi": "3.1.0", "paths": {"x": {}}}, "'x' should begin with a slash"),
        ({"openapi": "3.1.0", "paths": {"/x": {"get": 5}}}, "GET /x should be an object"),
        ("{", "the document is no JSON"),
        ("a: [", "neither JSON nor YAML"),
        ("text", "is an object, not 'text'"),
        (b"\xff", "is not in UTF-8"),
        (5, "is a dict or a text, not 5"),
    ],
)
def test_what_is_no_document_is_refused(spec: Any, words: str) -> None:
    with pytest.raises(DefinitionError, match=words):
        read(spec)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (body({"$ref": "other.yaml#/Pet"}), "'other.yaml#/Pet' leads out of the document: bundle it"),
        (body({"$ref": f"{REF}None"}), "'#/components/schemas/None' leads nowhere"),
        (body({"$ref": "#anchor"}), "'#anchor' is no path within the document"),
        ({"requestBody": 5}, "5 should be an object"),
        ({"requestBody": {"$ref": "#/paths/~1x/post/requestBody"}}, "references lead in a circle"),
        ({"parameters": [{"$ref": f"{REF}None"}]}, "leads nowhere"),
    ],
)
def test_an_operation_that_cannot_be_described_is_named(operation: dict[str, Any], words: str) -> None:
    with pytest.raises(DefinitionError, match=words) as refused:
        one(operation)
    assert str(refused.value).startswith("POST /x: ")


@pytest.mark.parametrize("place", ["argument", "definition", "result"])
def test_a_schema_that_is_none_is_refused_at_registration(place: str) -> None:
    bad = {"type": "object", "properties": {"a": {"minLength": "five"}}}
    schemas = {"Bad": bad}
    reference = {"type": "object", "properties": {"b": {"$ref": f"{REF}Bad"}}}
    results = {"200": {"content": {"application/json": {"schema": reference}}}}
    given = {"argument": body(bad), "definition": body(reference), "result": {"responses": results}}
    with pytest.raises(
        DefinitionError, match=r"POST /x: it is no JSON Schema: 'five' is not of type 'integer'"
    ):
        one(given[place], schemas)
    assert one(given[place], schemas, validate=False)


def test_a_document_whose_schemas_all_refer_to_each_other_is_translated_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 60
    schemas = {
        f"S{number}": {"type": "object", "properties": {"next": {"$ref": f"{REF}S{(number + 1) % count}"}}}
        for number in range(count)
    }
    paths = {f"/x{number}": {"post": body({"$ref": f"{REF}S{number}"})} for number in range(count)}
    checked = []
    original = schema_check.SchemaCheck.__init__

    def note(self: Any, schema: Any, *, is_known_good: bool = False) -> None:
        checked.append(is_known_good)
        original(self, schema, is_known_good=is_known_good)

    monkeypatch.setattr(schema_check.SchemaCheck, "__init__", note)
    tools = read(document(paths, schemas))
    assert len(tools) == count
    assert all(len(tool.listing.input_schema["$defs"]) == count for tool in tools.values())
    # Each definition and each operation, and not each definition of each operation.
    assert checked.count(False) == 2 * count


def test_an_operation_that_cannot_be_described_can_be_left_out_and_nothing_else_is_registered_before() -> (
    None
):
    paths = {
        "/good": {"get": {"operationId": "good"}},
        "/bad": {"post": {"operationId": "bad", **body({"$ref": "other.yaml"})}},
    }
    server = Server("mine")
    with pytest.raises(DefinitionError, match="POST /bad"):
        server.add_openapi(document(paths), WebApi().client())
    assert dict(server.tools) == {}
    server.add_openapi(document(paths), WebApi().client(), exclude=["bad"])
    assert list(server.tools) == ["good"]


def test_a_name_or_uri_that_is_taken_leaves_the_server_as_it_was() -> None:
    server = Server("mine")
    server.add_tool(lambda: 1, name="getPet")
    server.disable(tools="getPet")
    server.add_resource("resource://getPhoto/{petId}", lambda petId: "x", name="photo")  # noqa: N803
    with pytest.raises(ResourceDefinitionError, match=r"resource://getPhoto/{petId}"):
        server.add_openapi(PETSTORE, WebApi().client(), as_resources=["getPhoto"])
    assert dict(server.tools) == {}
    server.add_openapi(PETSTORE, WebApi().client(), include=["getPet"])
    assert list(server.tools) == ["getPet_2"]


def test_without_jsonschema_registration_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ToolDefinitionError, match=r"install trio-mcp\[validation\], or pass validate=False"):
        read(PETSTORE)
    assert read(PETSTORE, validate=False)


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ([], "no server is known: give the client a base_url"),
        ([{"url": "/api/v3"}], "because the document says '/api/v3'"),
        ([{"url": "https://{host}/"}], "the variable 'host' of the server has no default"),
        ([{"url": "https://a.example/?key=1"}], "has a query or a fragment"),
        ([{"url": "ftp://a.example"}], "no server is known"),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused_at_registration(servers: Any, words: str) -> None:
    spec = {**document({"/x": {"get": {}}}), "servers": servers}
    with pytest.raises(DefinitionError, match=words):
        Server.from_openapi(spec, httpx2.AsyncClient(timeout=HANG_SECONDS))


def test_options_are_checked() -> None:
    http = httpx2.AsyncClient(base_url="https://a.example", timeout=HANG_SECONDS)
    with pytest.raises(TypeError, match=r"client must be an httpx2\.AsyncClient, not 5"):
        Server.from_openapi(PETSTORE, 5)
    with pytest.raises(ValueError, match="slashes"):
        Server.from_openapi(PETSTORE, http, slashes="keep")  # type: ignore[typeddict-item]
    with pytest.raises(ValueError, match="max_bytes must be an integer larger than 0"):
        Server.from_openapi(PETSTORE, http, max_bytes=0)
    with pytest.raises(TypeError, match="includes"):
        Server.from_openapi(PETSTORE, http, includes=["x"])  # type: ignore[call-arg]


def test_schemas_that_are_nested_too_deeply_are_an_error_and_no_crash() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(DefinitionError, match="nested too deeply"):
        one(body(schema))


async def test_a_tool_of_a_document_is_listed_like_any_other() -> None:
    async with open_api(GITHUB, WebApi()) as mcp:
        tools = await mcp.list_tools()
    assert [tool.name for tool in tools] == ["issues_list-for-repo", "issues_create", "repos_get-content"]
    await trio.lowlevel.checkpoint()
