"""Asks the person at the terminal to fill in a form of the server (MCP elicitation).

Owns the prompts and the reading of answers. A form is flat: its fields are
texts, numbers, yes or no, and choices.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import attrs
import msgspec
import trio
from rich.console import Console
from rich.text import Text

from trio_mcp.cli.display import Display, SilentDisplay
from trio_mcp.cli.schemas import Schema, type_of
from trio_mcp.client.elicitation import ElicitRequest
from trio_mcp.printable import one_line, printable

STDIN: Final = 0

LINE_BYTES: Final = 64 * 1024
"""Longer than a line that can be typed at a terminal."""

YES_OR_NO: Final = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}

_BOUNDS: Final[Mapping[str, tuple[str, Callable[[Any, Any], bool], str]]] = {
    "minimum": ("at least", operator.ge, ""),
    "maximum": ("at most", operator.le, ""),
    "exclusiveMinimum": ("more than", operator.gt, ""),
    "exclusiveMaximum": ("less than", operator.lt, ""),
    "minLength": ("at least", operator.ge, " characters"),
    "maxLength": ("at most", operator.le, " characters"),
    "minItems": ("at least", operator.ge, " choices"),
    "maxItems": ("at most", operator.le, " choices"),
}
"""The bounds that a schema may set on a value or its length: in words, as a test, and their unit."""


class DeclinedError(Exception):
    """The person declines to fill in the form."""


@attrs.frozen
class FormField:
    """One field of a form."""

    name: str
    schema: Schema
    required: bool

    @property
    def prompt(self) -> Text:
        """The text before the cursor: `  Region (1 eu, 2 us) [eu]: `."""
        title = self.schema.node.get("title")
        label = one_line(title) if isinstance(title, str) and title else one_line(self.name)
        shown = one_line(_show(self.default, self.schema)) if self.has_default else ""
        has_choice = self.has_default and self.default != []  # of several, none were chosen
        kind = _describe(self.schema) + ("" if self.required or has_choice else ", optional")
        default = f" [{shown}]" if shown else ""
        return Text.assemble("  ", (label, "bold"), (f" ({kind}){default}", "dim"), ": ")

    @property
    def has_default(self) -> bool:
        """Whether an empty answer has a value."""
        return "default" in self.schema.node

    @property
    def default(self) -> Any:
        """The value of an empty answer, or None if it has none."""
        return self.schema.node.get("default")


class Prompter:
    """Answers a server's questions: asks on `console`, or declines if that is None.

    `display` is paused while it asks.
    """

    def __init__(self, console: Console | None) -> None:
        self.display: Display = SilentDisplay()
        self._console = console
        self._turn = trio.Lock()

    async def answer(self, request: ElicitRequest) -> Mapping[str, Any] | None:
        """The values of the form, or None if it is declined; an elicitation handler. Checkpoints."""
        if self._console is None:
            await trio.lowlevel.checkpoint()
            self.display.note(f"declined, without a terminal to ask on: {one_line(request.message)}")
            return None
        async with self._turn:
            with self.display.paused():
                try:
                    return await fill_in(request, self._console)
                except DeclinedError:
                    self._console.print(Text("declined", style="dim"))
                    return None


def can_prompt() -> bool:
    """Whether stdin is a terminal at which somebody can type."""
    return sys.platform != "win32" and sys.stdin is not None and sys.stdin.isatty()


async def fill_in(request: ElicitRequest, console: Console) -> Mapping[str, Any]:
    """Ask for each field of the form; checkpoints. Raises DeclinedError."""
    form = Schema.of(request.schema, request.schema)
    fields = [FormField(name, schema, name in form.required) for name, schema in form.properties.items()]
    # Further lines are indented, so that none looks like a line of ours.
    message = printable(request.message, lines=True).replace("\n", "\n  ")
    console.print(Text.assemble(("The server asks: ", "cyan"), message), soft_wrap=True)
    console.print(Text("Ctrl-D declines, and so does an empty answer if one is needed.", style="dim"))
    values: dict[str, Any] = {}
    for field in fields:
        await _fill_in_field(field, values, console)
    if not fields:
        console.print(Text.assemble("  Enter accepts: "), end="")
        await read_line(console)
    return values


async def _fill_in_field(field: FormField, values: dict[str, Any], console: Console) -> None:
    description = field.schema.node.get("description")
    if isinstance(description, str):
        console.print(Text(f"  {one_line(description)}", style="dim"), soft_wrap=True)
    while True:
        console.print(field.prompt, end="", soft_wrap=True)
        text = await read_line(console)
        if text:
            try:
                values[field.name] = read_answer(text, field.schema)
            except ValueError as error:
                console.print(Text(f"  {error}", style="yellow"), soft_wrap=True)
                continue
        elif field.has_default:
            values[field.name] = field.default
        elif field.required:
            raise DeclinedError
        return


async def read_line(console: Console) -> str:
    """One line that a person types; checkpoints. Raises DeclinedError at the end of input."""
    chunk = b""
    try:
        await trio.lowlevel.wait_readable(STDIN)
        with suppress(OSError):  # the terminal has gone away
            chunk = os.read(STDIN, LINE_BYTES)
    finally:
        if not chunk.endswith(b"\n"):
            console.print()  # the cursor is still behind the question
    if not chunk:
        raise DeclinedError
    return chunk.decode(errors="replace").strip()


def read_answer(text: str, schema: Schema) -> Any:
    """The value typed for a field; raises ValueError with a message for the person."""
    if "array" in schema.types:
        value: Any = [_read_one(part.strip(), schema.items) for part in text.split(",") if part.strip()]
    else:
        value = _read_one(text, schema)
    size = len(value) if isinstance(value, (str, list)) else value
    for key, (words, holds, unit) in _BOUNDS.items():
        bound = schema.node.get(key)
        if isinstance(bound, (int, float)) and not holds(size, bound):
            raise ValueError(f"It must be {words} {bound:g}{unit}.")
    return value


def _read_one(text: str, schema: Schema) -> Any:
    if schema.constants:
        return _choose(text, schema.constants)
    if schema.types == {"boolean"}:
        if text.lower() not in YES_OR_NO:
            raise ValueError("Say y or n.")
        return YES_OR_NO[text.lower()]
    if "string" in schema.types or not schema.types:
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        value = text
    kind = type_of(value)
    if kind not in schema.types and not (kind == "integer" and "number" in schema.types):
        raise ValueError(f"It must be of the type {schema.describe()}.")
    return value


def _choose(text: str, constants: list[tuple[Any, str]]) -> Any:
    """The choice with this name, value or number; a name wins over a number."""
    for value, name in constants:
        if text in (name, value):
            return value
    if text.isdecimal() and 1 <= int(text) <= len(constants):
        return constants[int(text) - 1][0]
    raise ValueError(f"Choose from {_list_choices(constants)}.")


def _describe(schema: Schema) -> str:
    if "array" in schema.types:
        return f"{_describe(schema.items)}; several with commas"
    if schema.constants:
        return _list_choices(schema.constants)
    return "y/n" if schema.types == {"boolean"} else one_line(schema.describe())


def _list_choices(constants: list[tuple[Any, str]]) -> str:
    return ", ".join(f"{number} {one_line(name)}" for number, (_, name) in enumerate(constants, 1))


def _show(value: Any, schema: Schema) -> str:
    """A default value as a person would type it."""
    if isinstance(value, bool):
        return "y" if value else "n"
    if isinstance(value, list):
        return ", ".join(_show(item, schema.items) for item in value)
    names = [name for constant, name in schema.constants if constant == value]
    return names[0] if names else str(value)
