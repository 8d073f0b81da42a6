"""Whether a call is answered, becomes a task, or may become one; and the states of one run."""

from __future__ import annotations

import itertools

import pytest

from trio_mcp import Context, LocalProtocolError, Server, TaskConfig, open_client
from trio_mcp.server.task_run import RunState, moved

LEGAL = {
    (RunState.GATHERING, RunState.DIRECT),
    (RunState.GATHERING, RunState.PROMOTABLE),
    (RunState.GATHERING, RunState.TASK),
    (RunState.PROMOTABLE, RunState.DIRECT),
    (RunState.PROMOTABLE, RunState.TASK),
}


@pytest.mark.parametrize(("state", "to"), list(itertools.product(RunState, RunState)))
def test_a_run_moves_as_the_table_says(state, to):
    if (state, to) in LEGAL:
        assert moved(state, to) is to
    else:
        with pytest.raises(LocalProtocolError, match=f"a run that {state.value} cannot become one that"):
            moved(state, to)


def make_server(seen: list[str], **options) -> Server:
    server = Server("states")

    @server.tool(task=TaskConfig(**options))
    async def look(ctx: Context) -> str:
        seen.append(repr(ctx))
        return "looked"

    return server


async def test_a_context_shows_the_state_of_its_run(autojump_clock):
    seen: list[str] = []
    async with open_client(make_server(seen)) as client:
        await client.call_tool("look")
        task = await client.call_tool("look", task=True)
        await task.result()
    direct, as_task = seen
    assert direct.startswith("<Context of tools/call ")
    assert "TaskRun 'look'" in direct
    assert direct.endswith(" may become a task>>")
    assert as_task.endswith(" is a task>>")


async def test_a_call_that_is_never_a_task_has_no_run():
    seen: list[str] = []
    server = Server("states")

    @server.tool
    async def look(ctx: Context) -> str:
        seen.append(repr(ctx))
        return "looked"

    async with open_client(server) as client:
        await client.call_tool("look")
    (direct,) = seen
    assert direct.startswith("<Context of tools/call ")
    assert "TaskRun" not in direct


async def test_an_input_is_gathered_before_the_run_has_chosen():
    seen: list[str] = []

    async def gather(ctx: Context, arguments: dict) -> None:
        seen.append(repr(ctx))

    async with open_client(make_server(seen, mode="required", gather=gather)) as client:
        task = await client.call_tool("look", task=True)
        await task.result()
    gathering, as_task = seen
    assert gathering.endswith(" gathers its input>>")
    assert as_task.endswith(" is a task>>")
