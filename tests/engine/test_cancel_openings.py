"""A branch opens a group of its own while it is cancelled: what it opened is cancelled with it, and holds no slot."""

from functools import partial
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest

from celeryflows import Concurrency, Status
from celeryflows.engine.finish import cancel
from celeryflows.engine.turn import take_turn
from celeryflows.store.branches import Branches
from celeryflows.store.groups import Groups
from tests.engine.world import World


@pytest.fixture
def opening(shared: World) -> World:
    """A run whose branches are queued: the first opens a race, the second is over at once."""
    if shared.store.dialect.has_one_writer:
        pytest.skip("one writer: nobody waits for the row of a branch that opens a group")

    @shared.flow(name="nests", trigger="nest/begun", concurrency=Concurrency(3))
    def nests(ctx: Any) -> Any:
        inner = partial(ctx.group.race, [lambda: ctx.step.run("quick", lambda: 1) for _ in range(2)])
        return ctx.group.race([inner, lambda: ctx.step.run("done", lambda: 2)])

    shared.start_worker()
    shared.flows.send("nest/begun")
    take_turn(shared.runtime, shared.only_run().id)
    return shared


def while_it_opens(world: World, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    """Do it while the first branch has written its group, and not committed yet."""
    opened, go_on = Flag(), Flag()
    write = Groups.open

    def dawdle(self: Groups, *args: Any, **words: Any) -> Any:
        found = write(self, *args, **words)
        if not opened.is_set():
            opened.set()
            assert go_on.wait(10)
        return found

    monkeypatch.setattr(Groups, "open", dawdle)
    slow = Thread(target=take_turn, args=(world.runtime, world.only_run().id), kwargs={"branch": "group[0]"})
    quick = Thread(target=call)
    slow.start()
    assert opened.wait(10)
    quick.start()
    quick.join(0.3)
    assert quick.is_alive(), "it has to wait for the branch"
    go_on.set()
    slow.join(10)
    quick.join(10)


def standing(world: World) -> tuple[set[tuple[str, str]], list[Any]]:
    """How the branches stand, and the slots that they hold."""
    with world.store.connection() as connection:
        branches = connection.execute("SELECT path, status FROM flows_branches")
        slots = connection.execute("SELECT run_id, branch FROM flows_slots WHERE branch <> ''")
    return {(row[0], row[1]) for row in branches}, list(slots)


INNER = {("group[0]", "cancelled"), ("group[0]/group[0]", "cancelled"), ("group[0]/group[1]", "cancelled")}


def test_a_cancelled_run_leaves_no_branch_that_was_being_opened(
    opening: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opening.only_run()
    while_it_opens(opening, monkeypatch, lambda: cancel(opening.runtime, run.id, "enough"))
    assert run.status == Status.CANCELLED
    assert standing(opening) == ({*INNER, ("group[1]", "cancelled")}, [])


def test_the_losers_of_a_race_leave_no_branch_that_was_being_opened(
    opening: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opening.only_run()
    while_it_opens(opening, monkeypatch, lambda: take_turn(opening.runtime, run.id, branch="group[1]"))
    assert standing(opening) == ({*INNER, ("group[1]", "completed")}, [])
    take_turn(opening.runtime, run.id)
    assert run.output == [1, 2]


def test_who_wins_a_race_of_a_cancelled_run_gives_the_losers_slots_back(
    opening: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opening.only_run()
    take_turn(opening.runtime, run.id, branch="group[0]")
    with monkeypatch.context() as patch:
        # As if the inner race had been opened a moment later.
        patch.setattr(Branches, "cancel_all", lambda *_: None)
        cancel(opening.runtime, run.id, "enough")
    with opening.store.connection() as connection:
        connection.execute("UPDATE flows_branches SET status = 'cancelled', ended_at = {now} WHERE path = 'group[0]'")
    take_turn(opening.runtime, run.id, branch="group[0]/group[0]")
    assert ("group[0]/group[1]", "cancelled") in standing(opening)[0]
    assert [slot for slot in standing(opening)[1] if slot[1].startswith("group[0]/")] == []
