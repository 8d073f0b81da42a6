"""A file with a server, which the commands under test start."""

from __future__ import annotations

from pathlib import Path

import pytest

SERVER = '''
import signal
import sys
from pathlib import Path

import attrs
import trio

from trio_mcp import Context, Image, Server, ToolError

print("printed while it is imported", flush=True)
server = Server("calculator", version="1.2.3")


@attrs.frozen
class Point:
    x: int
    y: int | None = None


@server.tool
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


@server.tool
def echo(text: str, names: list[str], point: Point | None = None, mode: int | str = 0) -> str:
    return repr((text, names, point, mode))


@server.tool
def point(x: int) -> Point:
    return Point(x)


@server.tool
def picture() -> Image:
    return Image(b"abc", "png")


@server.tool
def fail() -> None:
    raise ToolError("it went wrong\\nin two lines")


@server.tool
async def work(ctx: Context, count: int, total: bool = True) -> str:
    for number in range(1, count + 1):
        await ctx.report_progress(number, count if total else None, f"step {number} " + "long " * 100)
    return "done"


@server.tool
async def tell(ctx: Context) -> None:
    await ctx.info({"key": "value"})
    await ctx.debug("too small to see")
    await ctx.warning("look out", logger="tool")


@server.tool
async def chat(ctx: Context) -> str:
    await ctx.report_progress(1, 2, "talking")
    for number in range(3):
        print(f"word {number}", file=sys.stderr)
    await ctx.warning("a log message")
    return "done"


@server.tool
async def hang(ctx: Context, marker: str, stubborn: bool = False) -> None:
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        await ctx.report_progress(1, 10, "hanging")
        await trio.sleep_forever()
    finally:
        Path(marker).write_text("cleaned up")
        with trio.CancelScope(shield=stubborn):
            await trio.sleep(3600)


@server.tool
async def leave() -> None:
    import os
    os._exit(3)
'''


@pytest.fixture
def server_file(tmp_path: Path) -> Path:
    """The path of a file with the server above."""
    path = tmp_path / "calculator.py"
    path.write_text(SERVER)
    return path
