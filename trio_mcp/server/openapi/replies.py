"""What an API answers, as the result of a tool and as the contents of a resource.

Owns the output schema of an operation, which content a media type becomes, and what a client may read of an
answer that is an error. Refuses to know how an answer is received.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import attrs
import msgspec

from trio_mcp.errors import ReturnError, ToolError
from trio_mcp.printable import printable
from trio_mcp.server.openapi.operation import Operation
from trio_mcp.server.openapi.schemas import SchemaTranslator
from trio_mcp.server.openapi.styles import bare_type, is_json
from trio_mcp.server.results import ToolResult
from trio_mcp.wire.content import (
    AudioContent,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceContents,
    TextContent,
)
from trio_mcp.wire.messages import META_WRAPPED

EXCERPT: Final = 500
"""How many characters of an error's body a client reads: enough for a reason, too few for a stack trace."""

_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
_HIDDEN: Final = "***"
_TEXTS: Final = frozenset(
    {
        *("application/xml", "application/yaml", "application/x-yaml", "application/javascript"),
        *("application/x-ndjson", "application/x-www-form-urlencoded", "application/graphql"),
        *("application/sql", "application/toml", "image/svg+xml"),
    }
)


class ApiError(ToolError):
    """An API has answered with an error; `status` is its code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@attrs.frozen
class ReplyPlan:
    """What the answers of an operation are said to be; `schema` is None if no single schema describes them.

    If `is_wrapped`, an answer is no object, and stands under "result" in one.
    """

    schema: dict[str, Any] | None = attrs.field(repr=False)
    is_wrapped: bool
    accept: str


@attrs.frozen
class Reply:
    """An answer that was received: `url` is without a query, which may hold keys."""

    status: int
    reason: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    url: str

    @property
    def media_type(self) -> str:
        """The type of the body, as it was sent; empty if it was not said."""
        return self.headers.get("content-type", "")

    def read_text(self) -> str:
        """The body as text; characters that it cannot be are replaced."""
        found = _CHARSET.search(self.media_type)
        try:
            return self.body.decode(found[1] if found else "utf-8", errors="replace")
        except LookupError:
            return self.body.decode(errors="replace")


def plan_reply(
    operation: Operation, translator: SchemaTranslator, *, describe: bool, dereference: bool
) -> ReplyPlan:
    """What `operation` answers by its document; without `describe` nothing is promised to clients."""
    accepted: list[str] = []
    schemas: list[Any] = []
    is_described = describe
    for status, response in operation.find_responses():
        if not status.startswith("2"):
            continue
        content = response.get("content")
        if not isinstance(content, dict) or not content:
            is_described = False
            continue
        accepted += [kind for kind in content if kind not in accepted]
        for kind, media in content.items():
            if is_json(kind):
                schemas.append(operation.document.resolve(media).get("schema"))
            else:
                is_described = False
    accept = ", ".join(accepted) if accepted and all(_is_header(kind) for kind in accepted) else "*/*"
    if not is_described or not schemas or any(other != schemas[0] for other in schemas):
        return ReplyPlan(None, False, accept)
    if not isinstance(schemas[0], dict) or not schemas[0]:
        return ReplyPlan(None, False, accept)
    return _describe(operation, translator, schemas[0], accept, dereference=dereference)


def _describe(
    operation: Operation,
    translator: SchemaTranslator,
    given: dict[str, Any],
    accept: str,
    *,
    dereference: bool,
) -> ReplyPlan:
    schema = translator.translate(given)
    is_object = (
        operation.document.resolve(given).get("type") == "object" and given.get("nullable") is not True
    )
    if is_object and "$ref" in schema:  # MCP asks for the type at the top
        schema = {"type": "object", **schema}
    if not is_object or schema.get("type") != "object":
        is_object = False
        schema = {"type": "object", "properties": {"result": schema}, "required": ["result"]}
    whole = translator.complete(schema, dereference=dereference)
    return ReplyPlan(whole, not is_object, accept)


def _is_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and "," not in text


def make_tool_result(operation: Operation, plan: ReplyPlan, reply: Reply) -> ToolResult:
    """The result of a call that was answered by success; raises ReturnError for an answer that is not JSON.

    That is raised only if the document promises JSON.
    """
    if not reply.body:
        return ToolResult(
            content=[f"{reply.status} {reply.reason}".strip()], **_promised(operation, plan, reply)
        )
    if is_json(reply.media_type) or (plan.schema is not None and not reply.media_type):
        try:
            value = msgspec.json.decode(reply.body)
        except (ValueError, RecursionError) as error:
            raise ReturnError(f"{operation} answered with malformed JSON: {error}") from None
        text = reply.body.decode() if isinstance(value, (dict, list)) else str(value)
        if plan.is_wrapped:
            return ToolResult(content=[text], structured_content={"result": value}, meta={META_WRAPPED: True})
        if not isinstance(value, dict):
            return ToolResult(content=[text], **_promised(operation, plan, reply))
        return ToolResult(content=[text], structured_content=value)
    return ToolResult(content=[make_block(reply)], **_promised(operation, plan, reply))


def _promised(operation: Operation, plan: ReplyPlan, reply: Reply) -> dict[str, Any]:
    """Nothing; raises ReturnError if clients were promised an object."""
    if plan.schema is not None:
        kind = bare_type(reply.media_type) or "nothing"
        raise ReturnError(
            f"{operation} answered {reply.status} with {kind}, and not with what its document says"
        )
    return {}


def make_block(reply: Reply) -> ContentBlock:
    """The body as a content block: text, a picture, a sound, or a resource in place."""
    kind = bare_type(reply.media_type)
    if _is_text(kind) or (not kind and _is_utf8(reply.body)):
        return TextContent(text=reply.read_text())
    data = base64.b64encode(reply.body).decode()
    if kind.startswith("image/"):
        return ImageContent(data=data, mime_type=kind)
    if kind.startswith("audio/"):
        return AudioContent(data=data, mime_type=kind)
    kind = kind or "application/octet-stream"
    return EmbeddedResource(resource=ResourceContents(uri=reply.url, mime_type=kind, blob=data))


def make_contents(uri: str, reply: Reply) -> ResourceContents:
    """The body as the contents of the resource `uri`, whose text is empty if there is no body."""
    kind = bare_type(reply.media_type)
    if _is_text(kind) or (not kind and _is_utf8(reply.body)):
        return ResourceContents(uri=uri, mime_type=kind or "text/plain", text=reply.read_text())
    kind = kind or "application/octet-stream"
    return ResourceContents(uri=uri, mime_type=kind, blob=base64.b64encode(reply.body).decode())


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or is_json(kind) or kind in _TEXTS or kind.endswith(("+xml", "+yaml"))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def make_error(operation: Operation, reply: Reply, secrets: Collection[str]) -> ApiError:
    """The error that a client reads of an answer that is none of success, without what `secrets` has."""
    text = f"{operation} answered {reply.status} {reply.reason}".strip()
    after = reply.headers.get("retry-after")
    if after is not None and after.strip().isdigit():
        text += f"; try again after {after.strip()} seconds"
    if reply.body and _is_text(bare_type(reply.media_type)):
        excerpt = " ".join(reply.read_text().split())
        for secret in secrets:
            excerpt = excerpt.replace(secret, _HIDDEN)
        if len(excerpt) > EXCERPT:
            excerpt = f"{excerpt[:EXCERPT]}..."
        text += f": {excerpt}" if excerpt else ""
    return ApiError(printable(text), reply.status)
