"""What the official suite expects of each tool, prompt and form of the conformance fixture."""

from __future__ import annotations

import base64
from typing import Any, Final

from tests.conformance.server import PNG, WAV

IMAGE: Final = {"type": "image", "data": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
SOUND: Final = {"type": "audio", "data": base64.b64encode(WAV).decode(), "mimeType": "audio/wav"}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def resource(uri: str, mime_type: str, value: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": value}}


CONTENT: Final[dict[str, list[dict[str, Any]]]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [SOUND],
    "test_embedded_resource": [
        resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        IMAGE,
        resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
    "test_error_handling": [text("This tool intentionally returns an error for testing")],
}
"""The content of each tool that takes no arguments and asks nothing."""

PROMPTS: Final[dict[str, tuple[dict[str, str] | None, list[dict[str, Any]]]]] = {
    "test_simple_prompt": (None, [text("This is a simple prompt for testing.")]),
    "test_prompt_with_arguments": (
        {"arg1": "hello", "arg2": "world"},
        [text("Prompt with arguments: arg1='hello', arg2='world'")],
    ),
    "test_prompt_with_embedded_resource": (
        {"resourceUri": "test://example-resource"},
        [
            resource("test://example-resource", "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ],
    ),
    "test_prompt_with_image": (None, [IMAGE, text("Please analyze the image above.")]),
}
"""The arguments of each prompt, and the content of its messages."""

FORMS: Final[dict[str, dict[str, Any]]] = {
    "test_elicitation": {
        "username": {"type": "string"},
        "email": {"type": "string"},
    },
    "test_elicitation_sep1034_defaults": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "test_elicitation_sep1330_enums": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [
                {"const": "value1", "title": "First Option"},
                {"const": "value2", "title": "Second Option"},
                {"const": "value3", "title": "Third Option"},
            ],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
        },
        "titledMulti": {
            "type": "array",
            "items": {
                "type": "string",
                "anyOf": [
                    {"const": "value1", "title": "First Choice"},
                    {"const": "value2", "title": "Second Choice"},
                    {"const": "value3", "title": "Third Choice"},
                ],
            },
        },
    },
}
"""The properties of the form of each tool that asks for one."""

ACCEPTED: Final[dict[str, Any]] = {
    "test_elicitation": {"username": "ada", "email": "ada@example.com"},
    "test_elicitation_sep1034_defaults": {
        "name": "Jane Smith",
        "age": 25,
        "score": 88.0,
        "status": "inactive",
        "verified": False,
    },
    "test_elicitation_sep1330_enums": {
        "untitledSingle": "option1",
        "titledSingle": "value1",
        "legacyEnum": "opt1",
        "untitledMulti": ["option1", "option2"],
        "titledMulti": ["value1", "value3"],
    },
}
"""What a person fills in."""

ROUNDS: Final[dict[str, str]] = {
    "elicitation": "Hello, Ada!",
    "sampling": "Paris",
    "list_roots": "file:///project",
    "request_state": "state-ok: accept",
    "tampered_state": "accept",
    "multiple_inputs": "Paris Ada, who has 1 roots",
    "multi_round": '{"name":"Ada"} {"color":"Ada"}',
    "capabilities": "Asked what could be asked.",
}
"""What each tool that asks in rounds ends with, if it is told Ada, Paris and one root."""
