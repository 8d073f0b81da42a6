"""A server of a group: where it is, and what is special about it.

Owns the prefix of its names. Refuses to know how it is connected to.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import attrs

from trio_mcp.client.client import open_client
from trio_mcp.client.target import Target
from trio_mcp.validators import require_seconds

SEPARATOR: Final = "_"

_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_.-]")
"""What the name of a tool may not hold (MCP tools, "Tool Names"), nor therefore a prefix."""


@cache
def _option_names() -> frozenset[str]:
    return frozenset(inspect.signature(open_client).parameters) - {"target"}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for what is no keyword argument of `open_client`."""
    for name in options:
        if name not in _option_names():
            raise TypeError(f"{name!r} is no option of open_client")


def _check_options(instance: object, attribute: attrs.Attribute[Any], value: Mapping[str, Any]) -> None:
    check_options(value)


def _check_prefix(instance: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    if value is not None and _FOREIGN.search(value):
        raise ValueError(f"a prefix has ASCII letters, digits, '_', '-' and '.' only, not {value!r}")


def _check_timeout(instance: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None:
        require_seconds(attribute.name, value)


@attrs.frozen
class ServerEntry:
    """A server of `open_group`: a target of `open_client`, with what is special about it.

    `options` are keyword arguments of `open_client` that prevail over those of the group, such as
    `{"headers": {...}}`. `prefix` takes the place of the server's name in front of the names of its tools
    and prompts; an empty one is for a group of one server. `timeout` is the `server_timeout` of this server,
    in seconds. Raises TypeError and ValueError for what is none of this.
    """

    target: Target
    options: Mapping[str, Any] = attrs.field(
        factory=dict,
        kw_only=True,
        validator=_check_options,
        repr=False,  # headers may be secrets
    )
    prefix: str | None = attrs.field(default=None, kw_only=True, validator=_check_prefix)
    timeout: float | None = attrs.field(default=None, kw_only=True, validator=_check_timeout)

    @classmethod
    def of(cls, value: ServerEntry | Target) -> ServerEntry:
        """`value` itself if it is an entry, or else an entry with that target."""
        return value if isinstance(value, ServerEntry) else cls(value)

    def full_prefix(self, name: str) -> str:
        """What stands in front of the names of this server, whose own name is `name`."""
        prefix = _FOREIGN.sub("_", name) if self.prefix is None else self.prefix
        return prefix and prefix + SEPARATOR
