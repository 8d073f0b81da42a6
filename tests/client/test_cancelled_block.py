"""Cancellation around the block of `open_client`: it comes out as itself, wherever it strikes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import attrs
import pytest
import trio
import trio.testing

from tests.conftest import LEGACY, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    CallCancelled,
    Client,
    ConnectionLost,
    Context,
    ElicitAnswer,
    ElicitRequest,
    LogMessage,
    Server,
    TaskConfig,
    open_client,
)
from trio_mcp.outgoing.transport import FrameTransport


@dataclass
class Name:
    name: str


@attrs.define(eq=False)
class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` at the moment with the number `step`: in front of a step of a task, or of a round."""

    scope: trio.CancelScope
    step: int

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._count()

    def after_io_wait(self, timeout: float) -> None:
        self._count()  # what a deadline does: tasks are ready to run that have not run yet

    def _count(self) -> None:
        self.step -= 1
        if self.step == 0:
            self.scope.cancel()


def make_server() -> Server:
    server = Server("steps", version="1")

    @server.tool
    async def count(ctx: Context, to: int) -> int:
        for number in range(to):
            await ctx.report_progress(number, to)
            await ctx.log("info", str(number))
        return to

    @server.tool(task=TaskConfig())
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1)
        return "done"

    @server.tool
    async def hang() -> None:
        await trio.sleep_forever()

    return server


async def call_with_handlers(client: Client) -> None:
    async def handle(progress: float, total: float | None, message: str | None) -> None:
        await trio.lowlevel.checkpoint()

    await client.call_tool("count", {"to": 3}, progress_handler=handle)


async def run_task(client: Client) -> None:
    await (await client.call_tool("work", task=True)).result()


async def read_updates(client: Client) -> None:
    async with client.start_call("count", {"to": 3}) as call:
        async for _ in call.updates:
            pass
        await call.result()


async def call_from_tasks(client: Client) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(client.call_tool, "count", {"to": 1})


async def cancel_at(wire: Wire, step: int, use: Callable[[Client], Awaitable[None]]) -> bool:
    """Use a client for ever, and cancel it at `step` of the scheduler; whether the scope caught that."""

    async def log(message: LogMessage) -> None:
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step)
        trio.lowlevel.add_instrument(instrument)
        try:
            async with wire.open(make_server(), log_handler=log) as client:
                while True:
                    await use(client)
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught


@pytest.mark.parametrize("use", [call_with_handlers, run_task, read_updates, call_from_tasks])
async def test_a_cancellation_around_a_client_comes_out_as_itself_at_every_step(
    wire: Wire, use: Callable[[Client], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("trio._core._run._r", random.Random(7))  # the order within a round
    steps = range(1, 400, 2) if wire.transport == "memory" else range(40, 340, 12)
    for step in steps:
        with trio.fail_after(HANG_SECONDS):
            assert await cancel_at(wire, step, use), f"step {step}"


async def test_a_cancellation_reaches_a_caller_outside_the_block_before_the_loss_of_its_connection():
    """A task that outlives the client: both are cancelled at once, and the client ends first."""
    opened, kept = trio.Event(), []

    async def use() -> None:
        await opened.wait()
        with trio.CancelScope(shield=True), pytest.raises(ConnectionLost):
            await kept[0].call_tool("hang")
        await kept[0].call_tool("hang")

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            async with open_client(make_server()) as client:
                kept.append(client)
                opened.set()
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
    assert scope.cancelled_caught


async def test_a_cancelled_call_of_a_block_says_so_to_whoever_shields_its_result():
    async with open_client(make_server()) as client:
        with trio.CancelScope() as scope:
            async with client.start_call("hang") as call:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                with trio.CancelScope(shield=True), pytest.raises(CallCancelled):
                    await call.result()


async def test_the_server_is_answered_until_a_cancelled_block_has_ended():
    """The tasks that serve a client's calls go on while its block cleans up."""
    server = make_server()
    asked = trio.Event()

    @server.tool
    async def ask(ctx: Context) -> str:
        return (await ctx.elicit("Who?", Name)).action

    async def answer(request: ElicitRequest) -> ElicitAnswer:
        asked.set()
        await trio.lowlevel.checkpoint()
        return ElicitAnswer("accept", {"name": "Ada"})

    with trio.CancelScope() as scope:
        async with open_client(server, protocol=LEGACY, elicitation_handler=answer) as client:
            scope.cancel()
            with trio.CancelScope(shield=True), trio.fail_after(HANG_SECONDS):
                assert (await client.call_tool("ask")).data == "accept"
    assert asked.is_set()


async def test_a_stuck_server_in_memory_does_not_hold_up_a_cancelled_client():
    class Stuck:
        async def serve(self, transport: FrameTransport) -> None:
            await trio.sleep_forever()

    with trio.fail_after(HANG_SECONDS), trio.move_on_after(0) as scope:
        async with open_client(Stuck()):
            raise AssertionError("never reached")
    assert scope.cancelled_caught
