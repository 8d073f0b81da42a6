"""`trio-mcp prompt`: gets the messages of a prompt, with progress on stderr and the messages on stdout.

Owns the reading of its arguments, and how messages are printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent

from trio_mcp.cli.arguments import suggest
from trio_mcp.cli.blocks import as_text
from trio_mcp.cli.output import print_json, print_text
from trio_mcp.cli.request_options import RequestOptions
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.client.client import Client
from trio_mcp.wire.prompts import GetPromptResult, Prompt


async def get_prompt(target: str, name: str, pairs: Sequence[str], options: RequestOptions) -> int:
    """Connect, get the prompt and print it; checkpoints.

    Raises CommandError, and what `open_client` and `Client.get_prompt` raise.
    """
    given = read_texts(pairs)
    async with options.open(target) as connection:
        prompt = await _find_prompt(connection.client, name)
        _check_arguments(prompt, given)
        async with connection.open_display(name) as display:
            result = await connection.client.get_prompt(name, given, **options.keywords(display))
    if options.json:
        print_json(result)
    else:
        _print(result)
    return SUCCEEDED


def read_texts(pairs: Sequence[str]) -> dict[str, str]:
    """Read `key=value` pairs, whose values are texts; raises CommandError for what is none."""
    given: dict[str, str] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise CommandError(f"{pair!r} is no argument: write key=value")
        if key in given:
            raise CommandError(f"{key!r} is given twice")
        given[key] = text
    return given


async def list_prompts(client: Client) -> dict[str, Prompt]:
    """The prompts of the server by name, in its order; none if it declares none. Checkpoints."""
    if "prompts" not in client.server_capabilities:
        return {}
    return {prompt.name: prompt for prompt in await client.list_prompts()}


async def _find_prompt(client: Client, name: str) -> Prompt:
    prompts = await list_prompts(client)
    if name not in prompts:
        raise CommandError(f"the server has no prompt {name!r}: {suggest(name, list(prompts))}")
    return prompts[name]


def _check_arguments(prompt: Prompt, given: dict[str, str]) -> None:
    known = {argument.name: argument for argument in prompt.arguments or ()}
    for key in given:
        if key not in known:
            raise CommandError(f"{prompt.name!r} has no argument {key!r}: {suggest(key, list(known))}")
    missing = [name for name, argument in known.items() if argument.required and name not in given]
    if missing:
        raise CommandError(f"{prompt.name!r} needs {', '.join(f'{name}=...' for name in missing)}")


def _print(result: GetPromptResult) -> None:
    # Indented, so that no text can look like the next message.
    for message in result.messages:
        print_text(f"{message.role}:")
        print_text(indent(as_text(message.content), "  ", lambda line: True))
