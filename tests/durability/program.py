"""A process of a fleet: `python -m tests.durability.program SETTINGS`, where SETTINGS is JSON.

Serves over HTTP on a free port, or works for others. It and its tools note what they do in a named pipe, one
line of JSON each, before anything else can follow: what is noted was done.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trio_mcp import (
    Context,
    HttpSettings,
    RedisTaskStore,
    Server,
    TaskConfig,
    TaskSettings,
    open_server,
    run_worker,
    serve_http,
)
from trio_mcp.server.running import RunningServer
from trio_mcp.tasks.store import TaskStore
from trio_mcp.tasks.store_url import store_from_url

PACE: Final = 0.2
"""Seconds between two steps of a task, so that a hundred of them leave the processor to others."""

KEPT: Final = 3
"""After so many steps a task keeps a checkpoint."""

LARGE: Final = 400
"""As many digests make up a result: 25 KB."""


@attrs.frozen
class Settings:
    """What a process is to do. `role` is "serve", "front" or "worker"; `max_running` counts for a worker."""

    name: str
    role: str
    store: str
    lease: float
    notes: str
    generation: str
    max_running: int


@attrs.frozen
class Name:
    name: str


def expected_text(call: str) -> str:
    """What makes up the result of a call, besides who made it."""
    return "".join(sha256(f"{call} {number}".encode()).hexdigest() for number in range(LARGE))


def make_server(settings: Settings, note: Callable[..., None]) -> Server:
    server = Server(
        "durability",
        task_store=make_store(settings.store, settings.lease),
        task_settings=TaskSettings(
            max_running=400, max_running_per_owner=400, max_unfinished_per_owner=1400, poll_interval=0.1
        ),
    )
    generation = Path(settings.generation)

    def may_end(until: int) -> bool:
        return int(generation.read_text()) >= until

    async def work(ctx: Context, call: str, until: int) -> str:
        """Report and keep what was done, step by step, until the generation is `until`."""
        first = ctx.restored or 0
        note("begun", call, ctx.attempt, first)
        number = first
        try:
            while number < first + KEPT or not may_end(until):
                number += 1
                await ctx.report_progress(number, message=f"attempt {ctx.attempt} in {os.getpid()}")
                note("step", call, ctx.attempt, number)
                if number % KEPT == 0:
                    await ctx.checkpoint(number)
                    note("kept", call, ctx.attempt, number)
                await trio.sleep(PACE)
        except BaseException:
            note("stopped", call, ctx.attempt, number)
            raise
        note("done", call, ctx.attempt, number)
        return f"{ctx.attempt} {os.getpid()} {expected_text(call)}"

    @server.tool(task=TaskConfig(mode="required", recover="restart", attempts=100))
    async def restarting(ctx: Context, call: str, until: int) -> str:
        return await work(ctx, call, until)

    @server.tool(task=TaskConfig(mode="required", recover="restart", attempts=2))
    async def restarting_once(ctx: Context, call: str, until: int) -> str:
        return await work(ctx, call, until)

    @server.tool(task=TaskConfig(mode="required"))
    async def failing(ctx: Context, call: str, until: int) -> str:
        return await work(ctx, call, until)

    @server.tool(task=TaskConfig(mode="required", recover="restart", attempts=100))
    async def greet(ctx: Context, call: str) -> str:
        note("begun", call, ctx.attempt, 0)
        answer = await ctx.elicit("Who are you?", Name)
        return answer.action if answer.data is None else f"Hello, {answer.data.name}!"

    return server


def make_store(url: str, lease: float) -> TaskStore:
    """The store of a URL; one in Redis has this lease."""
    if url.startswith("redis:"):
        return RedisTaskStore(url, lease=lease)
    return store_from_url(url)


async def run(settings: Settings) -> None:
    pipe = os.open(settings.notes, os.O_WRONLY)

    def note(*what: Any) -> None:
        # A line shorter than PIPE_BUF is never cut nor mixed with others.
        os.write(pipe, json.dumps([settings.name, os.getpid(), *what]).encode() + b"\n")

    server = make_server(settings, note)
    async with trio.open_nursery() as nursery:
        if settings.role == "worker":
            await nursery.start(partial(run_worker, server, max_running=settings.max_running))
            note("ready", "")
        else:
            running = await nursery.start(_open, server, settings.role == "serve")
            quiet = HttpSettings(access_log=False)
            (url,) = await nursery.start(partial(serve_http, running, bind="127.0.0.1:0", settings=quiet))
            note("ready", url)


async def _open(server: Server, runs_tasks: bool, task_status: trio.TaskStatus[RunningServer]) -> None:
    async with open_server(server, runs_tasks=runs_tasks) as running:
        task_status.started(running)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(run, Settings(**json.loads(sys.argv[1])))
