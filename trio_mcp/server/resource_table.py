"""The resources of one server, by URI, and the order in which templates are tried.

Owns the rule for overlapping URIs: a resource comes before every template, and of templates the first in
the order of registration. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from trio_mcp.errors import ResourceDefinitionError
from trio_mcp.server.resource import ResourceDefinition


@attrs.define(eq=False)
class ResourceTable:
    """Resources by URI, and templates by their text, both in the order of registration."""

    resources: dict[str, ResourceDefinition] = attrs.field(factory=dict)
    templates: dict[str, ResourceDefinition] = attrs.field(factory=dict)

    def add(self, resource: ResourceDefinition) -> None:
        """Register a resource or a template; raises ResourceDefinitionError if its URI is taken."""
        table = self.resources if resource.template is None else self.templates
        if resource.uri in table:
            raise ResourceDefinitionError(f"there is already a resource {resource.uri!r}")
        table[resource.uri] = resource

    def find(self, uri: str) -> tuple[ResourceDefinition, Mapping[str, str | list[str]]] | None:
        """The resource that `uri` names, and the values of its variables; None if there is none."""
        if uri in self.resources:
            return self.resources[uri], {}
        for template in self.templates.values():
            values = template.match(uri)
            if values is not None:
                return template, values
        return None
