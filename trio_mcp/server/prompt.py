"""One prompt: a function, how it is listed, how it is called, and how its arguments are completed.

Owns what `@server.prompt` makes of a function. Knows nothing of requests. A server without prompts
never imports this module.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, ParamSpec, TypeVar

import attrs
import msgspec
import trio

from trio_mcp.errors import ArgumentError, PromptDefinitionError, ProtocolError
from trio_mcp.schema.docstrings import read_docstring
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.signatures import Subject
from trio_mcp.server.completers import Completer, define_completer
from trio_mcp.server.context import Context
from trio_mcp.server.functions import call_function
from trio_mcp.server.messages import make_messages, reads_files
from trio_mcp.server.tool import check_bound, unwrap
from trio_mcp.wire.content import Icon
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.prompts import GetPromptResult, Prompt, PromptArgument

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_SCALARS: Final = ("string", "integer", "number", "boolean")
_SHOWN_APART: Final = ("description", "title", "default")


@attrs.frozen
class PromptDefinition:
    """A prompt of a server; `listing` is what clients see of it, `completers` are by argument."""

    listing: Prompt
    function: Callable[..., Any]
    parameters: Parameters
    is_async: bool
    completers: dict[str, Completer] = attrs.field(factory=dict)

    @property
    def argument_names(self) -> Sequence[str]:
        """The arguments that clients may give, in the order of the function's parameters."""
        return [argument.name for argument in self.listing.arguments or ()]

    def add_completer(self, argument: str, function: Callable[..., Any]) -> None:
        """Let `function` complete `argument`; raises PromptDefinitionError if it cannot."""
        subject = Subject(f"prompt {self.listing.name!r}, argument {argument!r}", PromptDefinitionError)
        if argument not in self.argument_names:
            known = ", ".join(self.argument_names) or "none"
            raise subject.flaw(f"there is no such argument; there are: {known}")
        if argument in self.completers:
            raise subject.flaw("a function completes it already")
        self.completers[argument] = define_completer(function, subject)

    async def get(
        self,
        context: Context | None,
        arguments: Mapping[str, Any],
        limiter: trio.CapacityLimiter,
        max_values: int,
    ) -> GetPromptResult:
        """Convert the arguments, run the function, make messages of what it returns.

        The JSON text of an argument has `max_values` values at most. `context` is for a function that
        takes one. Raises ProtocolError for arguments that do not fit, ReturnError, and what the function
        raises.
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


class PromptFunction(Generic[P, R]):
    """What `@server.prompt` makes of a function: it is called as before, and can complete arguments."""

    def __init__(self, function: Callable[P, R], definition: PromptDefinition) -> None:
        self.definition = definition
        self._function = function
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<PromptFunction {self.definition.listing.name!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self._function(*args, **kwargs)

    def complete(self, argument: str) -> Callable[[F], F]:
        """Register a function that completes `argument`: `@my_prompt.complete("style")` (MCP completion).

        The function, sync or async, gets the text typed so far, and the other arguments that
        have a value already, as a dict of texts, if it has a second parameter. A parameter annotated
        with `Context` receives the context. It returns a list of texts, the best first, or a `Completion`.
        Raises PromptDefinitionError for an unknown argument, for one that has a function already, and for a
        function with other parameters.
        """

        def register(function: F) -> F:
            self.definition.add_completer(argument, function)
            return function

        return register


def define_prompt(
    function: Callable[..., Any],
    *,
    name: str | None,
    title: str | None,
    description: str | None,
    icons: Sequence[Icon] | None,
    meta: Mapping[str, Any] | None,
    dereference_schemas: bool = True,
) -> PromptDefinition:
    """Make a prompt of `function`; raises PromptDefinitionError if it cannot be one."""
    if isinstance(function, staticmethod):  # decorated twice in a class body
        function = function.__func__
    if not callable(function):
        raise PromptDefinitionError(f"{function!r} cannot be a prompt: it is no function")
    inner = unwrap(function)
    if name is None:
        name = getattr(function, "__name__", None) or getattr(inner, "__name__", None) or type(inner).__name__
        if name == "<lambda>":
            raise PromptDefinitionError("a lambda has no name: pass name=...")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise PromptDefinitionError(f"the name of a prompt must be printable text, not {name!r}")
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise PromptDefinitionError(f"prompt {name!r} is a generator: return a list of messages")
    subject = Subject(f"prompt {name!r}", PromptDefinitionError)
    check_bound(function, "prompt", subject)
    parameters = read_parameters(function, Context, subject, dereference=dereference_schemas)
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
        icons=None if icons is None else list(icons),
        meta=None if meta is None else dict(meta),
    )
    return PromptDefinition(listing, function, parameters, inspect.iscoroutinefunction(inner))


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
