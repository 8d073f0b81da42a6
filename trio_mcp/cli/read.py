"""`trio-mcp read`: reads a resource, with its progress on stderr and its contents on stdout.

Owns where contents go: a program and a file get the bytes as they are, a terminal gets printable text.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from typing import NoReturn

import trio

from trio_mcp.cli.arguments import suggest
from trio_mcp.cli.output import print_bytes, print_json, print_note, print_text
from trio_mcp.cli.request_options import RequestOptions
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.client.client import Client
from trio_mcp.client.resource_reading import ReadResult
from trio_mcp.errors import ProtocolError
from trio_mcp.wire.content import ResourceContents
from trio_mcp.wire.errors import INVALID_PARAMS, RESOURCE_NOT_FOUND


async def read_resource(target: str, uri: str, output: str | None, options: RequestOptions) -> int:
    """Connect, read and print; checkpoints.

    Raises CommandError, and what `open_client` and `Client.read_resource` raise.
    """
    if options.json and output is not None:
        raise CommandError("--json prints to stdout, so it makes no sense beside --output")
    async with options.open(target) as connection:
        client = connection.client
        if "resources" not in client.server_capabilities:
            raise CommandError("the server has no resources")
        try:
            async with connection.open_display(uri) as display:
                result = await client.read_resource(uri, **options.keywords(display))
        except ProtocolError as error:
            if error.code not in (INVALID_PARAMS, RESOURCE_NOT_FOUND):
                raise
            await _explain(client, uri, error)
    if options.json:
        print_json({"contents": result.contents, **({"_meta": result.meta} if result.meta else {})})
    elif output is not None:
        await _write(result, output)
    else:
        _print(result)
    return SUCCEEDED


async def _explain(client: Client, uri: str, error: ProtocolError) -> NoReturn:
    """Raise the error, with a hint if the server lists no such resource; checkpoints."""
    listed = [resource.uri for resource in await client.list_resources()]
    if uri in listed:
        raise error
    listed += [template.uri_template for template in await client.list_resource_templates()]
    raise CommandError(f"the server does not read {uri!r}: {error}; {suggest(uri, listed)}") from None


async def _write(result: ReadResult, output: str) -> None:
    data = _single(result.contents, "--output takes one")
    try:
        await trio.Path(output).write_bytes(data)
    except OSError as error:
        raise CommandError(f"cannot write {output!r}: {error.strerror or error}") from None
    print_note(f"{len(data):,} bytes written to {output}")


def _single(contents: Sequence[ResourceContents], problem: str) -> bytes:
    """The bytes of the only content; text is encoded as UTF-8."""
    if len(contents) != 1:
        raise CommandError(f"the resource has {len(contents)} contents, and {problem}; --json prints all")
    return _as_bytes(contents[0])


def _as_bytes(item: ResourceContents) -> bytes:
    if item.blob is not None:
        return base64.b64decode(item.blob)
    return (item.text or "").encode("utf-8", "surrogatepass")


def _print(result: ReadResult) -> None:
    if not sys.stdout.isatty() and (len(result.contents) == 1 or _has_bytes(result.contents)):
        print_bytes(_single(result.contents, "some are no text"))
        return
    for item in result.contents:
        if item.blob is None:
            print_text(item.text or "")
        else:
            kind = item.mime_type or "no MIME type"
            print_text(f"[{kind}, {len(_as_bytes(item)):,} bytes: --output FILE writes them]")


def _has_bytes(contents: Sequence[ResourceContents]) -> bool:
    return any(item.blob is not None for item in contents)
