"""The shape of the package: layers, and what is public."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import trio_mcp
import trio_mcp.testing

PACKAGE = Path(trio_mcp.__file__).parent

# Imports point down this list only; one layer's own modules may import each other.
LAYERS = [
    *(
        "wire",
        "errors",
        "validators",
        "printable",
        "log_records",
        "background_log",
        "concurrency",
        "schema",
        "call_result",
        "outgoing",
        "progress",
        "instruments",
    ),
    *(
        "session",
        "transports",
        "authorization",
        "oauth",
        "tasks",
        "handlers",
        "server",
        "middleware",
        "client",
        "proxy",
        "telemetry",
        "cli",
        "testing",
    ),
]
# These never import each other, whatever their order.
STRANGERS = {
    ("oauth", "authorization"),
    ("server", "client"),
    ("client", "server"),
    ("server", "handlers"),
    ("server", "cli"),
    ("client", "middleware"),
    ("cli", "testing"),
    ("testing", "cli"),
    ("authorization", "oauth"),
    ("oauth", "authorization"),
    ("server", "oauth"),
    ("client", "authorization"),
}
# Import what only some users need where it is used, and only there.
OPTIONAL = {"rich", "cyclopts", "cattrs", "docstring_parser", "cryptography", "joserfc"}


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        layer = relative.parts[0].removesuffix(".py")
        yield layer, str(relative), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether the import stands at the top of the file."""
    for node in ast.walk(tree):
        top = node in getattr(tree, "body", [])
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports"
            yield node.module or "", top


@pytest.mark.parametrize(
    ("layer", "name", "tree"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_point_down(layer, name, tree):
    if layer in ("__init__", "version"):
        return
    assert layer in LAYERS, f"{name} is in no layer"
    for module, _ in imported(tree):
        parts = module.split(".")
        if parts[0] != "trio_mcp" or len(parts) == 1 or parts[1] == "version":
            continue
        assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{name} imports {module}, which is above it"
        assert (layer, parts[1]) not in STRANGERS, f"{name} imports {module}"


@pytest.mark.parametrize(
    ("layer", "name", "tree"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_each_layer_may_import(layer, name, tree):
    for module, top in imported(tree):
        package = module.split(".")[0]
        if layer == "wire":
            assert package not in {"trio", "time", "asyncio", "threading"}, f"{name} is sans-IO"
        if package in {"rich", "cyclopts"}:
            bars = package == "rich" and name == "handlers/rich_board.py"
            assert layer == "cli" or bars, f"{name} imports {module}"
        if module == "trio_mcp.handlers.rich_board":
            assert not top or layer == "cli", f"{name} imports {module} for everybody"
        if package in {"hypercorn", "h2"}:
            hidden = ("transports/hypercorn/connection.py", "transports/hypercorn/protocols.py")
            assert name in hidden, f"{name} imports {module}"
        if package in {"trio_websocket", "wsproto"}:
            assert layer == "transports", f"{name} imports {module}"
        if package in {"coredis", "anyio"}:
            assert name == "tasks/redis_library.py", f"{name} imports {module}"
        if package == "opentelemetry":
            assert layer == "telemetry", f"{name} imports {module}"
        if package == "keyring":
            assert name == "oauth/keyring_storage.py", f"{name} imports {module}"
            assert not top, f"{name} imports {module} for everybody"
        if package == "cryptography":
            known = {"server/state_seal.py", "authorization/jose_library.py"}
            assert name in known, f"{name} imports {module}"
        if package == "joserfc":
            known = {"authorization/jose_library.py", "oauth/signing_key.py", "testing/authorization/jose.py"}
            assert name in known, f"{name} imports {module}"
        if package in {"cattrs", "docstring_parser"}:
            assert not top or layer == "cli", f"{name} imports {module} for everybody"


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and under TYPE_CHECKING count: who reads one module must not need all."""
    names = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    graph = {
        name: set(imported_modules(ast.parse(path.read_text(encoding="utf-8")), names)) - {name}
        for name, path in names.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " <- ".join(error.args[1]))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree: ast.AST, known: Collection[str]) -> Iterator[str]:
    """The modules of the package that `tree` imports; of `from package import module`, the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


# What is private to other libraries and used all the same: file and attribute, with the reason.
FOREIGN_PRIVATES = {
    ("transports/hypercorn/connection.py", "_flush"): "hypercorn's HTTP/2 has no public way to flush",
    ("transports/hypercorn/connection.py", "_close_stream"): "nor to end a stream that the peer has reset",
    ("transports/hypercorn/connection.py", "_window_updated"): "nor to wake who waits for its window",
    ("transports/hypercorn/protocols.py", "_send_wsproto_event"): "nor to close a WebSocket with a code",
    ("transports/hypercorn/protocols.py", "_send_error_response"): "nor to refuse one",
    ("transports/websocket/library.py", "_event"): "trio-websocket shows the Host header nowhere else",
    ("transports/websocket/library.py", "_recv_channel"): "its queue of messages, to take a burst at once",
    (
        "transports/http/content_coding.py",
        "_Decompress",
    ): "the type of zlib.decompressobj(), in an annotation",
    # The leading underscore of a namedtuple's methods keeps them apart from its fields; they are public.
    ("cli/display.py", "_replace"): "namedtuple",
    ("cli/tasks/rows.py", "_replace"): "namedtuple",
    ("schema/records.py", "_field_defaults"): "namedtuple",
    ("schema/records.py", "_fields"): "namedtuple",
}


def test_nothing_reaches_into_private_attributes():
    """A private attribute is used in the module that defines it only."""
    found = set()
    for _, name, tree in modules():
        own = defined_names(tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not is_private(node.attr) or node.attr in own:
                continue
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                continue
            assert (name, node.attr) in FOREIGN_PRIVATES, f"{name}:{node.lineno}: {ast.unparse(node)}"
            found.add((name, node.attr))
    assert found == set(FOREIGN_PRIVATES), "what is not used any more leaves the list"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined_names(tree: ast.AST) -> set[str]:
    """What a module defines: functions, classes, fields, and attributes that methods set on `self`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                names.add(node.attr)
            case ast.AnnAssign(target=ast.Name()):
                names.add(node.target.id)
            case ast.Assign():
                names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


# Handlers that take every exception and do not raise it again, by function, with the reason. Those whose last
# statement is a bare `raise` only clean up, and need none.
BROAD_HANDLERS = {
    # The three boundaries, at which a failure becomes an answer.
    "session/server_session.py:ServerSession._handle": "request dispatch",
    "session/server_session.py:ServerSession._failure_frame": "an exception that cannot even be described",
    "tasks/supervisor.py:Supervisor._run": "the supervisor of tasks",
    "tasks/supervisor.py:_described": "an exception that cannot even be described",
    "server/attempts.py:run_attempts": "a failure that the tool wants to be followed by another attempt",
    "server/child_calls.py:ChildCalls.call": "a tool that another tool calls is dispatched there",
    "client/pending_call.py:PendingCall._deliver": "the consumer of progress, which calls the user's handler",
    "client/fault_report.py:FaultReport.tell": "calls the user's on_error hook",
    "client/change_handling.py:_handle": "the consumer of changes, which calls the user's handler",
    "client/log_queue.py:LogQueue._handle": "the consumer of log messages, which calls the user's handler",
    "client/server_requests.py:ServerRequests._answer": "calls the user's handler of a question",
    "client/task_questions.py:TaskQuestions._find_answer": "calls the user's handler of a task's question",
    "client/round_answers.py:_answer": "calls the user's handler of a question of a call",
    # Other code of users, called within a call that goes on.
    "handlers/rate_limit.py:_Limiter._hand_over_held": "calls the user's progress handler",
    "handlers/sink.py:open_handler": "closes the user's sink",
    "handlers/stalls.py:_watch.watch": "calls the user's on_stall; what it raises is raised behind the block",
    "cli/server_file.py:import_file": "imports the user's file",
    "schema/signatures.py:make_resolver.resolve": "evaluates the user's annotation",
    "tasks/store_calls.py:StoreCalls.run": "calls the user's store; its failure must not end the server",
    "instruments.py:Instruments._tell": "calls a hook of the user's instrument",
    "background_log.py:LogWriter._handle": "calls the program's logging handlers, in their thread",
    "server/asgi.py:AsgiApp._serve_lifespan": "enters the user's lifespan; the host is told of a failure",
    "client/group_member.py:GroupServer.run": "a target of the caller's; a failure ends only that server",
    "proxy/upstream.py:Upstream.run": "a target of the caller's; a failure is followed by another attempt",
    # Other libraries and applications, whose failures end no more than what they serve.
    "transports/http/httpx_client.py:HttpxClient.ask": "the caller's client and auth",
    "transports/http/httpx_client.py:_close": "reads a body to its end to be rid of it",
    "transports/hypercorn/connection.py:HypercornConnection.run": "hypercorn; ends one connection",
    "transports/hypercorn/connection.py:HypercornConnection.drain": "hypercorn; ends one connection",
    "transports/hypercorn/exchange.py:HypercornExchange.run": "any ASGI application",
    "transports/hypercorn/lifespan.py:Lifespan._live": "any ASGI application",
    "transports/hypercorn/serve.py:_Service._shut_down": "the caller's on_shutdown",
    "transports/websocket/keeping.py:keep_connection": "trio-websocket's reader; a crash ends its connection",
    "transports/websocket/server.py:WebSocketService._handle": "a crash ends one connection, not the service",
    # What was caught in one task is raised in the one that waits for it.
    "client/call_handle.py:CallHandle.run": "raised by CallHandle.result",
    "session/direct_reader.py:DirectReader.take": "raised by DirectReader.run",
    "proxy/parked_calls.py:ParkedCall.run": "raised by ParkedCall.attend",
    "proxy/sessions.py:UpstreamSessions._hold": "a target of the caller's; raised by who waits, or logged",
}


def test_broad_handlers_have_a_reason():
    """Everything is caught at the borders of the runtime, and where foreign code is called; nowhere else."""
    found = Counter(
        f"{name}:{function}"
        for layer, name, tree in modules()
        if layer != "wire"
        for function in broad_handlers(tree)
    )
    listed = dict.fromkeys(BROAD_HANDLERS, 1)
    assert dict(found) == listed


def broad_handlers(tree: ast.AST, function: str = "") -> Iterator[str]:
    """The qualified names of the functions with a handler of everything that does not raise it again."""
    for node in ast.iter_child_nodes(tree):
        inner = function
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = f"{function}.{node.name}" if function else node.name
        elif isinstance(node, ast.ExceptHandler) and (node.type is None or names_everything(node.type)):
            last = node.body[-1]
            if not (isinstance(last, ast.Raise) and last.exc is None):
                yield function
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
            yield from (function for argument in node.args if names_everything(argument))
        yield from broad_handlers(node, inner)


def names_everything(node: ast.expr) -> bool:
    members = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(m, ast.Name) and m.id in ("Exception", "BaseException") for m in members)


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n try: g()\n except Exception: h()",
        "def f():\n try: g()\n except: h()",
        "def f():\n try: g()\n except (ValueError, BaseException) as e: raise Other from e",
        "def f():\n with suppress(Exception): g()",
    ],
)
def test_what_counts_as_a_broad_handler(code):
    assert list(broad_handlers(ast.parse(code))) == ["f"]


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n try: g()\n except ValueError: h()",
        "def f():\n try: g()\n except BaseException:\n  h()\n  raise",
        "def f():\n with suppress(OSError): g()",
    ],
)
def test_what_does_not(code):
    assert list(broad_handlers(ast.parse(code))) == []


def test_wire_never_awaits():
    for layer, name, tree in modules():
        if layer == "wire":
            kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
            assert not any(isinstance(node, kinds) for node in ast.walk(tree)), name


def test_import_loads_nothing_that_only_some_need():
    heavy = OPTIONAL | {
        "coredis",
        "anyio",
        "keyring",
        "opentelemetry",
        "jsonschema",
        "hypercorn",
        "h11",
        "httpx2",
        "trio_websocket",
        "pydantic",
        "pytest",
        "trio_mcp.server.layers",
        "trio_mcp.server.middleware",
        "trio_mcp.middleware",
    }
    code = "import sys, trio_mcp; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names():
    """A new public name comes with its reason in docs/design."""
    assert sorted(trio_mcp.__all__) == trio_mcp.__all__
    assert all(hasattr(trio_mcp, name) for name in trio_mcp.__all__)
    assert all(hasattr(trio_mcp.testing, name) for name in trio_mcp.testing.__all__)
    assert set(trio_mcp.__all__) == {
        *("Server", "serve_stdio", "serve_websocket", "ServerSettings", "Context", "ProgressHelper"),
        *("open_client", "Client", "ClientSettings", "CallResult", "LogMessage"),
        *("CallHandle", "CallCancelled", "Progress", "StageState"),
        *("ProgressSink", "ProgressReceiver", "detailed", "rate_limited"),
        *("RichProgress", "LogProgress", "TqdmProgress", "JsonLinesProgress"),
        *("Conflate", "Lossless", "Heartbeat", "ProgressCall", "WorkerProgress"),
        *("ToolResult", "Image", "Audio", "Tool", "ToolAnnotations", "Implementation"),
        *(
            "TextContent",
            "ImageContent",
            "AudioContent",
            "AuthorizationError",
            "ResourceLink",
            "EmbeddedResource",
            "ResourceContents",
        ),
        *(
            "MCPError",
            "ProtocolError",
            "LocalProtocolError",
            "RemoteProtocolError",
            "ToolError",
            "ToolDefinitionError",
            "ResourceDefinitionError",
            "DefinitionError",
        ),
        *("ArgumentError", "ReturnError", "CallTimeout", "ConnectionLost", "ProgressOverflow"),
        *("NotSupportedByEra", "NotSupportedByServer", "OAuth", "RequestCancelled"),
        *("ClientCredentials", "EnterpriseManaged", "JwtBearer", "LoopbackRedirect"),
        *("FileStorage", "KeyringStorage", "TokenStorage", "TokenStorageError"),
        *("TaskConfig", "Retry", "TaskSettings", "TaskStore", "MemoryTaskStore", "TaskRecord", "TaskStatus"),
        *("SQLiteTaskStore", "TaskStoreError"),
        *("RedisTaskStore", "store_from_url"),
        *("RunningServer", "open_server", "run_worker", "TaskHandle", "TaskSnapshot"),
        *("Elicited", "Sampled", "SamplingMessage", "Root", "titles", "ModelPreferences"),
        *("ToolUseContent", "ToolResultContent", "UrlElicitation", "UrlElicitationRequiredError"),
        *("UsedStates", "MemoryUsedStates"),
        *("Resource", "ResourceTemplate", "ReadResult", "ResourceError", "ResourceNotFound"),
        *("Annotations", "Icon", "CacheHint"),
        *("Change", "ChangeChannel", "ChangeHandler", "SubscriptionRefused"),
        *("ToolsListChanged", "PromptsListChanged", "ResourcesListChanged", "ResourceUpdated"),
        *("ElicitRequest", "ElicitUrlRequest", "ElicitAnswer", "SampleRequest", "SampleAnswer"),
        *("ElicitUrlHandler", "Roots"),
        *("CursorError", "TaskCancelled", "TaskFailed", "TaskNotFound", "TaskOverload", "TaskTooLarge"),
        *("Owner", "TaskPage"),
        *("Prompt", "PromptArgument", "PromptMessage", "GetPromptResult", "Message", "Icon"),
        *("Completion", "PromptReference", "ResourceTemplateReference", "PromptDefinitionError"),
        *("RequestContext", "ToolContext", "ResourceContext", "PromptContext"),
        *("Estimator", "watch_stalls", "EraCache", "StdioServer"),
        *("ClientGroup", "open_group", "GroupServer", "ServerEntry", "ServerState", "read_mcp_servers"),
        *("ServerLookupError", "ServerUnavailable", "create_proxy"),
        *("Bearer", "Principal", "InvalidToken", "VerifierUnavailable"),
        *("AsgiApp", "HttpSettings", "asgi_app", "serve_http"),
        *("AnyOf", "Introspection", "JwtVerifier", "StaticTokens"),
        "Depends",
        *("ProgressHandler", "LogHandler", "ErrorHandler", "ElicitationHandler", "SamplingHandler"),
        "__version__",
    }


def test_a_server_does_not_import_the_client():
    code = "import sys; from trio_mcp import Server; sys.exit('trio_mcp.client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_imported_late_is_what_type_checkers_see():
    tree = ast.parse(Path(trio_mcp.__file__).read_text())
    (checking,) = [node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name)]
    seen = {
        (node.module, alias.name)
        for node in checking.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    late = {(f"trio_mcp.{module}", name) for module, names in trio_mcp._LATER.items() for name in names}
    assert late == seen


def test_public_things_are_documented():
    for name in trio_mcp.__all__:
        if name == "__version__" or name.endswith(("Handler", "Receiver")):
            continue  # these are type aliases
        thing = getattr(trio_mcp, name)
        assert thing.__doc__, name
        for attribute, value in vars(thing).items() if isinstance(thing, type) else ():
            if not attribute.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{attribute}"
