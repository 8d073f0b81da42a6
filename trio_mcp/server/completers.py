"""Functions that complete arguments: what they are given, and how their values become a completion.

Owns the check of such a function, and the cap of values (MCP completion). Knows nothing of prompts and
resource templates, whose arguments are completed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
import trio

from trio_mcp.errors import ReturnError
from trio_mcp.schema.parameters import is_context
from trio_mcp.schema.signatures import Subject, read_function_parameters, unwrap
from trio_mcp.server.context import Context
from trio_mcp.server.functions import bare_function, call_function, find_injected, is_generator
from trio_mcp.wire.prompts import MAX_VALUES, Completion

_FORM: Final = "it takes the text typed so far, and if it wants them the arguments so far"


@attrs.frozen
class Completer:
    """A function that completes one argument; the names are those of its parameters."""

    function: Callable[..., Any]
    is_async: bool
    value_name: str
    arguments_name: str | None
    context_name: str | None

    async def complete(
        self, context: Context, value: str, arguments: Mapping[str, str], limiter: trio.CapacityLimiter
    ) -> Completion:
        """Call the function; raises ReturnError for what is no completion, and what the function raises."""
        kwargs: dict[str, Any] = {self.value_name: value}
        if self.arguments_name is not None:
            kwargs[self.arguments_name] = dict(arguments)
        if self.context_name is not None:
            kwargs[self.context_name] = context
        return make_completion(await call_function(self.function, kwargs, limiter, is_async=self.is_async))


def add_completer(
    completers: dict[str, Completer],
    names: Sequence[str],
    name: str,
    function: Callable[..., Any],
    subject: Subject,
    kind: str,
) -> None:
    """Let `function` complete `name`, a `kind` ("argument") of `subject`, which has such `names`.

    Raises the DefinitionError of `subject`.
    """
    where = Subject(f"{subject.text}, {kind} {name!r}", subject.error)
    if name not in names:
        raise where.flaw(f"there is no such {kind}; there are: {', '.join(names) or 'none'}")
    if name in completers:
        raise where.flaw("a function completes it already")
    completers[name] = define_completer(function, where)


def define_completer(function: Callable[..., Any], subject: Subject) -> Completer:
    """Make a completer of `function`; `subject` is its argument. Raises the DefinitionError of `subject`."""
    function = bare_function(function)
    if not callable(function):
        raise subject.flaw(f"{function!r} cannot complete it, for it is no function")
    inner = unwrap(function)
    if is_generator(inner):
        raise subject.flaw("its function is a generator: return a list of texts")
    injected = find_injected(function, subject)
    if injected is not None:
        function = injected.function
    parameters = read_function_parameters(function, {Context.__name__: Context}, subject)
    contexts = [p.name for p in parameters if is_context(p.annotation, Context)]
    values = [p for p in parameters if p.name not in contexts]
    given, others = values[:2], values[2:]
    if not given or any(p.required for p in others) or len(contexts) > 1:
        names = ", ".join(p.name for p in parameters) or "none"
        raise subject.flaw(f"its function has the parameters: {names}; {_FORM}")
    return Completer(
        function,
        injected is not None or inspect.iscoroutinefunction(inner),
        given[0].name,
        given[1].name if len(given) > 1 else None,
        contexts[0] if contexts else None,
    )


def make_completion(value: Any) -> Completion:
    """Build a completion, of at most 100 values, of what a function returned; raises ReturnError."""
    if value is None:
        return Completion([], 0, False)
    found = value if isinstance(value, Completion) else Completion(value)
    values = found.values
    if not isinstance(values, Sequence) or isinstance(values, (str, bytes)):
        raise ReturnError(f"a completion is a list of texts, not {type(values).__name__}")
    for item in values:
        if not isinstance(item, str):
            raise ReturnError(f"a completion is a list of texts, and {type(item).__name__} is none")
    shown = list(values[:MAX_VALUES])
    if len(shown) < len(values):
        return Completion(shown, len(values) if found.total is None else found.total, True)
    if isinstance(value, Completion):
        return Completion(shown, found.total, found.has_more)
    return Completion(shown, len(shown), False)
