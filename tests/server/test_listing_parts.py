"""Annotations and icons may be given as mappings, and nothing of those is dropped without a word."""

from __future__ import annotations

from typing import Any

import pytest

from trio_mcp import (
    Annotations,
    Icon,
    PromptDefinitionError,
    ResourceDefinitionError,
    Server,
    ToolAnnotations,
    ToolDefinitionError,
    open_client,
)

PICTURE = {"src": "data:image/png;base64,YQ==", "mimeType": "image/png", "sizes": ["16x16"]}
ICON = Icon(src="data:image/png;base64,YQ==", mime_type="image/png", sizes=["16x16"])


def work() -> str:
    return "done"


@pytest.mark.parametrize(
    "given",
    [
        ToolAnnotations(title="Work", read_only_hint=True),
        {"title": "Work", "readOnlyHint": True},
        {"title": "Work", "read_only_hint": True},
    ],
)
async def test_the_annotations_of_a_tool_may_be_a_mapping(given: ToolAnnotations | dict[str, Any]) -> None:
    server = Server("parts")
    server.add_tool(work, annotations=given, icons=[PICTURE, ICON])
    # What the server itself reads is the same as what clients see.
    assert server.tools["work"].listing.annotations == ToolAnnotations(title="Work", read_only_hint=True)
    async with open_client(server) as client:
        (tool,) = await client.list_tools()
    assert tool.annotations == ToolAnnotations(title="Work", read_only_hint=True)
    assert tool.icons == [ICON, ICON]


async def test_those_of_resources_and_prompts_as_well() -> None:
    server = Server("parts")
    hints = {"audience": ["user"], "priority": 0.5, "last_modified": "2026-01-01T00:00:00Z"}
    server.add_resource("parts://one", work, annotations=hints, icons=[PICTURE])
    server.add_prompt(work, icons=(PICTURE,))
    async with open_client(server) as client:
        (resource,) = await client.list_resources()
        (prompt,) = await client.list_prompts()
    assert resource.annotations == Annotations(
        audience=["user"], priority=0.5, last_modified="2026-01-01T00:00:00Z"
    )
    assert (resource.icons, prompt.icons) == ([ICON], [ICON])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"annotations": {"readonly": True}}, "annotations cannot have 'readonly', but title, readOnlyHint"),
        ({"annotations": {"readOnlyHint": "yes"}}, r"annotations: .*\$\.readOnlyHint"),
        ({"annotations": "read only"}, "annotations must be ToolAnnotations or a mapping, not 'read only'"),
        ({"icons": [{"url": "a"}]}, "an icon cannot have 'url', but src, mimeType"),
        ({"icons": [{"sizes": []}]}, "an icon: .*src"),
        ({"icons": ["a.png"]}, "an icon must be Icon or a mapping, not 'a.png'"),
        ({"icons": [None]}, "an icon must be"),
        ({"icons": PICTURE}, "icons must be a list"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_registration(options: dict[str, Any], problem: str) -> None:
    server = Server("parts")
    with pytest.raises(ToolDefinitionError, match=f"tool 'work': {problem}"):
        server.add_tool(work, **options)
    assert not server.tools


def test_it_is_refused_of_resources_and_prompts_as_well() -> None:
    server = Server("parts")
    with pytest.raises(ResourceDefinitionError, match="annotations cannot have 'readOnlyHint', but audience"):
        server.add_resource("parts://one", work, annotations={"readOnlyHint": True})
    with pytest.raises(PromptDefinitionError, match="an icon cannot have 'url'"):
        server.add_prompt(work, icons=[{"url": "a"}])
