"""Model Context Protocol servers and clients for Trio, with progress that really arrives.

Owns the list of public names; everything else is an implementation detail.
"""

from trio_mcp.client.client import Client, open_client
from trio_mcp.client.results import CallResult
from trio_mcp.client.session import LogMessage
from trio_mcp.client.settings import ClientSettings
from trio_mcp.errors import (
    ArgumentError,
    CallTimeout,
    ConnectionLost,
    LocalProtocolError,
    MCPError,
    NotSupportedByEra,
    ProgressOverflow,
    ProtocolError,
    RemoteProtocolError,
    RequestCancelled,
    ReturnError,
    ToolDefinitionError,
    ToolError,
)
from trio_mcp.runtime.policy import Conflate, Lossless
from trio_mcp.runtime.settings import ServerSettings
from trio_mcp.server.context import Context, ProgressHelper
from trio_mcp.server.results import Audio, Image, ToolResult
from trio_mcp.server.server import Server, serve_stdio
from trio_mcp.version import __version__
from trio_mcp.wire.content import (
    AudioContent,
    EmbeddedResource,
    ImageContent,
    ResourceContents,
    ResourceLink,
    TextContent,
)
from trio_mcp.wire.messages import Implementation, Tool, ToolAnnotations

__all__ = [
    "ArgumentError",
    "Audio",
    "AudioContent",
    "CallResult",
    "CallTimeout",
    "Client",
    "ClientSettings",
    "Conflate",
    "ConnectionLost",
    "Context",
    "EmbeddedResource",
    "Image",
    "ImageContent",
    "Implementation",
    "LocalProtocolError",
    "LogMessage",
    "Lossless",
    "MCPError",
    "NotSupportedByEra",
    "ProgressHelper",
    "ProgressOverflow",
    "ProtocolError",
    "RemoteProtocolError",
    "RequestCancelled",
    "ResourceContents",
    "ResourceLink",
    "ReturnError",
    "Server",
    "ServerSettings",
    "TextContent",
    "Tool",
    "ToolAnnotations",
    "ToolDefinitionError",
    "ToolError",
    "ToolResult",
    "__version__",
    "open_client",
    "serve_stdio",
]
