"""The paper model of one Redis: its formulas beside the simulation, and the page that shows its tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from capacity_model import (
    HEADROOM,
    MEASURED,
    MEMORY,
    Costs,
    Load,
    capacity_table,
    comparison_table,
    forecast,
    imbalance,
    main,
    most_tasks,
    puts_a_second,
    servers_for,
    shard_table,
    simulate,
)

PAGE = Path(__file__).parents[2] / "docs" / "design" / "redis-capacity.md"

ONLY_PUTS = Costs(put=100, report=0, tell=0, create=0, end=0, read=0, renew=0, task_bytes=0, report_bytes=0)
"""A server that spends 100 microseconds on a put and nothing on anything else."""


@pytest.mark.parametrize("reports", [0.1, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("write_behind", [0.1, 0.25, 1.0])
def test_the_simulation_puts_as_often_as_the_formula_says(reports: float, write_behind: float) -> None:
    load = Load(running=1000, reports=reports, write_behind=write_behind)
    played = simulate(MEASURED, load, duration=60)
    assert played.updates == pytest.approx(1000 * puts_a_second(reports, write_behind), rel=0.03)


def test_a_storm_of_reports_costs_at_most_one_put_in_an_interval() -> None:
    assert puts_a_second(1e9, 0.2) == pytest.approx(5)
    assert puts_a_second(1e-3, 0.2) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("servers", [1, 4])
@pytest.mark.parametrize("running", [500, 4000])
def test_the_simulation_is_as_busy_as_the_formula_says(running: int, servers: int) -> None:
    load = Load(running=running, seconds=math.inf)
    costs = replace(MEASURED, renew=0)
    paper, played = forecast(costs, load, servers), simulate(costs, load, servers, duration=60)
    assert played.busy == pytest.approx(paper.busy, rel=0.03)
    assert played.busy <= played.busiest <= paper.busiest * 1.05


@pytest.mark.parametrize("running", [1000, 3000, 6000, 9000])
def test_the_wait_of_the_formula_is_an_upper_end_that_is_not_far_off(running: int) -> None:
    load = Load(running=running, processes=50, seconds=math.inf)
    paper, played = forecast(ONLY_PUTS, load), simulate(ONLY_PUTS, load, duration=60)
    assert paper.busiest < 1
    assert paper.wait / 8 < played.wait <= paper.wait * 1.1


def test_a_server_that_is_asked_for_more_than_it_can_falls_behind() -> None:
    load = Load(running=12_000, seconds=math.inf)
    paper, played = forecast(ONLY_PUTS, load), simulate(ONLY_PUTS, load, duration=20)
    assert paper.busiest > 1
    assert paper.wait == math.inf
    assert played.backlog > 10_000
    assert simulate(ONLY_PUTS, replace(load, running=6000), duration=20).backlog < 2000


@pytest.mark.parametrize("servers", [2, 8, 32])
def test_a_hash_leaves_no_server_much_fuller_than_the_formula_says(servers: int) -> None:
    load = Load(running=20_000, write_behind=1.0, reports=10)
    excesses = []
    for seed in range(5):
        played = simulate(ONLY_PUTS, load, servers, duration=2, seed=seed)
        excesses.append(played.busiest / played.busy)
    mean = sum(excesses) / len(excesses)
    assert 1 < mean < imbalance(20_000, servers) * 1.05


def test_twice_the_servers_carry_nearly_twice_the_tasks() -> None:
    one, two, eight = (most_tasks(MEASURED, Load(), servers) for servers in (1, 2, 8))
    assert 1.95 < two / one <= 2
    assert 7.7 < eight / one <= 8


def test_what_one_server_carries_keeps_its_headroom() -> None:
    most = most_tasks(MEASURED, Load())
    assert forecast(MEASURED, Load(running=most)).busiest <= HEADROOM
    assert forecast(MEASURED, Load(running=most + 1)).busiest > HEADROOM


def test_there_are_servers_for_the_time_and_for_the_memory() -> None:
    load = Load(running=100_000, kept=60)
    by_time = servers_for(MEASURED, load)
    assert forecast(MEASURED, load, by_time).busiest <= HEADROOM
    assert forecast(MEASURED, load, by_time - 1).busiest > HEADROOM
    load = replace(load, kept=36_000)
    by_memory = servers_for(MEASURED, load)
    assert by_memory > by_time
    assert forecast(MEASURED, load).memory / by_memory <= MEMORY


def test_more_followers_and_more_reports_cost_more() -> None:
    base = forecast(MEASURED, Load())
    for load in (Load(followers=2), Load(reports=2), Load(reads=1), Load(running=2000), Load(seconds=30)):
        assert forecast(MEASURED, load).busy > base.busy
    assert forecast(MEASURED, Load(kept=7200)).memory > base.memory
    assert forecast(MEASURED, Load(reports=100)).memory == forecast(MEASURED, Load(reports=50)).memory


def test_a_simulation_is_the_same_each_time() -> None:
    assert simulate(MEASURED, Load(), 3, duration=3) == simulate(MEASURED, Load(), 3, duration=3)


@pytest.mark.parametrize("make", [capacity_table, shard_table, comparison_table])
def test_the_page_shows_the_tables_of_the_program(make: Callable[..., list[str]]) -> None:
    page = PAGE.read_text()
    assert "\n".join(make(MEASURED)) in page


def test_the_page_shows_the_measured_constants() -> None:
    page = PAGE.read_text()
    for name, value in vars(MEASURED).items():
        assert f"| `{name}` | {value:,g} |" in page


@pytest.mark.parametrize(("words", "head"), [([], "| each task |"), (["--simulate"], "| load |")])
def test_the_program_prints_its_tables(
    words: list[str], head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(words)
    assert capsys.readouterr().out.startswith(head)
