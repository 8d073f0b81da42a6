"""Changes reach the subscribers of every running server, from any thread, and cost nothing else."""

from threading import Thread

import trio
import trio.testing

from trio_mcp.server.changes import LIST_CHANGES, Audience, Change, ListChanges, resource_update


class Noting:
    def __init__(self) -> None:
        self.noted: list[Change] = []

    def note(self, change: Change) -> None:
        self.noted.append(change)


def test_without_a_running_server_nobody_is_told() -> None:
    changes = ListChanges()
    changes.tell("tools")
    changes.tell_updated("config://app")


async def test_a_subscriber_notes_what_it_subscribed_to_and_nothing_else() -> None:
    changes, audience, noting = ListChanges(), Audience(), Noting()
    changes.attach(audience)
    audience.subscribe(noting, LIST_CHANGES["tools"])
    audience.subscribe(noting, resource_update("config://app"))
    changes.tell("tools")
    changes.tell("prompts")
    changes.tell("resources")
    changes.tell_updated("config://app")
    changes.tell_updated("config://other")
    assert noting.noted == [
        ("notifications/tools/list_changed", None),
        ("notifications/resources/updated", "config://app"),
    ]


async def test_what_is_unsubscribed_leaves_nothing_behind() -> None:
    audience, first, second = Audience(), Noting(), Noting()
    update = resource_update("config://app")
    audience.subscribe(first, update)
    audience.subscribe(first, update)
    audience.subscribe(second, update)
    audience.unsubscribe(first, update)
    audience.unsubscribe(first, update)
    audience.tell(update)
    assert (first.noted, second.noted) == ([], [update])
    audience.unsubscribe(second, update)
    assert repr(audience) == "<Audience: subscriptions to 0 changes>"


async def test_every_running_server_is_told_until_it_ends() -> None:
    changes = ListChanges()
    audiences = [Audience(), Audience()]
    noting = [Noting(), Noting()]
    for audience, one in zip(audiences, noting, strict=True):
        changes.attach(audience)
        audience.subscribe(one, LIST_CHANGES["prompts"])
    changes.tell("prompts")
    changes.detach(audiences[0])
    changes.tell("prompts")
    assert [len(one.noted) for one in noting] == [1, 2]


async def test_a_subscriber_may_unsubscribe_while_it_is_told() -> None:
    audience, update = Audience(), resource_update("config://app")
    other = Noting()

    class Once(Noting):
        def note(self, change: Change) -> None:
            super().note(change)
            audience.unsubscribe(self, change)

    once = Once()
    audience.subscribe(once, update)
    audience.subscribe(other, update)
    audience.tell(update)
    audience.tell(update)
    assert (len(once.noted), len(other.noted)) == (1, 2)


async def test_a_thread_that_trio_does_not_know_may_tell() -> None:
    changes, audience, told = ListChanges(), Audience(), trio.Event()

    class Waking(Noting):
        def note(self, change: Change) -> None:
            super().note(change)
            trio.lowlevel.current_task()  # raises outside of Trio
            told.set()

    waking = Waking()
    changes.attach(audience)
    audience.subscribe(waking, LIST_CHANGES["resources"])
    thread = Thread(target=changes.tell, args=("resources",))
    thread.start()
    await trio.to_thread.run_sync(thread.join)
    await told.wait()
    assert waking.noted == [LIST_CHANGES["resources"]]


async def test_a_thread_that_tells_the_same_over_and_over_fills_no_queue() -> None:
    changes, audience, noting = ListChanges(), Audience(), Noting()
    changes.attach(audience)
    audience.subscribe(noting, resource_update("config://app"))
    # Trio's own loop stands still meanwhile, because this task does not wait.
    thread = Thread(target=lambda: [changes.tell_updated("config://app") for _ in range(1000)])
    thread.start()
    thread.join()
    assert noting.noted == []
    await trio.testing.wait_all_tasks_blocked()
    assert len(noting.noted) == 1


def test_a_thread_may_tell_a_run_that_has_ended() -> None:
    changes = ListChanges()

    async def run() -> None:
        audience = Audience()
        changes.attach(audience)
        audience.subscribe(Noting(), LIST_CHANGES["tools"])

    trio.run(run)
    thread = Thread(target=changes.tell, args=("tools",))
    thread.start()
    thread.join()  # what it raised would fail the test as a warning
