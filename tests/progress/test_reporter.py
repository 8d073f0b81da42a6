"""The reporter and its stages without a session: their state, and how they refer to each other."""

from __future__ import annotations

from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.progress.shares import Shares
from trio_mcp.progress.stages import open_stage, plan_stages


class Record:
    """A record of a background task that keeps the reports it is given."""

    def __init__(self) -> None:
        self.stages = None
        self.reports: list[tuple[float | None, float | None, str | None]] = []

    def report(
        self, current: float | None, total: float | None, message: str | None, *, replaces: bool = False
    ) -> None:
        self.reports.append((current, total, message))


async def test_a_reporter_shows_its_values_and_its_destination():
    reporter = ProgressReporter(None)
    assert repr(reporter) == "<ProgressReporter: None of 1, None, silent>"
    reporter.record_in(Record())
    await reporter.report(3, 9, "users")
    assert repr(reporter) == "<ProgressReporter: 3 of 9, 'users', silent, recorded in a task>"


def test_a_stage_shows_its_path_its_values_and_whether_it_has_ended():
    reporter = ProgressReporter(None)
    plan_stages(reporter, {"export": 4})
    export = open_stage(reporter, "export", None, None)
    tables = open_stage(export, "tables", None, 9)
    tables.increment(3)
    assert repr(tables) == "<Stage 'export: tables': 3 of 9, open>"
    assert repr(reporter.stages) == f"<RequestStages: <Shares: {4 * 3 / 18} of 4 done, 1 open>>"
    tables.end(complete=True)
    export.end(complete=True)
    assert repr(tables) == "<Stage 'export: tables': 3 of 9, ended>"
    assert repr(reporter.stages) == "<RequestStages: <Shares: 4 of 4 done, 0 open>>"


def test_shares_use_a_stage_only_as_a_key():
    shares: Shares[str] = Shares()
    shares.plan({"build": 3})
    shares.open["the stage"] = None
    shares.note_speaker("the stage")
    assert shares.newest_speaker == "the stage"
    shares.note_speaker(None)
    shares.forget("the stage")
    assert shares.newest_speaker is None
    assert repr(shares) == "<Shares: 0 of 3 done, 0 open>"


async def test_a_record_set_later_gets_the_current_values_and_stages():
    reporter, record = ProgressReporter(None), Record()
    await reporter.report(2, 5, None)
    stage = open_stage(reporter, "build", 1, None)
    reporter.record_in(record)
    assert record.reports == [(2, 5, "build")]
    assert record.stages is not None
    assert [state.path for state in record.stages()] == [("build",)]
    stage.end(complete=True)
    assert record.stages() == ()


async def test_a_total_alone_is_kept_for_the_first_report():
    reporter, record = ProgressReporter(None), Record()
    reporter.record_in(record)
    reporter.set_total(5)
    assert (record.reports, reporter.has_reported, reporter.total) == ([], False, 5)
    reporter.increment()
    assert record.reports == [(1, 5, None)]
