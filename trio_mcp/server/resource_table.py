"""The resources of one server, by URI, and the order in which templates are tried.

Owns the rule for overlapping URIs: a resource comes before every template, and of templates the first in
the order of registration. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from trio_mcp.errors import ResourceDefinitionError
from trio_mcp.server.registry import Registry
from trio_mcp.server.resource import ResourceDefinition


def _make_registry(kind: str) -> Registry[ResourceDefinition]:
    return Registry(kind, ResourceDefinitionError)


@attrs.define(eq=False)
class ResourceTable:
    """Resources by URI, and templates by their text, both in the order of registration."""

    resources: Registry[ResourceDefinition] = attrs.field(factory=lambda: _make_registry("resource"))
    templates: Registry[ResourceDefinition] = attrs.field(factory=lambda: _make_registry("template"))

    @property
    def has_begun(self) -> bool:
        """Whether there has ever been a resource or a template."""
        return self.resources.has_begun or self.templates.has_begun

    def add(self, resource: ResourceDefinition) -> None:
        """Register a resource or a template; raises ResourceDefinitionError if its URI is taken."""
        registry = self.resources if resource.template is None else self.templates
        registry.add(resource.uri, resource)

    def remove(self, uri: str) -> None:
        """Forget a resource or a template; raises ResourceDefinitionError if there is none."""
        self._registry_of(uri).remove(uri)

    def require(self, uris: Iterable[str]) -> None:
        """Raise ResourceDefinitionError unless all `uris` are those of resources or templates."""
        for uri in uris:
            self._registry_of(uri).require([uri])

    def switch(self, uris: Iterable[str], *, is_enabled: bool) -> bool:
        """Enable or disable resources and templates; returns whether that changed anything."""
        changed = [self._registry_of(uri).switch([uri], is_enabled=is_enabled) for uri in uris]
        return any(changed)

    def switch_where(self, decide: Callable[[ResourceDefinition], bool | None]) -> bool:
        """Enable or disable what `decide` gives True or False for; returns whether that changed anything."""
        changed = [registry.switch_where(decide) for registry in (self.resources, self.templates)]
        return any(changed)

    def find(self, uri: str) -> tuple[ResourceDefinition, Mapping[str, str | list[str]]] | None:
        """The resource that `uri` names, and the values of its variables; None if there is none."""
        resource = self.resources.enabled.get(uri)
        if resource is not None:
            return resource, {}
        for template in self.templates.in_order():
            values = template.match(uri)
            if values is not None:
                return template, values
        return None

    def _registry_of(self, uri: str) -> Registry[ResourceDefinition]:
        return self.templates if self.templates.has(uri) else self.resources
