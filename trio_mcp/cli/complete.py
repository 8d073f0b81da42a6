"""`trio-mcp complete`: values of an argument of a prompt, or of a variable of a resource template.

Owns how it is told whose argument is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trio_mcp.cli.arguments import suggest
from trio_mcp.cli.output import print_json, print_note, print_text
from trio_mcp.cli.prompt import list_prompts, read_texts
from trio_mcp.cli.request_options import RequestOptions
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.client.client import Client
from trio_mcp.wire.messages import PromptReference, ResourceTemplateReference
from trio_mcp.wire.prompts import Completion
from trio_mcp.wire.uri_template import parse_template

TEMPLATE_MARKS: Final = ("{", "://")


async def complete(target: str, owner: str, pairs: Sequence[str], options: RequestOptions) -> int:
    """Connect, ask for the values of the first of `pairs`, and print them; checkpoints.

    `owner` is the name of a prompt, or a template. Raises CommandError, and what `open_client` and
    `Client.complete` raise.
    """
    given = read_texts(pairs)
    key = next(iter(given))
    argument = {"name": key, "value": given.pop(key)}
    async with options.open(target) as connection:
        client = connection.client
        if "completions" not in client.server_capabilities:
            raise CommandError("the server completes nothing: it does not declare completions")
        reference, known = await _find_owner(client, owner)
        for name in (key, *given):
            if name not in known:
                raise CommandError(f"{owner!r} has no argument {name!r}: {suggest(name, known)}")
        async with connection.open_display(key) as display:
            found = await client.complete(reference, argument, given or None, **options.keywords(display))
    if options.json:
        print_json(found)
    else:
        _print(found)
    return SUCCEEDED


async def _find_owner(
    client: Client, owner: str
) -> tuple[PromptReference | ResourceTemplateReference, list[str]]:
    """What has the arguments, and their names; a prompt comes first. Checkpoints."""
    prompts = await list_prompts(client)
    if owner in prompts:
        return PromptReference(name=owner), [item.name for item in prompts[owner].arguments or ()]
    templates: list[str] = []
    if "resources" in client.server_capabilities:
        templates = [template.uri_template for template in await client.list_resource_templates()]
    if owner in templates:
        return ResourceTemplateReference(uri=owner), _variables(owner)
    what = "template" if any(mark in owner for mark in TEMPLATE_MARKS) else "prompt"
    raise CommandError(f"the server has no {what} {owner!r}: {suggest(owner, [*prompts, *templates])}")


def _variables(template: str) -> list[str]:
    try:
        return list(parse_template(template).names)
    except ValueError as error:
        raise CommandError(f"the template {template!r} cannot be read: {error}") from None


def _print(found: Completion) -> None:
    for value in found.values:
        print_text(value)
    more = None if found.total is None else found.total - len(found.values)
    if more is not None and more > 0:
        print_note(f"and {more:,} more")
    elif found.has_more:
        print_note("and more")
    elif not found.values:
        print_note("no values")
