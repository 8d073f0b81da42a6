"""The keyword arguments of `open_client`, for type checkers: `open_group` takes them for all of its servers.

Owns their names and types; a test compares them with the signature. What they mean is said by `open_client`.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from trio_mcp.client.changes import ChangeHandler
from trio_mcp.client.elicitation import ElicitationHandler, ElicitUrlHandler
from trio_mcp.client.era_cache import EraCache
from trio_mcp.client.fault_report import ErrorHandler
from trio_mcp.client.log_queue import LogHandler
from trio_mcp.client.roots import Roots
from trio_mcp.client.sampling import SamplingHandler
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import HttpKind
from trio_mcp.handlers.sink import ProgressHandler, ProgressSink
from trio_mcp.wire.messages import Implementation, LoggingLevel


class ConnectionOptions(TypedDict, total=False):
    """The options of a connection to a server."""

    progress_handler: ProgressHandler | ProgressSink | None
    log_handler: LogHandler | None
    log_level: LoggingLevel
    on_error: ErrorHandler | None
    change_handler: ChangeHandler | None
    elicitation_handler: ElicitationHandler | None
    elicitation_url_handler: ElicitUrlHandler | None
    sampling_handler: SamplingHandler | None
    sampling_tools: bool
    roots: Roots | None
    client_info: Implementation | None
    protocol: str
    settings: ClientSettings | None
    headers: Mapping[str, str] | None
    auth: Any
    http_client: Any
    ssl_context: ssl.SSLContext | None
    allow_redirects_to: Collection[str] | None
    transport: HttpKind | None
    era_cache: EraCache | None
    instruments: Sequence[object]
