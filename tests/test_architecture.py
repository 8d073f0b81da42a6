"""The shape of the package: layers, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
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
        "concurrency",
        "schema",
        "call_result",
        "outgoing",
        "progress",
        "session",
        "transports",
    ),
    *("tasks", "handlers", "server", "client", "cli", "testing"),
]
# These never import each other, whatever their order.
STRANGERS = {
    ("server", "client"),
    ("client", "server"),
    ("server", "handlers"),
    ("server", "cli"),
    ("cli", "testing"),
    ("testing", "cli"),
}
# Import what only some users need where it is used, and only there.
OPTIONAL = {"rich", "cyclopts", "cattrs", "docstring_parser"}


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
            assert name == "transports/hypercorn/connection.py", f"{name} imports {module}"
        if package in {"trio_websocket", "wsproto"}:
            assert layer == "transports", f"{name} imports {module}"
        if package in {"cattrs", "docstring_parser"}:
            assert not top or layer == "cli", f"{name} imports {module} for everybody"


def test_wire_never_awaits():
    for layer, name, tree in modules():
        if layer == "wire":
            kinds = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
            assert not any(isinstance(node, kinds) for node in ast.walk(tree)), name


def test_import_loads_nothing_that_only_some_need():
    heavy = OPTIONAL | {"jsonschema", "hypercorn", "h11", "httpx2", "trio_websocket", "pydantic", "pytest"}
    code = "import sys, trio_mcp; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names():
    """A new public name comes with its reason in docs/design.md."""
    assert sorted(trio_mcp.__all__) == trio_mcp.__all__
    assert all(hasattr(trio_mcp, name) for name in trio_mcp.__all__)
    assert all(hasattr(trio_mcp.testing, name) for name in trio_mcp.testing.__all__)
    assert set(trio_mcp.__all__) == {
        *("Server", "serve_stdio", "serve_websocket", "ServerSettings", "Context", "ProgressHelper"),
        *("open_client", "Client", "ClientSettings", "CallResult", "LogMessage"),
        *("CallHandle", "CallCancelled", "Progress", "StageState"),
        *("ProgressSink", "ProgressReceiver", "detailed", "rate_limited"),
        *("RichProgress", "LogProgress", "TqdmProgress", "JsonLinesProgress"),
        *("Conflate", "Lossless", "ProgressCall", "WorkerProgress"),
        *("ToolResult", "Image", "Audio", "Tool", "ToolAnnotations", "Implementation"),
        *(
            "TextContent",
            "ImageContent",
            "AudioContent",
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
        ),
        *("ArgumentError", "ReturnError", "CallTimeout", "ConnectionLost", "ProgressOverflow"),
        *("NotSupportedByEra", "RequestCancelled"),
        *("TaskConfig", "TaskSettings", "TaskStore", "MemoryTaskStore", "TaskRecord", "TaskStatus"),
        *("RunningServer", "open_server", "TaskHandle", "TaskSnapshot"),
        *("Elicited", "Sampled", "SamplingMessage"),
        *("ElicitRequest", "ElicitAnswer", "SampleRequest", "SampleAnswer"),
        *("CursorError", "TaskCancelled", "TaskFailed", "TaskNotFound", "TaskOverload"),
        *("Owner", "TaskPage"),
        *("Estimator", "watch_stalls"),
        *("AsgiApp", "HttpSettings", "asgi_app", "serve_http"),
        *("ProgressHandler", "LogHandler", "ElicitationHandler", "SamplingHandler"),
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
    late = {(f"trio_mcp.{module}", name) for module, names in trio_mcp._CLIENT.items() for name in names}
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
