"""The tools of `sdk_server.py` over Streamable HTTP: `python sdk_http_server.py [json]`; prints its URL.

One more tool closes its stream in the middle, so that the client has to resume it.
"""

import sys

import uvicorn
from mcp.server.mcpserver import Context
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from sdk_server import make_server


class MemoryEvents(EventStore):
    """All events of one process; an id is a place in the list."""

    def __init__(self) -> None:
        self._events = []

    async def store_event(self, stream_id, message) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        place = int(last_event_id)
        stream_id = self._events[place - 1][0]
        for number, (owner, message) in enumerate(self._events[place:], place + 1):
            if owner == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def main() -> None:
    server = make_server()

    @server.tool()
    async def detached(ctx: Context) -> str:
        """Report, close the stream, report again and return."""
        await ctx.report_progress(1)
        await ctx.close_sse_stream()
        await ctx.report_progress(2)
        return "resumed"

    app = server.streamable_http_app(
        json_response="json" in sys.argv, event_store=MemoryEvents(), retry_interval=10
    )
    config = uvicorn.Config(app, port=0, log_level="error")
    sock = config.bind_socket()
    sock.listen()  # so that who reads the URL can connect
    print(f"http://127.0.0.1:{sock.getsockname()[1]}/mcp", flush=True)
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
