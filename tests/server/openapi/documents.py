"""Documents in the manner of those that are in use."""

from __future__ import annotations

from typing import Any

REF = "#/components/schemas/"


def answer(schema: Any, status: str = "200", kind: str = "application/json") -> dict[str, Any]:
    """The responses of an operation with one success."""
    return {
        status: {"description": "it went well", "content": {kind: {"schema": schema}}},
        "default": {"$ref": "#/components/responses/Problem"},
    }


PETSTORE: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1.2.0"},
    "servers": [
        {
            "url": "https://{region}.pets.example/{version}/",
            "variables": {"region": {"default": "eu", "enum": ["eu", "us"]}, "version": {"default": "v3"}},
        }
    ],
    "tags": [{"name": "pets"}],
    "paths": {
        "/pets": {
            "get": {
                "operationId": "findPets",
                "summary": "Find pets",
                "description": "Finds the pets that have a tag.",
                "tags": ["pets"],
                "parameters": [
                    {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {
                        "name": "limit",
                        "in": "query",
                        "description": "The most to return",
                        "schema": {
                            "type": "integer",
                            "format": "int32",
                            "minimum": 0,
                            "exclusiveMinimum": True,
                            "maximum": 100,
                        },
                    },
                    {"$ref": "#/components/parameters/Trace"},
                ],
                "responses": answer({"type": "array", "items": {"$ref": f"{REF}Pet"}}),
            },
            "post": {
                "operationId": "addPet",
                "summary": "Add a pet",
                "tags": ["pets"],
                "requestBody": {"$ref": "#/components/requestBodies/Pet"},
                "responses": answer({"$ref": f"{REF}Pet"}, "201"),
            },
        },
        "/pets/{petId}": {
            "parameters": [{"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {"operationId": "getPet", "tags": ["pets"], "responses": answer({"$ref": f"{REF}Pet"})},
            "put": {
                "operationId": "replacePet",
                "tags": ["pets"],
                "requestBody": {"$ref": "#/components/requestBodies/Pet"},
                "responses": {"204": {"description": "replaced"}},
            },
            "delete": {
                "operationId": "deletePet",
                "deprecated": True,
                "tags": ["pets", "admin"],
                "parameters": [{"name": "X-Reason", "in": "header", "schema": {"type": "string"}}],
                "responses": {"204": {"description": "gone"}},
            },
        },
        "/pets/{petId}/photo": {
            "get": {
                "operationId": "getPhoto",
                "parameters": [
                    {"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}
                ],
                "responses": answer({"type": "string", "format": "binary"}, "200", "image/png"),
            },
            "post": {
                "operationId": "addPhoto",
                "parameters": [
                    {"name": "petId", "in": "path", "required": True, "schema": {"type": "integer"}}
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "multipart/form-data": {
                            "schema": {
                                "type": "object",
                                "required": ["file"],
                                "properties": {
                                    "file": {
                                        "type": "string",
                                        "format": "binary",
                                        "description": "The photo",
                                    },
                                    "caption": {"type": "string"},
                                    "place": {
                                        "type": "object",
                                        "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                                    },
                                },
                            }
                        }
                    },
                },
                "responses": answer({"type": "object", "properties": {"size": {"type": "integer"}}}),
            },
        },
    },
    "components": {
        "parameters": {
            "Trace": {"name": "X-Trace", "in": "header", "schema": {"type": "string", "maxLength": 40}}
        },
        "requestBodies": {
            "Pet": {"required": True, "content": {"application/json": {"schema": {"$ref": f"{REF}Pet"}}}}
        },
        "responses": {
            "Problem": {
                "description": "it did not",
                "content": {"application/json": {"schema": {"$ref": f"{REF}Problem"}}},
            }
        },
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["id", "name"],
                "properties": {
                    "id": {"type": "integer", "format": "int64", "readOnly": True, "example": 7},
                    "name": {"type": "string", "xml": {"attribute": True}},
                    "tag": {"type": "string", "nullable": True, "enum": ["cat", "dog"]},
                    "secret": {"type": "string", "writeOnly": True},
                    "parent": {"$ref": f"{REF}Pet"},
                    "owner": {"nullable": True, "allOf": [{"$ref": f"{REF}Owner"}]},
                },
            },
            "Owner": {"type": "object", "properties": {"email": {"type": "string", "format": "email"}}},
            "Problem": {"type": "object", "properties": {"message": {"type": "string"}}},
        },
    },
}
"""OpenAPI 3.0, with references of every kind."""


_OWNER = {"name": "owner", "in": "path", "required": True, "schema": {"type": "string"}}
_REPO = {"name": "repo", "in": "path", "required": True, "schema": {"type": "string"}}

GITHUB: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Code host", "version": "2022-11-28"},
    "servers": [{"url": "https://api.code.example"}],
    "paths": {
        "/repos/{owner}/{repo}/issues": {
            "get": {
                "operationId": "issues/list-for-repo",
                "tags": ["issues"],
                "parameters": [
                    _OWNER,
                    _REPO,
                    {"name": "state", "in": "query", "schema": {"enum": ["open", "closed", "all"]}},
                    {"name": "labels", "in": "query", "schema": {"type": "string"}},
                    {"name": "per-page", "in": "query", "schema": {"type": "integer", "default": 30}},
                ],
                "responses": {
                    "200": {
                        "description": "ok",
                        "content": {
                            "application/json": {
                                "schema": {"type": "array", "items": {"$ref": f"{REF}issue"}},
                                "examples": {"default": {"$ref": "#/components/examples/issues"}},
                            }
                        },
                    },
                    "301": {"description": "moved"},
                },
            },
            "post": {
                "operationId": "issues/create",
                "tags": ["issues"],
                "parameters": [_OWNER, _REPO],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["title"],
                                "properties": {
                                    "title": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
                                    "body": {"type": "string"},
                                    "owner": {"type": ["string", "null"]},
                                    "labels": {
                                        "type": "array",
                                        "items": {
                                            "oneOf": [
                                                {"type": "string"},
                                                {
                                                    "type": "object",
                                                    "properties": {"id": {"type": "integer"}},
                                                },
                                            ]
                                        },
                                    },
                                },
                            }
                        }
                    },
                },
                "responses": {
                    "201": {
                        "description": "made",
                        "content": {"application/json": {"schema": {"$ref": f"{REF}issue"}}},
                    }
                },
            },
        },
        "/repos/{owner}/{repo}/contents/{path}": {
            "get": {
                "operationId": "repos/get-content",
                "tags": ["repos"],
                "parameters": [
                    _OWNER,
                    _REPO,
                    {
                        "name": "path",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string"},
                        "x-multi-segment": True,
                    },
                ],
                "responses": {
                    "200": {
                        "description": "ok",
                        "content": {
                            "application/vnd.code.object": {"schema": {"type": "string"}},
                            "application/json": {"schema": {"$ref": f"{REF}content"}},
                        },
                    }
                },
            }
        },
    },
    "components": {
        "examples": {"issues": {"value": []}},
        "schemas": {
            "issue": {
                "type": "object",
                "required": ["number"],
                "properties": {
                    "number": {"type": "integer"},
                    "title": {"type": "string"},
                    "sub_issues": {"type": "array", "items": {"$ref": f"{REF}issue"}},
                    "assignee": {"anyOf": [{"type": "null"}, {"$ref": f"{REF}simple-user"}]},
                },
            },
            "simple-user": {"type": "object", "properties": {"login": {"type": "string"}}},
            "content": {"oneOf": [{"type": "object"}, {"type": "array"}]},
        },
    },
}
"""OpenAPI 3.1, with names and schemas as a large code host has them."""
