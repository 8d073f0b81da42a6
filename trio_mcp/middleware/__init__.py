"""Ready-made middleware, and the types with which programs write their own.

Owns the list of its public names. Nothing else of the package imports it, so a server without it starts as
fast. Read `trio_mcp/server/layers.py` first.
"""

from trio_mcp.middleware.caching import Caching
from trio_mcp.middleware.concurrency_limit import ConcurrencyLimit
from trio_mcp.middleware.rate_limit import RateLimit
from trio_mcp.middleware.request_log import LoggingMiddleware
from trio_mcp.middleware.size_limit import ResponseSizeLimit
from trio_mcp.middleware.timing import Times, TimingMiddleware
from trio_mcp.server.prompt_middleware import CallNextPrompt, PromptContext, PromptMiddleware
from trio_mcp.server.request_middleware import CallNext, RequestContext, RequestMiddleware
from trio_mcp.server.resource_middleware import CallNextResource, ResourceContext, ResourceMiddleware
from trio_mcp.server.tool_middleware import CallNextTool, ToolContext, ToolMiddleware
from trio_mcp.wire.messages import CallToolResult, ListToolsResult, Result
from trio_mcp.wire.prompts import ListPromptsResult
from trio_mcp.wire.resources import ListResourcesResult, ListResourceTemplatesResult, ReadResourceResult

__all__ = [
    "Caching",
    "CallNext",
    "CallNextPrompt",
    "CallNextResource",
    "CallNextTool",
    "CallToolResult",
    "ConcurrencyLimit",
    "ListPromptsResult",
    "ListResourceTemplatesResult",
    "ListResourcesResult",
    "ListToolsResult",
    "LoggingMiddleware",
    "PromptContext",
    "PromptMiddleware",
    "RateLimit",
    "ReadResourceResult",
    "RequestContext",
    "RequestMiddleware",
    "ResourceContext",
    "ResourceMiddleware",
    "ResponseSizeLimit",
    "Result",
    "Times",
    "TimingMiddleware",
    "ToolContext",
    "ToolMiddleware",
]
