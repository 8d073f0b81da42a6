"""One prompt: a function, how it is listed, how it is called, and how its arguments are completed.

Knows nothing of requests. A server without prompts
never imports this module.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_mcp.errors import ArgumentError, PromptDefinitionError, ProtocolError
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.schema.docstrings import read_docstring
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.signatures import Subject, unwrap
from trio_mcp.server.completers import Completer, add_completer
from trio_mcp.server.context import Context
from trio_mcp.server.functions import (
    NO_SCOPES,
    call_function,
    check_bound,
    check_policy,
    find_injected,
    find_name,
    is_generator,
    read_icons,
    read_scopes,
)
from trio_mcp.server.messages import make_messages, reads_files
from trio_mcp.server.tags import NO_TAGS, read_tags
from trio_mcp.wire.content import Icon
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.prompts import GetPromptResult, Prompt, PromptArgument

_SCALARS: Final = ("string", "integer", "number", "boolean")
_SHOWN_APART: Final = ("description", "title", "default")


@attrs.frozen
class PromptDefinition:
    """A prompt of a server; `listing` is what clients see of it, `completers` are by argument.

    A client must be allowed its `scopes` to list, get and complete it.
    """

    listing: Prompt
    function: Callable[..., Any]
    parameters: Parameters
    is_async: bool
    completers: dict[str, Completer] = attrs.field(factory=dict)
    progress: ServerPolicy | None = None
    scopes: frozenset[str] = NO_SCOPES
    takes_context: bool = False
    """Whether `get` needs a context, for the function or for what is around it."""
    tags: frozenset[str] = NO_TAGS

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""
        return None

    @property
    def argument_names(self) -> Sequence[str]:
        """The arguments that clients may give, in the order of the function's parameters."""
        return [argument.name for argument in self.listing.arguments or ()]

    def add_completer(self, name: str, function: Callable[..., Any]) -> None:
        """Let `function` complete an argument; raises PromptDefinitionError if it cannot."""
        subject = Subject(f"prompt {self.listing.name!r}", PromptDefinitionError)
        add_completer(self.completers, self.argument_names, name, function, subject, "argument")

    def find_completer(self, name: str) -> Completer | None:
        """What completes an argument; None if nothing does."""
        return self.completers.get(name)

    async def get(
        self,
        context: Context | None,
        arguments: Mapping[str, Any],
        limiter: trio.CapacityLimiter,
        max_values: int,
    ) -> GetPromptResult:
        """Convert the arguments, run the function, make messages of what it returns.

        The JSON text of an argument has `max_values` values at most. `context` is None unless the prompt
        `takes_context`. Raises ProtocolError for arguments that do not fit, ReturnError, and what the
        function raises.
        """
        try:
            kwargs = self.parameters.convert_texts(arguments, max_values)
        except ArgumentError as error:
            raise ProtocolError(INVALID_PARAMS, f"prompt {self.listing.name!r}: {error}") from None
        if self.parameters.context_name is not None:
            kwargs[self.parameters.context_name] = context
        value = await call_function(self.function, kwargs, limiter, is_async=self.is_async)
        make = functools.partial(make_messages, value, self.listing.description)
        return await trio.to_thread.run_sync(make, limiter=limiter) if reads_files(value) else make()


def define_prompt(
    function: Callable[..., Any],
    *,
    name: str | None,
    title: str | None,
    description: str | None,
    icons: Sequence[Icon | Mapping[str, Any]] | None,
    meta: Mapping[str, Any] | None,
    dereference_schemas: bool = True,
    refuse_unknown: bool = True,
    progress: ServerPolicy | None = None,
    scopes: Collection[str] = (),
    tags: str | Iterable[str] = (),
) -> PromptDefinition:
    """Make a prompt of `function`; raises PromptDefinitionError if it cannot be one."""
    if not callable(function):
        raise PromptDefinitionError(f"{function!r} cannot be a prompt: it is no function")
    inner = unwrap(function)
    name = find_name(function, name, PromptDefinitionError)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise PromptDefinitionError(f"the name of a prompt must be printable text, not {name!r}")
    if is_generator(inner):
        raise PromptDefinitionError(f"prompt {name!r} is a generator: return a list of messages")
    subject = Subject(f"prompt {name!r}", PromptDefinitionError)
    check_policy(progress, subject)
    check_bound(function, "prompt", subject)
    injected = find_injected(function, subject)
    if injected is not None:
        function = injected.function
    parameters = read_parameters(
        function, Context, subject, dereference=dereference_schemas, refuse_unknown=refuse_unknown
    )
    required = parameters.schema.get("required", ())
    arguments = [
        _describe_argument(argument, schema, required=argument in required)
        for argument, schema in parameters.schema["properties"].items()
    ]
    listing = Prompt(
        name=name,
        title=title,
        description=description or read_docstring(function).description,
        arguments=arguments or None,
        icons=read_icons(icons, subject),
        meta=None if meta is None else dict(meta),
    )
    is_async = injected is not None or inspect.iscoroutinefunction(inner)
    needed = read_scopes(scopes, subject)
    return PromptDefinition(
        listing,
        function,
        parameters,
        is_async,
        progress=progress,
        scopes=needed,
        takes_context=parameters.context_name is not None,
        tags=read_tags(tags, subject),
    )


def _describe_argument(name: str, schema: Mapping[str, Any], *, required: bool) -> PromptArgument:
    """How an argument is listed; the type of one that is no text is said in words, for lack of a member."""
    description = schema.get("description")
    if not _takes_text(schema):
        rest = {key: value for key, value in schema.items() if key not in _SHOWN_APART}
        written = f"Written as JSON text: {msgspec.json.encode(rest).decode()}"
        description = written if description is None else f"{description}\n\n{written}"
    # The title of a class or an enum is its name, which says nothing of the argument.
    is_scalar = schema.get("type") in _SCALARS and "enum" not in schema
    title = schema.get("title") if is_scalar else None
    return PromptArgument(name=name, title=title, description=description, required=required)


def _takes_text(schema: Mapping[str, Any]) -> bool:
    """Whether some texts are values of this schema as they are."""
    kinds = schema.get("type", ())
    if "string" in ((kinds,) if isinstance(kinds, str) else kinds) or not schema.keys() - _SHOWN_APART:
        return True
    return any(_takes_text(choice) for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())))
