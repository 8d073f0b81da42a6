"""The names that the package exports, and that importing it alone does not import hypercorn."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trio_mcp.transports import hypercorn
from trio_mcp.transports.hypercorn import TLS, serve, serve_asgi


def test_the_package_exports_serve_asgi_and_tls():
    assert (TLS, serve_asgi) == (serve.TLS, serve.serve_asgi)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hypercorn.nothing


def test_the_package_alone_does_not_import_hypercorn():
    code = """if True:
        import sys
        import trio_mcp.transports.hypercorn
        print([name for name in sys.modules if name.split(".")[0] == "hypercorn"])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
