"""What takes the place of a dependency of a server, for as long as a test wants it.

Owns the list of it in the definition. How a handler finds it is in `injection.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trio_mcp.errors import DefinitionError
from trio_mcp.schema.signatures import Subject, name_function
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.providers import ProviderReader


@contextmanager
def override(
    definition: ServerDefinition, dependency: Callable[..., Any], replacement: Callable[..., Any]
) -> Iterator[None]:
    """Let `replacement` provide what `dependency` does; see `Server.override_dependency`."""
    for given in (dependency, replacement):
        if not callable(given):
            raise TypeError(f"one function takes the place of another, and {given!r} is none")
    subject = Subject(f"the replacement of {name_function(dependency)}", DefinitionError)
    pair = (dependency, ProviderReader(subject).read(replacement))
    definition.overrides = (*definition.overrides, pair)
    try:
        yield
    finally:
        # Blocks may end in any order.
        definition.overrides = tuple(one for one in definition.overrides if one is not pair)
