"""A Streamable HTTP server of both eras made with the official SDK, for our client to call.

It prints the URL of its endpoint, and serves until its standard input ends. It has the tools of
`sdk_server.py`.
"""

import anyio
from listening import serve
from sdk_server import make_server

if __name__ == "__main__":
    anyio.run(serve, make_server().streamable_http_app(), "/mcp")
