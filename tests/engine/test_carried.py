"""A delivery takes on what it opens: what is over in a moment needs no message; none is lost when it stops or dies."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from celeryflows import Event, NonRetriableError, Status
from celeryflows.engine.resume import requeue
from celeryflows.engine.runtime import LetGo
from celeryflows.engine.turn import take_turn
from celeryflows.model.runs import Delivery
from celeryflows.scheduler.inline import Kept
from tests.engine.world import World


class Messages:
    """Notes every message that was sent."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[Delivery] = []
        send = world.broker.send_runs

        def noted(deliveries: list[Delivery]) -> None:
            self.sent += deliveries
            send(deliveries)

        monkeypatch.setattr(world.broker, "send_runs", noted)

    @property
    def branches(self) -> list[str]:
        """The units that had a message."""
        return [one.branch for one in self.sent]


class Late:
    """What the postman does when the work at hand takes too long."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._kept: list[Kept] = []
        postpone = world.broker.postpone

        def noted(let_go: LetGo) -> Kept:
            self._kept.append(postpone(let_go))
            return self._kept[-1]

        monkeypatch.setattr(world.broker, "postpone", noted)

    def send(self) -> None:
        """The messages that wait."""
        for kept in self._kept:
            kept.release()


@pytest.fixture
def late(world: World, monkeypatch: pytest.MonkeyPatch) -> Late:
    return Late(world, monkeypatch)


@pytest.fixture
def messages(world: World, monkeypatch: pytest.MonkeyPatch) -> Messages:
    return Messages(world, monkeypatch)


def started(world: World, handler: Callable[[Any], Any], **options: Any) -> str:
    """A queued run of the handler whose message is taken away."""
    world.flow(name="f", trigger="go/now", **options)(handler)
    world.flows.send(Event("go/now"))
    return world.broker.waiting.pop().run_id


def ten(ctx: Any) -> Any:
    values = ctx.group.parallel(partial(ctx.step.run, "a", lambda n=n: n) for n in range(10))
    return ctx.step.run("sum", sum, values)


def test_branches_that_are_over_in_a_moment_need_no_message_nor_does_the_turn_behind_them(
    world: World, messages: Messages
) -> None:
    run_id = started(world, ten)
    end = take_turn(world.runtime, run_id)
    assert (end.status, end.value) == (Status.COMPLETED, 45)
    assert messages.branches == [""]


def test_groups_one_after_the_other_and_in_one_another_are_carried_to_the_end(world: World, messages: Messages) -> None:
    def handler(ctx: Any) -> Any:
        def inner(n: int) -> Any:
            return ctx.group.parallel(partial(ctx.step.run, "a", lambda m=m: 10 * n + m) for m in range(2))

        first = ctx.group.parallel(partial(inner, n) for n in range(2))
        index, won = ctx.group.race(partial(ctx.step.sleep, "s", "1h"), partial(ctx.step.run, "b", lambda: "b"))
        return [first, index, won]

    run_id = started(world, handler)
    assert take_turn(world.runtime, run_id).value == [[[0, 1], [10, 11]], 1, "b"]
    assert messages.branches == [""]


def test_a_worker_that_stops_leaves_the_rest_to_messages(world: World, messages: Messages) -> None:
    done: list[int] = []

    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", lambda n=n: done.append(n)) for n in range(4))

    run_id = started(world, handler)
    end = take_turn(world.runtime, run_id, lambda: len(done) >= 2)
    assert (end.status, done) == (Status.SUSPENDED, [0, 1])
    assert messages.branches == ["", "group[2]", "group[3]"]
    world.drain()
    assert (world.only_run().status, done) == (Status.COMPLETED, [0, 1, 2, 3])


def test_a_worker_that_stops_as_a_group_opens_keeps_none_of_its_branches(world: World, messages: Messages) -> None:
    run_id = started(world, ten)
    end = take_turn(world.runtime, run_id, lambda: bool(world.store_rows("SELECT 1 FROM flows_branches")))
    assert end.status is Status.SUSPENDED
    # The first one was claimed as the group was written: its turn begins and is handed back.
    assert sorted(messages.branches) == ["", *(f"group[{n}]" for n in range(10))]
    assert world.store_rows("SELECT DISTINCT status FROM flows_branches") == [("queued",)]
    world.drain()
    assert world.only_run().output == 45


def test_a_delivery_takes_on_no_more_after_a_second(world: World, messages: Messages) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", world.clock.turn, 600_000) for _ in range(4))

    assert take_turn(world.runtime, started(world, handler)).status is Status.SUSPENDED
    assert messages.branches == ["", "group[2]", "group[3]"]


def test_a_run_whose_group_ends_after_a_second_goes_on_by_a_message(world: World, messages: Messages) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", world.clock.turn, 600_000) for _ in range(2))

    assert take_turn(world.runtime, started(world, handler)).status is Status.SUSPENDED
    assert messages.branches == ["", ""]
    assert world.only_run().status is Status.QUEUED


def test_a_delivery_that_may_not_carry_sends_its_branches_at_once(world: World, messages: Messages) -> None:
    run_id = started(world, ten)
    assert take_turn(world.runtime, run_id, may_carry=lambda: False).status is Status.SUSPENDED
    assert messages.branches == ["", *(f"group[{n}]" for n in range(10))]
    assert world.store_rows("SELECT max(turn) FROM flows_branches") == [(0,)]


def test_what_a_branch_opens_goes_before_what_others_opened(world: World) -> None:
    done: list[str] = []

    def handler(ctx: Any) -> Any:
        def inner() -> Any:
            return ctx.group.parallel(partial(ctx.step.run, "a", done.append, f"inner {n}") for n in range(2))

        return ctx.group.parallel(inner, partial(ctx.step.run, "a", done.append, "outer"))

    take_turn(world.runtime, started(world, handler))
    # The first inner one is claimed as its group opens: nobody else can do it while this delivery does others.
    assert done == ["inner 0", "inner 1", "outer"]


def test_of_a_race_that_is_won_no_other_branch_is_taken_on(world: World, messages: Messages) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.race(partial(ctx.step.run, "a", lambda n=n: n) for n in range(3))

    assert take_turn(world.runtime, started(world, handler)).value == [0, 0]
    assert messages.branches == [""]
    assert world.store_rows("SELECT status, turn FROM flows_branches ORDER BY path") == [
        ("completed", 1),
        ("cancelled", 0),
        ("cancelled", 0),
    ]


def test_a_carried_branch_is_at_work_under_the_message_that_carries_it(world: World) -> None:
    seen: list[list[tuple[str, str]]] = []

    def handler(ctx: Any) -> Any:
        return ctx.group.parallel([partial(ctx.step.run, "a", look)] * 3)

    def look() -> None:
        with world.store.connection() as connection:
            seen.append([(held.path, held.carrying_id) for held in connection.branches.of_worker(world.runtime.worker)])

    run_id = started(world, handler)
    take_turn(world.runtime, run_id)
    # Claimed in the commit that opened their group, ended in the one that goes on: what dies is found by its worker.
    assert seen == [[(f"group[{n}]", run_id) for n in range(3)]] * 3


def test_a_run_is_claimed_in_the_commit_that_ends_its_last_branch(shared: World) -> None:
    said: list[str] = []
    run_id = started(shared, ten)
    shared.store.observer = said.append
    take_turn(shared.runtime, run_id)
    shared.store.observer = None
    begins, ends = (
        next(n for n in range(len(said) - 1, 0, -1) if said[n].startswith(word))
        for word in (shared.store.dialect.begin, "COM")
    )
    assert [sql for sql in said[begins:ends] if "UPDATE flows_runs SET status = 'running'" in sql]


def test_what_another_worker_has_taken_is_left_to_it(world: World, late: Late) -> None:
    elsewhere: list[object] = []

    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", step, n) for n in range(3))

    def step(n: int) -> int:
        if n == 0:
            late.send()
            elsewhere.append(take_turn(world.runtime, run_id, branch="group[1]").status)
        return n

    run_id = started(world, handler)
    assert take_turn(world.runtime, run_id).value == [0, 1, 2]
    assert elsewhere == [Status.COMPLETED]


def test_a_branchs_delivery_goes_on_with_outer_branches_but_never_with_the_run(
    world: World, messages: Messages
) -> None:
    def handler(ctx: Any) -> Any:
        def inner() -> Any:
            ctx.step.sleep("nap", "1s")
            return ctx.group.parallel(partial(ctx.step.run, "a", lambda: 1), partial(ctx.step.run, "a", lambda: 2))

        return ctx.group.parallel(inner)

    run_id = started(world, handler)
    take_turn(world.runtime, run_id)
    messages.sent.clear()
    world.advance("1s")
    assert messages.branches == ["group[0]", ""]
    assert world.only_run().output == [[1, 2]]


def test_a_process_that_dies_in_the_first_branch_leaves_none_without_a_worker(
    world: World, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    deaths = iter([Killed()])

    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", step, n) for n in range(4))

    def step(n: int) -> int:
        if n == 0 and (death := next(deaths, None)) is not None:
            raise death
        return n

    run_id = started(world, handler)
    with monkeypatch.context() as dying:
        # The messages that wait die with it.
        dying.setattr(Kept, "release", lambda self: None)
        with pytest.raises(Killed):
            take_turn(world.runtime, run_id)
    assert messages.branches == [""]
    with world.store.connection() as connection:
        left = connection.branches.of_worker(world.runtime.worker)
    # By the message of the run, which its worker does not run any more.
    assert sorted((held.path, held.carrying_id) for held in left) == [(f"group[{n}]", run_id) for n in range(4)]
    for held in left:
        assert requeue(world.runtime, held)
    # Only what was at work may have killed its worker.
    assert world.store_rows("SELECT path, lost FROM flows_branches ORDER BY path") == [
        ("group[0]", 1),
        ("group[1]", 0),
        ("group[2]", 0),
        ("group[3]", 0),
    ]
    world.drain()
    assert world.only_run().output == [0, 1, 2, 3]


def test_what_came_by_no_message_tells_nothing_of_the_queue(world: World) -> None:
    seen: list[dict[str, int]] = []

    def handler(ctx: Any) -> Any:
        ctx.group.parallel(partial(ctx.step.run, "a", look), lambda: 1)
        look()

    def look() -> None:
        with world.store.connection() as connection:
            seen.append(connection.messages.newest_claimed())

    take_turn(world.runtime, started(world, handler))
    # The first turn of the run came by its message; looked at inside the branch and behind the group.
    assert seen == [{}, {}]


def test_ten_branches_cost_few_statements(shared: World) -> None:
    count = [0]
    run_id = started(shared, ten)
    shared.store.observer = lambda sql: count.__setitem__(0, count[0] + 1)
    assert take_turn(shared.runtime, run_id).value == 45
    shared.store.observer = None
    assert count[0] <= (32 if shared.store.dialect.name == "postgresql" else 40)


def standing(world: World) -> list[tuple[str, str, int]]:
    """Path, status and turn of each branch."""
    return world.store_rows("SELECT path, status, turn FROM flows_branches ORDER BY path")


def test_a_branch_that_takes_its_time_lets_go_of_those_behind_it_and_shows_those_before(
    world: World, messages: Messages, late: Late
) -> None:
    seen: list[object] = []

    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", step, n) for n in range(4))

    def step(n: int) -> int:
        if n == 1:
            seen.append(standing(world))
            late.send()
            seen.append(standing(world))
        return n

    assert take_turn(world.runtime, started(world, handler)).value == [0, 1, 2, 3]
    begun, queued = [("group[1]", "running", 1)], [("group[2]", "queued", 0), ("group[3]", "queued", 0)]
    assert seen[0] == [(f"group[{n}]", "running", 1) for n in range(4)]
    assert seen[1] == [("group[0]", "completed", 1), *begun, *queued]
    # Who sent them finds that they were done meanwhile, by this delivery.
    assert messages.branches == ["", "group[2]", "group[3]"]


def test_the_last_branch_that_takes_its_time_shows_those_before(world: World, late: Late) -> None:
    seen: list[object] = []

    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", step, n) for n in range(2))

    def step(n: int) -> int:
        if n == 1:
            late.send()
            seen.append(standing(world))
        return n

    assert take_turn(world.runtime, started(world, handler)).value == [0, 1]
    assert seen == [[("group[0]", "completed", 1), ("group[1]", "running", 1)]]


def test_a_run_that_is_cancelled_in_the_middle_ends_none_of_its_branches(world: World) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", step, n) for n in range(4))

    def step(n: int) -> None:
        if n == 1:
            world.flows.run(run_id).cancel()

    run_id = started(world, handler)
    take_turn(world.runtime, run_id)
    world.drain()
    assert world.only_run().status is Status.CANCELLED
    assert standing(world) == [(f"group[{n}]", "cancelled", 1) for n in range(4)]
    assert world.store_rows("SELECT count(*) FROM flows_steps WHERE key LIKE '%/a'") == [(2,)], "the second came late"


def test_an_error_takes_the_ends_before_it_along(world: World, messages: Messages) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(lambda: 1, lambda: 2, fails)

    def fails() -> None:
        raise NonRetriableError("no")

    take_turn(world.runtime, started(world, handler))
    assert [row[1] for row in standing(world)] == ["completed", "completed", "failed"]
    assert messages.branches == [""]
    assert world.only_run().status is Status.FAILED


def test_of_a_wide_group_a_part_is_claimed_at_once_and_all_is_done(shared: World) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(partial(ctx.step.run, "a", lambda n=n: n) for n in range(80))

    take_turn(shared.runtime, started(shared, handler))
    shared.drain()
    assert shared.only_run().output == list(range(80))


def test_branches_that_sleep_do_not_hold_up_the_ends_of_the_others(world: World) -> None:
    def handler(ctx: Any) -> Any:
        return ctx.group.parallel(lambda: 1, partial(ctx.step.sleep, "nap", "1h"), lambda: 3)

    assert take_turn(world.runtime, started(world, handler)).status is Status.SUSPENDED
    assert [row[1] for row in standing(world)] == ["completed", "suspended", "completed"]
    world.advance("1h")
    assert world.only_run().output == [1, None, 3]
