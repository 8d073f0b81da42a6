"""How a server is given middleware, of four kinds: around requests, tools, resources and prompts.

Owns when which kind may be added, and nothing of what it does. It is imported when a server is first given
some.
"""

from __future__ import annotations

from typing import Any

from trio_mcp.errors import LocalProtocolError
from trio_mcp.server.definition import LayerKind, ServerDefinition
from trio_mcp.server.layers import Layers


def add_layer(definition: ServerDefinition, kind: LayerKind, function: Any) -> None:
    """Put `function` around what is of `kind`, inside of what is there already.

    Raises TypeError for what is no middleware, and LocalProtocolError for middleware around requests if the
    server runs already.
    """
    if kind == "requests" and definition.changes.is_heard:
        raise LocalProtocolError(
            "middleware around requests is added before the server runs; that around tools, resources and "
            "prompts may be added at any time"
        )
    layers = definition.layers.get(kind)
    if layers is None:
        layers = definition.layers.setdefault(kind, _make_layers(kind))
    layers.add(function)
    _put_around(definition, kind, layers)


def _make_layers(kind: LayerKind) -> Layers[Any, Any]:
    # Imported where they are used: a server may have no resources and no prompts.
    if kind == "requests":
        from trio_mcp.server.request_middleware import make_request_layers

        return make_request_layers()
    if kind == "tools":
        from trio_mcp.server.tool_middleware import make_tool_layers

        return make_tool_layers()
    if kind == "resources":
        from trio_mcp.server.resource_middleware import make_resource_layers

        return make_resource_layers()
    from trio_mcp.server.prompt_middleware import make_prompt_layers

    return make_prompt_layers()


def _put_around(definition: ServerDefinition, kind: LayerKind, layers: Layers[Any, Any]) -> None:
    if kind == "tools":
        from trio_mcp.server.tool_middleware import put_around_tools

        put_around_tools(definition, layers)
    elif kind == "resources":
        from trio_mcp.server.resource_middleware import put_around_resources

        put_around_resources(definition, layers)
    elif kind == "prompts":
        from trio_mcp.server.prompt_middleware import put_around_prompts

        put_around_prompts(definition, layers)
