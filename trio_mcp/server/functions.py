"""The functions that programs register: what may be one, what a decorator makes of it, and how it is called.

Owns the checks that tools, prompts and resources have in common. A function is called in place if it is
async, in a worker thread if not. `ToolDefinition.call` does the same by itself, because a call of a tool is
on the hot path.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar

import msgspec
import trio

from trio_mcp.errors import DefinitionError
from trio_mcp.outgoing.policy import SERVER_POLICIES, ServerPolicy
from trio_mcp.schema.signatures import Subject, read_signature, unwrap
from trio_mcp.wire.content import Icon

if TYPE_CHECKING:
    from trio_mcp.server.injection import Injected

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=msgspec.Struct)

NO_SCOPES: Final[frozenset[str]] = frozenset()

ADD_BOUND: Final = "A method is registered when it is bound: server.add_{}({}instance.method)"


class Completable(Protocol):
    """A prompt or a resource template, whose arguments or variables functions complete."""

    def add_completer(self, name: str, function: Callable[..., Any]) -> None:
        """Let `function` complete `name`; raises DefinitionError if it cannot."""


class CompletableFunction(Generic[P, R]):
    """What `@server.prompt` and `@server.resource` make of a function: it is called as before.

    It can also be given functions that complete its arguments.
    """

    def __init__(self, function: Callable[P, R], definition: Completable) -> None:
        self.function = function
        self.definition = definition
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<CompletableFunction {self.function!r}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    def complete(self, name: str, /) -> Callable[[F], F]:
        """Register a function that completes an argument: `@my_prompt.complete("style")` (MCP completion).

        `name` is an argument of the prompt, or a variable of the resource's template. The function, sync or
        async, gets the text typed so far, and the others that have a value already, as a dict of texts, if
        it has a second parameter. A parameter annotated with `Context` receives the context. It returns a
        list of texts, the best first, or a `Completion`. Raises PromptDefinitionError or
        ResourceDefinitionError for an unknown name, for one that has a function already, and for a function
        with other parameters.
        """

        def register(function: F) -> F:
            self.definition.add_completer(name, function)
            return function

        return register


def bare_function(function: Any) -> Any:
    """The function that was decorated already, as a prompt, resource or static method; any other as it is.

    In a class body `staticmethod` may stand between the function and the decorator.
    """
    while isinstance(function, (CompletableFunction, staticmethod)):
        function = function.function if isinstance(function, CompletableFunction) else function.__func__
    return function


async def call_function(
    function: Callable[..., Any], kwargs: Mapping[str, Any], limiter: trio.CapacityLimiter, *, is_async: bool
) -> Any:
    """Call `function` with `kwargs`, and return what it returns.

    A sync function runs in a worker thread, which is abandoned if the request is cancelled.
    """
    if is_async:
        return await function(**kwargs)
    value = await trio.to_thread.run_sync(
        functools.partial(function, **kwargs), abandon_on_cancel=True, limiter=limiter
    )
    # It may be a lambda around an async function.
    return await value if inspect.isawaitable(value) else value


def find_name(function: Callable[..., Any], name: Any, fail: Callable[[str], DefinitionError]) -> Any:
    """`name`, or if that is None the name of `function`; raises what `fail` makes for a lambda."""
    if name is not None:
        return name
    inner = unwrap(function)
    found = getattr(function, "__name__", None) or getattr(inner, "__name__", None) or type(inner).__name__
    if found == "<lambda>":
        raise fail("a lambda has no name: pass name=...")
    return found


def is_generator(inner: Callable[..., Any]) -> bool:
    """Whether an unwrapped function yields, which no handler does."""
    return inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner)


def check_policy(progress: ServerPolicy | None, subject: Subject) -> None:
    """Raise the DefinitionError of `subject` for a `progress` that is no policy."""
    if progress is not None and not isinstance(progress, SERVER_POLICIES):
        raise subject.flaw(f"progress must be a policy, not {progress!r}")


def read_scopes(scopes: Collection[str], subject: Subject) -> frozenset[str]:
    """The names of `scopes`, which a client needs; raises the DefinitionError of `subject` for others."""
    if not scopes:
        return NO_SCOPES
    # Imported here: most servers leave it to their host who may do what.
    from trio_mcp.authorization.scopes import read_names

    try:
        return frozenset(read_names("scopes", scopes))
    except (TypeError, ValueError) as error:
        raise subject.flaw(str(error)) from None


def read_part(given: S | Mapping[str, Any] | None, kind: type[S], name: str, subject: Subject) -> S | None:
    """`given` as an object of `kind`; raises the DefinitionError of `subject` if it cannot be one.

    A mapping may have the names of the protocol or those of Python: "readOnlyHint" or "read_only_hint".
    """
    if given is None or isinstance(given, kind):
        return given
    if not isinstance(given, Mapping):
        raise subject.flaw(f"{name} must be {kind.__name__} or a mapping, not {given!r}")
    wire_names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    known = {**wire_names, **{wire: wire for wire in wire_names.values()}}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise subject.flaw(f"{name} cannot have {unknown[0]!r}, but {', '.join(wire_names.values())}")
    try:
        return msgspec.convert({known[key]: value for key, value in given.items()}, kind)
    except msgspec.ValidationError as error:
        raise subject.flaw(f"{name}: {error}") from None


def read_icons(given: Iterable[Icon | Mapping[str, Any]] | None, subject: Subject) -> list[Icon] | None:
    """`given` as a list of icons; raises the DefinitionError of `subject` for what is none."""
    if given is None:
        return None
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise subject.flaw(f"icons must be a list, not {given!r}")
    icons = [read_part(icon, Icon, "an icon", subject) for icon in given]
    if None in icons:
        raise subject.flaw("an icon must be an Icon or a mapping, not None")
    return [icon for icon in icons if icon is not None]


def check_bound(function: Callable[..., Any], kind: str, subject: Subject) -> None:
    """Refuse a function of a class body that still has its `self` or `cls`, as a `kind` ("tool")."""
    first = next(iter(read_signature(function, subject).parameters), None)
    if first not in ("self", "cls"):
        return
    qualified = getattr(unwrap(function), "__qualname__", "")
    owner = qualified.rpartition(".")[0]
    before = "uri, " if kind == "resource" else ""
    if owner and not owner.endswith("<locals>"):
        raise subject.flaw(
            f"{qualified} is a method, and no client can pass {first!r}. {ADD_BOUND.format(kind, before)}",
            f"parameter {first!r}",
        )


def find_injected(function: Callable[..., Any], subject: Subject) -> Injected | None:
    """What is called in place of a function that has dependencies; None if it has none.

    Raises the DefinitionError of `subject` for dependencies that cannot be provided.
    """
    # Who has not imported `Depends` has no dependencies, and starts without what they need.
    if "trio_mcp.server.depends" not in sys.modules:
        return None
    from trio_mcp.server.injection import inject

    return inject(function, subject)
