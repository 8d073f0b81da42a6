"""The run that the pictures show: a tool with four stages at once, and what its client saw of it.

A real client calls a real server in memory, on a clock that skips every sleep. So the run takes no time,
and each run is the same.
"""

import attrs
import trio
import trio.testing

from trio_mcp import Context, Progress, ProgressHelper, Server, detailed, open_client

PLAN = {"scan": 10, "resize": 40, "upload": 30, "index": 20}

server = Server("photos")


@attrs.frozen
class Moment:
    """The newest update of the client at a time, in seconds from the start of the call."""

    time: float
    update: Progress


async def count(stage: ProgressHelper, what: str, steps: int, seconds: float) -> None:
    for step in range(1, steps + 1):
        stage.set_message(f"{what} {step}")
        await trio.sleep(seconds)
        stage.increment()


async def scan(progress: ProgressHelper) -> None:
    async with progress.stage("scan", total=8) as stage:
        await count(stage, "folder", 8, 0.41)


async def resize(progress: ProgressHelper) -> None:
    await trio.sleep(0.6)
    async with progress.stage("resize") as stage:
        stage.plan({"photos": 3, "films": 1})
        async with stage.stage("photos", total=15) as photos:
            await count(photos, "photo", 15, 0.43)
        async with stage.stage("films", total=3) as films:
            await count(films, "film", 3, 1.27)


async def upload(progress: ProgressHelper) -> None:
    """Upload. The first attempt fails, and the upload starts over."""
    await trio.sleep(1.3)
    try:
        async with progress.stage("upload", total=10) as stage:
            await count(stage, "part", 6, 0.47)
            await trio.sleep(0.36)
            raise ConnectionError
    except ConnectionError:
        await trio.sleep(0.9)
    async with progress.stage("upload", total=10) as stage:
        await count(stage, "part", 10, 0.59)


async def index(progress: ProgressHelper) -> None:
    await trio.sleep(2.1)
    async with progress.stage("index", total=40) as stage:
        await count(stage, "page", 40, 0.19)


@server.tool
async def back_up(ctx: Context) -> str:
    progress = ctx.progress()
    progress.plan(PLAN)
    async with trio.open_nursery() as nursery:
        for work in (scan, resize, upload, index):
            nursery.start_soon(work, progress)
    return "backed up"


async def record_moments() -> list[Moment]:
    newest: dict[float, Progress] = {}
    async with open_client(server) as client:
        start = trio.current_time()

        def keep(update: Progress) -> None:
            newest[round(trio.current_time() - start, 6)] = update

        await client.call_tool("back_up", progress_handler=detailed(keep))
    return [Moment(time, update) for time, update in newest.items()]


def run() -> list[Moment]:
    """Return the updates of the client, in order: one for each time at which something changed."""
    return trio.run(record_moments, clock=trio.testing.MockClock(autojump_threshold=0))
