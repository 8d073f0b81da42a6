"""How what a mounted server offers is named where it is mounted: tools, prompts, and URIs.

Owns the mapping of names and URIs in both directions, also of those in results. Knows neither registries nor
handlers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from trio_mcp.errors import DefinitionError
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.resource import ResourceDefinition
from trio_mcp.wire.content import ContentBlock, EmbeddedResource, ResourceContents, ResourceLink
from trio_mcp.wire.uri_template import parse_template

Rename: TypeAlias = Mapping[str, str] | Callable[[str], str | None]
"""The new name of a tool or prompt, or the new URI of a resource, by that which it has in its own server."""

_PREFIX: Final = re.compile(r"[A-Za-z0-9._~-]+")
"""What may stand in a URI and in the name of a tool."""


class MountNames:
    """The names under which the server `definition` is mounted.

    Raises DefinitionError for a prefix that cannot be one, and TypeError for `names` of another type.
    """

    def __init__(self, definition: ServerDefinition, prefix: str | None, names: Rename | None) -> None:
        if prefix is not None and (not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix)):
            raise DefinitionError(
                f"a prefix must be of the characters A-Z, a-z, 0-9, ., _, ~ and -, not {prefix!r}"
            )
        if names is not None and not isinstance(names, Mapping) and not callable(names):
            raise TypeError(f"names must be a mapping or a function, not {names!r}")
        self.definition: Final = definition
        self.prefix: Final = prefix
        self._names = names

    def __repr__(self) -> str:
        return f"<MountNames of {self.definition.info.name!r}, prefix={self.prefix!r}>"

    def show_name(self, name: str) -> str:
        """The name of a tool or a prompt where it is mounted; raises DefinitionError if it cannot be one."""
        return self._rename(name) or (name if self.prefix is None else f"{self.prefix}_{name}")

    def show_key(self, uri: str) -> str:
        """The URI of a resource, or the text of a template, where it is mounted; raises likewise."""
        return self._rename(uri) or self._add_prefix(uri)

    def show_uri(self, uri: str) -> str | None:
        """The URI of what the mounted server has as `uri`, be it of a template; None if there is no such."""
        table = self.definition.resources
        found = None if table is None else table.find(uri)
        if found is None:
            return None
        resource, values = found
        shown = self.show_key(resource.uri)
        if resource.template is None:
            return shown
        if shown == self._add_prefix(resource.uri):
            return self._add_prefix(uri)
        return parse_template(shown).expand(values)

    def show_change(self, uri: str) -> str:
        """The URI of what the mounted server says has changed, be it a resource of its or not."""
        return self.show_uri(uri) or self._add_prefix(uri)

    def read_uri(self, resource: ResourceDefinition, uri: str, values: Mapping[str, str | list[str]]) -> str:
        """The URI in the mounted server of its `resource`, which is `uri` here, with these variables."""
        if resource.template is None:
            return resource.uri
        shown = self._add_prefix(resource.uri)
        if shown == resource.uri == self.show_key(resource.uri):
            return uri
        if shown != self.show_key(resource.uri):
            return resource.template.expand(values)
        scheme, _, rest = uri.partition(":")
        slashes = "//" if rest.startswith("//") else ""
        return f"{scheme}:{slashes}{rest.removeprefix(f'{slashes}{self.prefix}/')}"

    def show_contents(
        self, contents: Sequence[ResourceContents], own_uri: str, uri: str
    ) -> list[ResourceContents]:
        """The contents of a resource, which is `own_uri` to the mounted server and `uri` here."""
        if self._is_plain:
            return list(contents)
        return [replace(one, uri=uri if one.uri == own_uri else self._show_any(one.uri)) for one in contents]

    def show_blocks(self, blocks: list[ContentBlock]) -> list[ContentBlock]:
        """The same content with the URIs, of resources of the mounted server, that they have here."""
        table = self.definition.resources
        if self._is_plain or table is None or not table.has_begun:
            return blocks
        return [self.show_block(block) for block in blocks]

    def show_block(self, block: Any) -> Any:
        """The same for a single block; what else there may be stays as it is."""
        if self._is_plain:
            return block
        if isinstance(block, ResourceLink):
            return replace(block, uri=self._show_any(block.uri))
        if isinstance(block, EmbeddedResource):
            return replace(block, resource=replace(block.resource, uri=self._show_any(block.resource.uri)))
        return block

    @property
    def _is_plain(self) -> bool:
        return self.prefix is None and self._names is None

    def _show_any(self, uri: str) -> str:
        return self.show_uri(uri) or uri

    def _rename(self, name: str) -> str | None:
        if self._names is None:
            return None
        new = self._names.get(name) if isinstance(self._names, Mapping) else self._names(name)
        if new is not None and (not isinstance(new, str) or not new):
            raise DefinitionError(f"names must give text that is not empty for {name!r}, not {new!r}")
        return new

    def _add_prefix(self, uri: str) -> str:
        """ "x://a/b" becomes "x://prefix/a/b"; a template that begins with a variable names all URIs."""
        scheme, colon, rest = uri.partition(":")
        if self.prefix is None or not colon or uri.startswith("{"):
            return uri
        if rest.startswith("//"):
            return f"{scheme}://{self.prefix}/{rest[2:]}"
        return f"{scheme}:{self.prefix}/{rest}"
