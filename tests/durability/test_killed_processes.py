"""`kill -9` in the midst of a hundred tasks, at random moments: nothing is lost, and all tasks end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.campaign import Campaign
from tests.durability.fleet import open_fleet
from tests.support.redis_server import run_redis_server

SHORT, LONG = 2, 20
TIMES = pytest.mark.parametrize("times", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)])


@TIMES
async def test_a_server_with_its_tasks_in_a_file_loses_nothing(tmp_path: Path, times: int) -> None:
    async with open_fleet(tmp_path, f"sqlite:{tmp_path / 'tasks.db'}") as fleet:
        campaign = Campaign(fleet)
        for _ in range(times):
            await fleet.start("server")
            await campaign.kill(["server"], fleet.members["server"].url)
        await fleet.start("server")
        await campaign.finish(fleet.members["server"].url)


@TIMES
async def test_replicas_lose_nothing(tmp_path: Path, times: int) -> None:
    """In turn all are killed, as a whole server is, and one of them."""
    with run_redis_server() as redis:
        async with open_fleet(tmp_path, redis.url) as fleet:
            campaign = Campaign(fleet)
            victims = ["a", "b"]
            for number in range(times):
                await fleet.start(*victims)
                victims = ["a", "b"] if number % 2 == 0 else [campaign.random.choice("ab")]
                await campaign.kill(victims, fleet.members[campaign.random.choice("ab")].url)
            await fleet.start(*victims)
            await campaign.finish(fleet.members[campaign.random.choice("ab")].url)


@TIMES
async def test_workers_lose_nothing(tmp_path: Path, times: int) -> None:
    with run_redis_server() as redis:
        async with open_fleet(tmp_path, redis.url) as fleet:
            campaign = Campaign(fleet)
            await fleet.start("front", role="front")
            missing = ["a", "b"]
            for _ in range(times):
                await fleet.start(*missing, role="worker")
                missing = [campaign.random.choice("ab")]
                await campaign.kill(missing, fleet.members["front"].url)
            # The other one takes over all that is left.
            await campaign.finish(fleet.members["front"].url)
