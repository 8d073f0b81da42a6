"""A Streamable HTTP server of both eras made with the official SDK: `python sdk_http_server.py [json|sse]`.

It prints the URL of its endpoint, and serves until its standard input ends. It has the tools of
`sdk_server.py`, one that closes its stream in the middle, so that the client has to resume it, and one
whose progress decreases.
With json it answers legacy requests with JSON instead of event streams; with sse it serves HTTP+SSE instead.
"""

import sys

import anyio
from listening import serve
from mcp.server.mcpserver import Context
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage
from sdk_server import make_server


class MemoryEvents(EventStore):
    """All events of one process; an id is a place in the list."""

    def __init__(self) -> None:
        self._events: list[tuple[StreamId, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(
        self, last_event_id: EventId, send_callback: EventCallback
    ) -> StreamId | None:
        place = int(last_event_id)
        stream_id = self._events[place - 1][0]
        for number, (owner, message) in enumerate(self._events[place:], place + 1):
            if owner == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


async def main() -> None:
    server = make_server()

    @server.tool()
    async def detached(ctx: Context) -> str:
        """Report, close the stream, report again and return."""
        await ctx.report_progress(1)
        await ctx.close_sse_stream()
        await ctx.report_progress(2)
        return "resumed"

    @server.tool()
    async def detour(ctx: Context) -> str:
        """Report a number, a smaller one, and the first again, twice."""
        for progress in (60, 10, 60, 60):
            await ctx.report_progress(progress, 100)
        return "arrived"

    if "sse" in sys.argv:
        await serve(server.sse_app(), "/sse")
        return
    app = server.streamable_http_app(
        json_response="json" in sys.argv, event_store=MemoryEvents(), retry_interval=10
    )
    await serve(app, "/mcp")


if __name__ == "__main__":
    anyio.run(main)
