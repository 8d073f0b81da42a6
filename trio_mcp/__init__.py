"""Model Context Protocol servers and clients for Trio, with progress that really arrives.

Owns the list of public names; everything else is an implementation detail.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from trio_mcp.call_result import CallResult
from trio_mcp.errors import (
    ArgumentError,
    AuthorizationError,
    CallCancelled,
    CallTimeout,
    ConnectionLost,
    CursorError,
    DefinitionError,
    LocalProtocolError,
    MCPError,
    NotSupportedByEra,
    NotSupportedByServer,
    ProgressOverflow,
    PromptDefinitionError,
    ProtocolError,
    RemoteProtocolError,
    RequestCancelled,
    ResourceDefinitionError,
    ResourceError,
    ResourceNotFound,
    ReturnError,
    ServerLookupError,
    ServerUnavailable,
    SubscriptionRefused,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
    TaskOverload,
    TaskStoreError,
    TaskTooLarge,
    TokenStorageError,
    ToolDefinitionError,
    ToolError,
)
from trio_mcp.log_records import clean_records
from trio_mcp.outgoing.policy import Conflate, Heartbeat, Lossless, ProgressCall
from trio_mcp.progress.estimator import Estimator
from trio_mcp.progress.worker import WorkerProgress
from trio_mcp.server.context import Context
from trio_mcp.server.progress_helper import ProgressHelper
from trio_mcp.server.results import Audio, Image, ToolResult
from trio_mcp.server.running import RunningServer, open_server
from trio_mcp.server.server import Server, serve_stdio
from trio_mcp.session.settings import CacheHint, ServerSettings
from trio_mcp.tasks.memory_store import MemoryTaskStore
from trio_mcp.tasks.record import Owner, TaskRecord, TaskStatus
from trio_mcp.tasks.settings import Retry, TaskConfig, TaskSettings
from trio_mcp.tasks.store import TaskPage, TaskStore
from trio_mcp.version import __version__
from trio_mcp.wire.content import (
    Annotations,
    AudioContent,
    EmbeddedResource,
    Icon,
    ImageContent,
    ResourceContents,
    ResourceLink,
    TextContent,
)
from trio_mcp.wire.frames import StageState
from trio_mcp.wire.messages import (
    Implementation,
    PromptReference,
    ResourceTemplateReference,
    Tool,
    ToolAnnotations,
)

if TYPE_CHECKING:
    from trio_mcp.authorization.bearer import Bearer
    from trio_mcp.authorization.introspection import Introspection
    from trio_mcp.authorization.jwt_verifier import JwtVerifier
    from trio_mcp.authorization.several import AnyOf
    from trio_mcp.authorization.static_tokens import StaticTokens
    from trio_mcp.authorization.verifier import InvalidToken, VerifierUnavailable
    from trio_mcp.client.call_handle import CallHandle
    from trio_mcp.client.changes import (
        Change,
        ChangeChannel,
        ChangeHandler,
        PromptsListChanged,
        ResourcesListChanged,
        ResourceUpdated,
        ToolsListChanged,
    )
    from trio_mcp.client.client import Client, open_client
    from trio_mcp.client.elicitation import (
        ElicitAnswer,
        ElicitationHandler,
        ElicitRequest,
        ElicitUrlHandler,
        ElicitUrlRequest,
    )
    from trio_mcp.client.era_cache import EraCache
    from trio_mcp.client.fault_report import ErrorHandler
    from trio_mcp.client.group import ClientGroup, open_group
    from trio_mcp.client.group_member import GroupServer, ServerState
    from trio_mcp.client.log_queue import LogHandler, LogMessage
    from trio_mcp.client.mcp_servers import read_mcp_servers
    from trio_mcp.client.resource_reading import ReadResult
    from trio_mcp.client.roots import Roots
    from trio_mcp.client.sampling import SampleAnswer, SampleRequest, SamplingHandler
    from trio_mcp.client.server_entry import ServerEntry
    from trio_mcp.client.settings import ClientSettings
    from trio_mcp.client.stdio_server import StdioServer
    from trio_mcp.client.task_handle import TaskHandle
    from trio_mcp.client.task_snapshot import TaskSnapshot
    from trio_mcp.handlers.rate_limit import rate_limited
    from trio_mcp.handlers.rich_progress import RichProgress
    from trio_mcp.handlers.sink import Progress, ProgressHandler, ProgressReceiver, ProgressSink, detailed
    from trio_mcp.handlers.stalls import watch_stalls
    from trio_mcp.handlers.text_lines import JsonLinesProgress, LogProgress
    from trio_mcp.handlers.tqdm_progress import TqdmProgress
    from trio_mcp.oauth.client_credentials import ClientCredentials
    from trio_mcp.oauth.enterprise import EnterpriseManaged
    from trio_mcp.oauth.file_storage import FileStorage
    from trio_mcp.oauth.jwt_bearer import JwtBearer
    from trio_mcp.oauth.keyring_storage import KeyringStorage
    from trio_mcp.oauth.loopback import LoopbackRedirect
    from trio_mcp.oauth.oauth import OAuth
    from trio_mcp.oauth.storage import TokenStorage
    from trio_mcp.proxy.proxy import create_proxy
    from trio_mcp.schema.choices import titles
    from trio_mcp.server.asgi import AsgiApp, asgi_app
    from trio_mcp.server.depends import Depends
    from trio_mcp.server.elicitation import Elicited
    from trio_mcp.server.http import serve_http
    from trio_mcp.server.messages import Message
    from trio_mcp.server.prompt_middleware import PromptContext
    from trio_mcp.server.request_middleware import RequestContext
    from trio_mcp.server.resource_middleware import ResourceContext
    from trio_mcp.server.sampling import Sampled, SamplingMessage
    from trio_mcp.server.tool_middleware import ToolContext
    from trio_mcp.server.websocket import serve_websocket
    from trio_mcp.server.worker import run_worker
    from trio_mcp.session.principal import Principal
    from trio_mcp.session.used_states import MemoryUsedStates, UsedStates
    from trio_mcp.tasks.redis_store import RedisTaskStore
    from trio_mcp.tasks.sqlite_store import SQLiteTaskStore
    from trio_mcp.tasks.store_url import store_from_url
    from trio_mcp.transports.asgi.settings import HttpSettings
    from trio_mcp.wire.prompts import Completion, GetPromptResult, Prompt, PromptArgument, PromptMessage
    from trio_mcp.wire.resources import Resource, ResourceTemplate
    from trio_mcp.wire.roots import Root
    from trio_mcp.wire.sampling import ModelPreferences, ToolResultContent, ToolUseContent
    from trio_mcp.wire.url_elicitation import UrlElicitation, UrlElicitationRequiredError

__all__ = [
    "Annotations",
    "AnyOf",
    "ArgumentError",
    "AsgiApp",
    "Audio",
    "AudioContent",
    "AuthorizationError",
    "Bearer",
    "CacheHint",
    "CallCancelled",
    "CallHandle",
    "CallResult",
    "CallTimeout",
    "Change",
    "ChangeChannel",
    "ChangeHandler",
    "Client",
    "ClientCredentials",
    "ClientGroup",
    "ClientSettings",
    "Completion",
    "Conflate",
    "ConnectionLost",
    "Context",
    "CursorError",
    "DefinitionError",
    "Depends",
    "ElicitAnswer",
    "ElicitRequest",
    "ElicitUrlHandler",
    "ElicitUrlRequest",
    "ElicitationHandler",
    "Elicited",
    "EmbeddedResource",
    "EnterpriseManaged",
    "EraCache",
    "ErrorHandler",
    "Estimator",
    "FileStorage",
    "GetPromptResult",
    "GroupServer",
    "Heartbeat",
    "HttpSettings",
    "Icon",
    "Image",
    "ImageContent",
    "Implementation",
    "Introspection",
    "InvalidToken",
    "JsonLinesProgress",
    "JwtBearer",
    "JwtVerifier",
    "KeyringStorage",
    "LocalProtocolError",
    "LogHandler",
    "LogMessage",
    "LogProgress",
    "LoopbackRedirect",
    "Lossless",
    "MCPError",
    "MemoryTaskStore",
    "MemoryUsedStates",
    "Message",
    "ModelPreferences",
    "NotSupportedByEra",
    "NotSupportedByServer",
    "OAuth",
    "Owner",
    "Principal",
    "Progress",
    "ProgressCall",
    "ProgressHandler",
    "ProgressHelper",
    "ProgressOverflow",
    "ProgressReceiver",
    "ProgressSink",
    "Prompt",
    "PromptArgument",
    "PromptContext",
    "PromptDefinitionError",
    "PromptMessage",
    "PromptReference",
    "PromptsListChanged",
    "ProtocolError",
    "ReadResult",
    "RedisTaskStore",
    "RemoteProtocolError",
    "RequestCancelled",
    "RequestContext",
    "Resource",
    "ResourceContents",
    "ResourceContext",
    "ResourceDefinitionError",
    "ResourceError",
    "ResourceLink",
    "ResourceNotFound",
    "ResourceTemplate",
    "ResourceTemplateReference",
    "ResourceUpdated",
    "ResourcesListChanged",
    "Retry",
    "ReturnError",
    "RichProgress",
    "Root",
    "Roots",
    "RunningServer",
    "SQLiteTaskStore",
    "SampleAnswer",
    "SampleRequest",
    "Sampled",
    "SamplingHandler",
    "SamplingMessage",
    "Server",
    "ServerEntry",
    "ServerLookupError",
    "ServerSettings",
    "ServerState",
    "ServerUnavailable",
    "StageState",
    "StaticTokens",
    "StdioServer",
    "SubscriptionRefused",
    "TaskCancelled",
    "TaskConfig",
    "TaskFailed",
    "TaskHandle",
    "TaskNotFound",
    "TaskOverload",
    "TaskPage",
    "TaskRecord",
    "TaskSettings",
    "TaskSnapshot",
    "TaskStatus",
    "TaskStore",
    "TaskStoreError",
    "TaskTooLarge",
    "TextContent",
    "TokenStorage",
    "TokenStorageError",
    "Tool",
    "ToolAnnotations",
    "ToolContext",
    "ToolDefinitionError",
    "ToolError",
    "ToolResult",
    "ToolResultContent",
    "ToolUseContent",
    "ToolsListChanged",
    "TqdmProgress",
    "UrlElicitation",
    "UrlElicitationRequiredError",
    "UsedStates",
    "VerifierUnavailable",
    "WorkerProgress",
    "__version__",
    "asgi_app",
    "create_proxy",
    "detailed",
    "open_client",
    "open_group",
    "open_server",
    "rate_limited",
    "read_mcp_servers",
    "run_worker",
    "serve_http",
    "serve_stdio",
    "serve_websocket",
    "store_from_url",
    "titles",
    "watch_stalls",
]

# A stdio server needs none of these, and would take a sixth longer to start with them.
_LATER: Final = {
    "authorization.bearer": ("Bearer",),
    "authorization.verifier": ("InvalidToken", "VerifierUnavailable"),
    "authorization.introspection": ("Introspection",),
    "authorization.jwt_verifier": ("JwtVerifier",),
    "authorization.several": ("AnyOf",),
    "authorization.static_tokens": ("StaticTokens",),
    "client.call_handle": ("CallHandle",),
    "client.changes": (
        "Change",
        "ChangeChannel",
        "ChangeHandler",
        "PromptsListChanged",
        "ResourceUpdated",
        "ResourcesListChanged",
        "ToolsListChanged",
    ),
    "client.client": ("Client", "open_client"),
    "client.elicitation": (
        "ElicitAnswer",
        "ElicitRequest",
        "ElicitUrlHandler",
        "ElicitUrlRequest",
        "ElicitationHandler",
    ),
    "client.era_cache": ("EraCache",),
    "client.fault_report": ("ErrorHandler",),
    "client.group": ("ClientGroup", "open_group"),
    "client.group_member": ("GroupServer", "ServerState"),
    "client.log_queue": ("LogHandler", "LogMessage"),
    "client.mcp_servers": ("read_mcp_servers",),
    "client.resource_reading": ("ReadResult",),
    "client.roots": ("Roots",),
    "client.sampling": ("SampleAnswer", "SampleRequest", "SamplingHandler"),
    "client.server_entry": ("ServerEntry",),
    "client.settings": ("ClientSettings",),
    "client.stdio_server": ("StdioServer",),
    "client.task_handle": ("TaskHandle",),
    "client.task_snapshot": ("TaskSnapshot",),
    "handlers.rate_limit": ("rate_limited",),
    "handlers.rich_progress": ("RichProgress",),
    "handlers.sink": ("Progress", "ProgressHandler", "ProgressReceiver", "ProgressSink", "detailed"),
    "handlers.stalls": ("watch_stalls",),
    "handlers.text_lines": ("JsonLinesProgress", "LogProgress"),
    "handlers.tqdm_progress": ("TqdmProgress",),
    "oauth.client_credentials": ("ClientCredentials",),
    "oauth.enterprise": ("EnterpriseManaged",),
    "oauth.file_storage": ("FileStorage",),
    "oauth.jwt_bearer": ("JwtBearer",),
    "oauth.keyring_storage": ("KeyringStorage",),
    "oauth.loopback": ("LoopbackRedirect",),
    "oauth.storage": ("TokenStorage",),
    "oauth.oauth": ("OAuth",),
    "proxy.proxy": ("create_proxy",),
    "schema.choices": ("titles",),
    "server.asgi": ("AsgiApp", "asgi_app"),
    "server.depends": ("Depends",),
    "server.elicitation": ("Elicited",),
    "server.http": ("serve_http",),
    "server.messages": ("Message",),
    "server.prompt_middleware": ("PromptContext",),
    "server.request_middleware": ("RequestContext",),
    "server.resource_middleware": ("ResourceContext",),
    "server.sampling": ("Sampled", "SamplingMessage"),
    "server.tool_middleware": ("ToolContext",),
    "server.websocket": ("serve_websocket",),
    "server.worker": ("run_worker",),
    "session.principal": ("Principal",),
    "session.used_states": ("MemoryUsedStates", "UsedStates"),
    "tasks.sqlite_store": ("SQLiteTaskStore",),
    "tasks.redis_store": ("RedisTaskStore",),
    "tasks.store_url": ("store_from_url",),
    "transports.asgi.settings": ("HttpSettings",),
    "wire.prompts": ("Completion", "GetPromptResult", "Prompt", "PromptArgument", "PromptMessage"),
    "wire.resources": ("Resource", "ResourceTemplate"),
    "wire.roots": ("Root",),
    "wire.sampling": ("ModelPreferences", "ToolResultContent", "ToolUseContent"),
    "wire.url_elicitation": ("UrlElicitationRequiredError", "UrlElicitation"),
}

clean_records()

if not TYPE_CHECKING:  # for a type checker, a module with this function has every name

    def __getattr__(name: str) -> Any:
        """Import what a stdio server does not need when it is first asked for."""
        for module, names in _LATER.items():
            if name in names:
                found = getattr(import_module(f"trio_mcp.{module}"), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module 'trio_mcp' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
