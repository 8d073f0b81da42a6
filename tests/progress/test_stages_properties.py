"""Random trees of stages: their sums, and the laws that their updates obey."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.conftest import LEGACY, MODERN, Wire
from trio_mcp import ClientSettings, Conflate, Context, Lossless, ProgressHelper, Server, ServerSettings
from trio_mcp.progress.reporter import ProgressReporter
from trio_mcp.progress.stages import Stage, open_stage, plan_stages

PROGRESS = "notifications/progress"
NAMES = st.sampled_from("abc")
AMOUNTS = st.one_of(st.integers(1, 20), st.floats(0.001, 20))


# The sums of stages, beside a model that computes them anew each time, and exactly.


@attrs.define(eq=False)
class Part:
    """A share in the model."""

    name: str
    weight: Fraction
    planned: bool = False
    taken: bool = False
    done: Fraction = Fraction()
    node: Node | None = None


@attrs.define(eq=False)
class Node:
    """A reporter in the model; `real` is the reporter that it models."""

    real: ProgressReporter | Stage
    parent: Node | None = None
    part: Part | None = None
    parts: list[Part] = attrs.field(factory=list)
    own: Fraction = Fraction()
    total: Fraction | None = None
    ended: bool = False

    @property
    def position(self) -> Fraction:
        return self.own + self.shared

    @property
    def shared(self) -> Fraction:
        return sum((part.done for part in self.parts), Fraction())

    @property
    def weights(self) -> Fraction:
        return sum((part.weight for part in self.parts), Fraction())

    @property
    def fraction(self) -> Fraction:
        if self.total is not None:
            return min(Fraction(1), self.position / self.total)
        planned = any(part.planned for part in self.parts)
        room = 0 if planned else max((part.weight for part in self.parts), default=0)
        return self.shared / (self.weights + room) if self.parts else Fraction()

    @property
    def is_live(self) -> bool:
        return not self.ended and (self.parent is None or self.parent.is_live)

    def refresh(self) -> None:
        """Move every part below to the position of its stage; no part goes back."""
        for part in self.parts:
            if part.node is not None and not part.node.ended:
                part.node.refresh()
                part.done = max(part.done, part.weight * part.node.fraction)


class StagesMachine(RuleBasedStateMachine):
    """A state machine that opens, moves and ends stages in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.request = ProgressReporter(None)
        self.root = Node(self.request)
        self.nodes = [self.root]
        self.before = 0.0

    @property
    def open_nodes(self) -> list[Node]:
        return [node for node in self.nodes if not node.ended]

    @rule(data=st.data(), name=NAMES, weight=st.none() | AMOUNTS, total=st.none() | AMOUNTS)
    def open(self, data: st.DataObject, name: str, weight: float | None, total: float | None) -> None:
        parent = data.draw(st.sampled_from(self.open_nodes))
        part = self.claim(parent, name, weight)
        if part is None:
            with pytest.raises(ValueError, match="stage"):
                open_stage(parent.real, name, weight, total)
            return
        node = Node(open_stage(parent.real, name, weight, total), parent, part)
        node.total = None if total is None else Fraction(total)
        part.taken, part.node = True, node
        self.nodes.append(node)

    @staticmethod
    def claim(parent: Node, name: str, weight: float | None) -> Part | None:
        for part in parent.parts:
            if part.planned and part.name == name:
                return None if part.taken or weight not in (None, part.weight) else part
        for part in reversed(parent.parts):
            if part.name == name and not part.planned and not part.taken:
                if weight in (None, part.weight):
                    return part
                break
        if weight is None and any(part.planned for part in parent.parts):
            return None
        part = Part(name, Fraction(1 if weight is None else weight))
        parent.parts.append(part)
        return part

    @rule(data=st.data(), weights=st.dictionaries(NAMES, AMOUNTS, min_size=1))
    def plan(self, data: st.DataObject, weights: dict[str, float]) -> None:
        node = data.draw(st.sampled_from(self.open_nodes))
        if any(part.planned and part.name in weights for part in node.parts):
            with pytest.raises(ValueError, match="planned already"):
                plan_stages(node.real, weights)
            return
        plan_stages(node.real, weights)
        node.parts += [Part(name, Fraction(weight), planned=True) for name, weight in weights.items()]

    @rule(data=st.data(), by=AMOUNTS)
    def increment(self, data: st.DataObject, by: float) -> None:
        node = data.draw(st.sampled_from(self.nodes))
        node.real.increment(by)
        if not node.ended:
            node.own += Fraction(by)

    @rule(data=st.data(), total=AMOUNTS)
    def set_total(self, data: st.DataObject, total: float) -> None:
        node = data.draw(st.sampled_from(self.open_nodes))
        node.real.set_total(total)
        node.total = Fraction(total)

    @precondition(lambda self: len(self.open_nodes) > 1)
    @rule(data=st.data(), complete=st.booleans())
    def end(self, data: st.DataObject, complete: bool) -> None:
        node = data.draw(st.sampled_from(self.open_nodes[1:]))
        assert node.part is not None
        assert isinstance(node.real, Stage)
        node.real.end(complete=complete)
        node.ended = True
        if complete:
            node.part.done = node.part.weight
        else:
            self.give_back(node)

    @staticmethod
    def give_back(node: Node) -> None:
        part, parent = node.part, node.parent
        assert part is not None
        assert parent is not None
        part.taken = False
        if part.planned:
            return
        for other in parent.parts:  # only the last share of a name is kept for a retry
            if other is not part and other.name == part.name and not other.planned and not other.taken:
                other.taken = True

    @invariant()
    def they_add_up(self) -> None:
        self.root.refresh()
        for node in self.nodes:
            if node.is_live:
                assert (node.real.current or 0) == pytest.approx(float(node.position), rel=1e-12, abs=1e-12)
        current = self.request.current or 0
        assert current >= self.before
        self.before = current
        if self.root.total is None and self.root.parts:
            assert self.request.total == pytest.approx(float(self.root.weights), rel=1e-15)
            if all(part.done == part.weight for part in self.root.parts) and not self.root.own:
                assert current == self.request.total, "what is complete is exactly the total"


StagesMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_stages_add_up = StagesMachine.TestCase


# The updates over a transport, with a reader that may be slow.


@attrs.frozen
class Branch:
    """A stage to be run, with its steps in order."""

    name: str
    weight: float | None
    total: float | None
    steps: tuple[Any, ...]
    ending: str


STEPS = st.one_of(
    st.tuples(st.just("increment"), AMOUNTS),
    st.tuples(st.just("report"), AMOUNTS),
    st.tuples(st.just("message"), st.sampled_from([None, "one", "two"])),
    st.tuples(st.just("sleep"), st.sampled_from([0, 0.01, 1])),
    st.tuples(st.just("track"), st.integers(0, 30)),
    st.tuples(st.just("spin"), st.just("spinning")),
    st.tuples(st.just("request"), AMOUNTS),
)
ENDINGS = st.sampled_from(["normal", "normal", "normal", "fail", "cancel"])


def branches(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Branch]:
    return st.builds(
        Branch,
        name=st.sampled_from(["a", "b", "c", "d"]),
        weight=AMOUNTS,
        total=st.none() | AMOUNTS,
        steps=st.lists(steps, max_size=6).map(tuple),
        ending=ENDINGS,
    )


TREES = st.recursive(
    branches(STEPS),
    lambda inner: branches(
        st.one_of(
            STEPS,
            st.tuples(st.just("stage"), inner),
            st.tuples(st.just("parallel"), st.lists(inner, min_size=2, max_size=4)),
        )
    ),
    max_leaves=8,
)


class StageError(Exception):
    """The exception with which a stage of these tests fails."""


@attrs.define
class Run:
    """One handler that runs a tree; `most_pending` is the most updates that waited in its call."""

    tree: Branch
    ctx: Context
    most_pending: int = 0

    async def run(self, reporter: ProgressHelper, branch: Branch) -> None:
        with trio.CancelScope() as scope:
            try:
                async with reporter.stage(branch.name, branch.weight, branch.total) as stage:
                    for kind, value in branch.steps:
                        await self.do(stage, kind, value)
                        pending = self.ctx._request.call_queue.pending
                        self.most_pending = max(self.most_pending, pending)
                    if branch.ending == "fail":
                        raise StageError
                    if branch.ending == "cancel":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
            except StageError:
                pass

    async def do(self, stage: ProgressHelper, kind: str, value: Any) -> None:
        match kind:
            case "increment":
                stage.increment(value)
            case "report":
                await stage.report_progress(value, None, "reported")
            case "message":
                stage.set_message(value)
            case "sleep":
                await trio.sleep(value)
            case "track":
                async for _ in stage.track(range(value)):
                    pass
            case "spin":
                with stage.spinner(value):
                    await trio.lowlevel.checkpoint()
            case "request":
                self.ctx.progress().increment(value)
            case "stage":
                await self.run(stage, value)
            case "parallel":
                async with trio.open_nursery() as nursery:
                    for branch in value:
                        nursery.start_soon(self.run, stage, branch)


@attrs.frozen
class Reading:
    """The updates and the state of one call; `state` is None if it was cancelled."""

    updates: list[Any]
    params: list[Any]
    state: list[Any] | None
    run: Run


POLICIES = st.builds(
    lambda kind, buffer, message: kind(buffer=buffer, message=message),
    st.sampled_from([Conflate, Lossless]),
    st.integers(2, 20),
    st.sampled_from(["nudge", "merge"]),
)
DELAYS = st.lists(st.sampled_from([0, 0, 0.001, 5]), min_size=1, max_size=5)


async def read_tree(
    wire: Wire, tree: Branch, policy: Any, delays: list[float], patience: int | None
) -> Reading:
    """Call a tool that runs `tree` twice; the caller cancels the call after `patience` updates."""
    server = Server("trees", settings=ServerSettings(progress=policy))
    runs: list[Run] = []

    @server.tool
    async def grow(ctx: Context) -> list[Any]:
        progress = ctx.progress()
        runs.append(Run(tree, ctx))
        await runs[0].run(progress, tree)
        await runs[0].run(progress, tree)
        return [progress.current, progress.total, progress.message]

    updates: list[Any] = []
    waits = itertools.cycle(delays)

    async def slow(*update: Any) -> None:
        await trio.sleep(next(waits))
        updates.append(update)
        if len(updates) == patience:
            scope.cancel()

    recorder = wire.recorder(server)
    async with wire.open(recorder, settings=ClientSettings(progress=Lossless())) as client:
        state = None
        with trio.CancelScope() as scope:
            state = (await client.call_tool("grow", progress_handler=slow)).data
        seen = len(updates)
        await client.ping()
        await trio.sleep(60)
        assert len(updates) == seen, "nothing comes after the result"
    messages = recorder.received_messages()
    answers = [i for i, message in enumerate(messages) if "structuredContent" in message.get("result", {})]
    assert bool(answers) == (state is not None) or scope.cancelled_caught
    for answer in answers:
        assert all(message.get("method") != PROGRESS for message in messages[answer:])
    params = [message["params"] for message in messages if message.get("method") == PROGRESS]
    assert len({param["progressToken"] for param in params}) == 1
    return Reading(updates, params, state, runs[0])


def check_laws(reading: Reading, policy: Any) -> None:
    sent = [param["progress"] for param in reading.params]
    assert all(a < b for a, b in itertools.pairwise(sent)), "MCP progress, MUST increase"
    exact = [
        (
            param.get("_meta", {}).get("io.github.trio-mcp/progress", param["progress"]),
            param.get("total"),
            param.get("message"),
        )
        for param in reading.params
    ]
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(exact))
    stages = reading.run.ctx._request.progress.stages
    assert stages is not None
    assert not stages.shares.open, "every stage has ended with its block"
    if reading.state is None:
        assert reading.updates == exact[: len(reading.updates)]
    else:
        assert reading.updates == exact, "this client loses nothing"
        current, total, message = reading.state
        assert reading.updates[-1] == (current or 0, total, message), "it ends at the last value"
        assert message is None, "no stage is open any more"
    assert reading.run.most_pending <= policy.buffer, "memory stays under the cap"
    totals = [total for _, total, _ in exact if total is not None]
    assert all(a <= b for a, b in itertools.pairwise(totals)), "what the stages add up to only grows"


@pytest.mark.parametrize(
    ("transport", "examples"), [("memory", 200), ("stdio", 40), ("websocket", 20), ("http", 20)]
)
def test_random_trees_obey_the_laws(transport: str, examples: int) -> None:
    """Progress strictly increases, stays bounded, arrives to its end, and stops with the result."""

    @settings(max_examples=examples)
    @given(TREES, POLICIES, DELAYS, st.sampled_from([MODERN, LEGACY]), st.none() | st.integers(1, 10))
    def check(tree: Branch, policy: Any, delays: list[float], protocol: str, patience: int | None) -> None:
        wire = Wire(transport, protocol)
        clock = trio.testing.MockClock(autojump_threshold=0 if transport == "memory" else 0.01)
        reading = trio.run(read_tree, wire, tree, policy, delays, patience, clock=clock)
        check_laws(reading, policy)

    check()
