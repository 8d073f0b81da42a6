"""The report of `trio-mcp bench`, as text and as JSON.

Owns the verdicts, and which of them are faults. What was not observed is called unknown.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trio_mcp.cli.bench.histogram import DurationHistogram
from trio_mcp.cli.bench.load import FINISH_SECONDS, LoadRun
from trio_mcp.cli.bench.wire_count import WireCount
from trio_mcp.printable import one_line

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

BUSY: Final = 0.9
"""From this share of a processor on, the client itself may be what limits the rate."""

GOOD: Final = "green"
BAD: Final = "bold red"
OPEN: Final = "yellow"


@attrs.frozen(kw_only=True)
class Subject:
    """What was measured, in words; `sees_late` is whether late updates can be observed at all."""

    server: str
    protocol: str
    transport: str
    tool: str
    sees_late: bool


@attrs.frozen
class LoadReport:
    """All that is known at the end of a run."""

    subject: Subject
    run: LoadRun
    wire: WireCount

    @property
    def faults(self) -> list[str]:
        """The faults, each in one word; if there is any, the exit status is 1."""
        run, wire = self.run, self.wire
        found = {
            "failed": run.failed > 0,
            "unfinished": run.finished == 0,
            "order": wire.broken_calls > 0,
            "late": wire.late + wire.stray > 0,
            "losses": wire.expected is not None and wire.missing + wire.surplus > 0,
        }
        return [name for name, is_fault in found.items() if is_fault]

    def as_object(self) -> dict[str, Any]:
        """The report as JSON; times in seconds, None for values that are not known."""
        run, wire = self.run, self.wire
        return {
            **attrs.asdict(self.subject, filter=lambda field, _: field.name != "sees_late"),
            "load": attrs.asdict(run.load),
            "seconds": run.seconds,
            "stop": run.stop,
            "calls": {
                "finished": run.finished,
                "failed": run.failed,
                "cut": run.cut,
                "perSecond": _rate(run.finished, run),
                "errors": run.errors,
            },
            "notifications": {
                "received": wire.received,
                "delivered": run.delivered,
                "perSecond": _rate(run.delivered, run),
            },
            "order": {
                "kept": None if not wire.received else wire.broken_calls == 0,
                "brokenCalls": wire.broken_calls,
                "repeated": wire.repeated,
                "backwards": wire.back,
            },
            "losses": {
                "basis": None if not wire.judged_calls else "total" if wire.expected is None else "expect",
                "judgedCalls": wire.judged_calls,
                "lossyCalls": wire.lossy_calls,
                "missing": wire.missing if wire.judged_calls else None,
                "surplus": wire.surplus if wire.judged_calls and wire.expected is not None else None,
            },
            "late": {"updates": wire.late if self.subject.sees_late else None, "unknownTokens": wire.stray},
            "client": {"overflowedCalls": run.overflowed, "cpuShare": _cpu_share(run)},
            "latency": {
                "firstUpdate": _histogram_as_object(run.first_updates),
                "wholeCall": _histogram_as_object(run.durations),
                "betweenUpdates": _histogram_as_object(wire.gaps),
            },
            "faults": self.faults,
        }

    def render(self) -> list[RenderableType]:
        """The report as text for a person."""
        return [Text(), self._heading(), Text(), self._verdicts(), self._latency()]

    def _heading(self) -> Text:
        subject, run = self.subject, self.run
        text = Text.assemble(
            (one_line(subject.tool), "bold"),
            f" on {one_line(subject.server)}, {subject.transport}, protocol {subject.protocol}\n",
            f"{run.load.calls:,} at once, ",
        )
        seconds = f"{run.seconds:.2f} s" if run.seconds >= 0.1 else f"{run.seconds * 1000:.1f} ms"
        if run.stop == "interrupted":
            return text.append(f"interrupted after {seconds}", OPEN)
        if run.stop == "connection lost":
            return text.append(f"connection lost after {seconds}", BAD)
        if run.stop == "rounds":
            return text.append(f"{run.load.rounds:,} round{'s' * (run.load.rounds != 1)} in {seconds}")
        return text.append(f"for {seconds}")

    def _verdicts(self) -> Table:
        run, wire = self.run, self.wire
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        calls = Text(f"{run.finished:,} finished, {_rate(run.finished, run):,.1f}/s")
        if run.failed:
            calls.append(f", {run.failed:,} failed", BAD)
        if run.cut:
            why = "by Ctrl-C" if run.stop == "interrupted" else f"{FINISH_SECONDS:g} s after the end"
            calls.append(f", {run.cut:,} cancelled {why}" if run.stop != "connection lost" else "", OPEN)
        table.add_row("calls", calls)
        for reason, count in run.errors.items():
            table.add_row("", Text(f"{count:,} x {one_line(reason)}", style="red"))
        table.add_row("updates", f"{run.delivered:,} received, {_rate(run.delivered, run):,.0f}/s")
        table.add_row("order", self._order())
        table.add_row("losses", self._losses())
        table.add_row("late", self._late())
        if wire.tasks:
            table.add_row("tasks", Text(f"{wire.tasks:,} calls became tasks, and are not judged", style=OPEN))
        table.add_row("client", self._client())
        return table

    def _order(self) -> Text:
        wire = self.wire
        if not wire.received:
            return Text("unknown: no progress came", style=OPEN)
        if not wire.broken_calls:
            return Text(f"kept in {_calls(wire.calls_with_progress)}", style=GOOD)
        counts = {"repeated": wire.repeated, "backwards": wire.back}
        words = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        return Text(f"broken in {_of(wire.broken_calls, wire.calls_with_progress)}: {words}", style=BAD)

    def _losses(self) -> Text:
        wire = self.wire
        if not wire.judged_calls:
            why = "progress does not count up to a total; say --expect N"
            if not self.run.finished:
                why = "no call finished"
            elif not wire.received:
                why = "no progress came; say --expect N if some should"
            return Text(f"unknown: {why}", style=OPEN)
        what = "numbers up to the total" if wire.expected is None else "updates expected"
        if not wire.missing + wire.surplus:
            return Text(f"none: all {what} came in {_calls(wire.judged_calls)}", style=GOOD)
        parts = []
        if wire.missing:
            calls = _of(wire.lossy_calls, wire.judged_calls)
            parts.append(f"{wire.missing:,} of {wire.awaited:,} {what} did not come, in {calls}")
        if wire.surplus:
            parts.append(f"{wire.surplus:,} more than expected")
        return Text("; ".join(parts), style=BAD if wire.expected is not None else OPEN)

    def _late(self) -> Text:
        wire = self.wire
        stray = f"{wire.stray:,} with a token that no call has" if wire.stray else ""
        if not self.subject.sees_late:
            text = Text("unknown: over HTTP nothing is read behind a result", style=OPEN)
            return text.append(f"; {stray}" if stray else "", BAD)
        late = f"{wire.late:,} after the result" if wire.late else ""
        if late or stray:
            return Text("; ".join(part for part in (late, stray) if part), style=BAD)
        return Text("none after a result", style=GOOD)

    def _client(self) -> Text:
        run = self.run
        share = _cpu_share(run)
        text = Text(f"{share:.0%} of a processor")
        if share >= BUSY:
            text.append(", which may be the limit", OPEN)
        if run.overflowed:
            text.append(f"; too slow for {_calls(run.overflowed)}, which failed", BAD)
        return text

    def _latency(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("milliseconds", style="dim", no_wrap=True)
        for name in (*PERCENTILES, "max"):
            table.add_column(name, justify="right", no_wrap=True, min_width=7)
        rows = {
            "first update": self.run.first_updates,
            "whole call": self.run.durations,
            "between updates": self.wire.gaps,
        }
        for name, histogram in rows.items():
            if histogram.count:
                times = [histogram.percentile(share) for share in PERCENTILES.values()]
                table.add_row(name, *map(show_milliseconds, [*times, histogram.longest]))
        return table


def show_milliseconds(seconds: float) -> str:
    """A time in milliseconds with about three digits: 0, 0.012, 1.23, 45.6 or 7,890."""
    value = seconds * 1000
    if 0 < value < 0.001:
        return "<0.001"
    digits = next((digits for least, digits in ((100, 0), (10, 1), (1, 2)) if value >= least), 3)
    return f"{value:,.{digits}f}" if value else "0"


def _histogram_as_object(histogram: DurationHistogram) -> dict[str, float] | None:
    if not histogram.count:
        return None
    times = {name: histogram.percentile(share) for name, share in PERCENTILES.items()}
    return {"count": histogram.count, **times, "max": histogram.longest}


def _rate(count: int, run: LoadRun) -> float:
    return count / run.seconds if run.seconds > 0 else 0.0


def _cpu_share(run: LoadRun) -> float:
    return run.cpu_seconds / run.seconds if run.seconds > 0 else 0.0


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count:,} calls"


def _of(count: int, all_: int) -> str:
    return f"{count:,} of {_calls(all_)}"
