"""ctx.group.race: the first to end wins, the losers are cancelled with all that they wait for."""

from functools import partial

import pytest

from celeryflows import Event, Status, StepError
from celeryflows.engine.turn import take_turn

pytestmark = pytest.mark.usefixtures("each_way")


def nap(ctx, seconds, value=None):
    ctx.step.sleep("nap", f"{seconds}s")
    return value


def fail(text):
    raise ValueError(text)


def rows(flows, sql):
    with flows.runtime.store.connection() as connection:
        return connection.execute(sql)


def test_the_first_wins_with_its_index_and_value(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        return ctx.group.race(partial(nap, ctx, 9, "slow"), partial(nap, ctx, 5, "fast"), partial(nap, ctx, 7))

    run = flows_tester.start(flow)
    flows_tester.advance("5s")
    assert run.output == [1, "fast"]


def test_the_losers_waits_and_timers_are_gone_and_the_run_ends_without_them(flows, flows_tester):
    after = []

    @flows.flow
    def flow(ctx):
        def tree():
            return ctx.group.parallel(
                partial(ctx.step.wait_for_event, "deep", event="x/deep", timeout="1h"), partial(nap, ctx, 60)
            )

        won = ctx.group.race(tree, partial(nap, ctx, 5, "won"), tree)
        after.append(won)
        return ctx.step.run("after", lambda: won[1])

    run = flows_tester.start(flow)
    assert rows(flows, "SELECT count(*) FROM flows_waits WHERE state = 'open'") == [(2,)]
    flows_tester.advance("5s")
    assert run.output == "won"
    assert rows(flows, "SELECT count(*) FROM flows_branches WHERE status IN ('queued', 'running', 'suspended')") == [
        (0,)
    ]
    assert rows(flows, "SELECT count(*) FROM flows_waits WHERE state = 'open'") == [(0,)]
    assert rows(flows, "SELECT count(*) FROM flows_branches WHERE wake_at IS NOT NULL") == [(0,)]
    flows_tester.send("x/deep")
    flows_tester.advance("2h")
    assert (after, flows_tester.calls("after", run)) == ([(1, "won")], 1)


def test_a_race_of_ten_and_more_cancels_no_branch_of_a_group_with_a_like_name(flows, flows_tester):
    """A path is compared as it stands: `group` is not `group:1`, nor `[1]` `[10]`, nor `_` any letter."""

    @flows.flow
    def flow(ctx):
        def inner():
            return ctx.group.race(partial(nap, ctx, 1, "a"), partial(nap, ctx, 50), name="x_y")

        def other():
            return ctx.group.parallel(partial(nap, ctx, 3, "z"), name="xay")

        return ctx.group.parallel([inner, other, *[partial(nap, ctx, 2, n) for n in range(10)]])

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    assert run.output == [[0, "a"], ["z"], *range(10)]


def test_waiting_for_any_event_is_a_race_of_waits(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        waits = [partial(ctx.step.wait_for_event, name, event=f"order/{name}", timeout="1h") for name in ("a", "b")]
        index, event = ctx.group.race(waits)
        return [index, event and event.name, event and event.data["n"]]

    run = flows_tester.start(flow)
    flows_tester.send("order/b", {"n": 4})
    assert run.output == [1, "order/b", 4]
    flows_tester.advance("1s")
    late = flows_tester.start(flow)
    flows_tester.advance("1h")
    assert late.output == [0, None, None]


def test_an_event_that_the_step_before_a_race_provokes_is_found(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        ctx.step.run("provoke", lambda: flows.send("order/paid", {"n": 1}))
        index, event = ctx.group.race(
            partial(ctx.step.wait_for_event, "never", event="never/comes", timeout="1h"),
            partial(ctx.step.wait_for_event, "paid", event="order/paid", timeout="1h"),
        )
        return [index, event.data["n"]]

    assert flows_tester.start(flow).output == [1, 1]


def test_a_loop_of_races_misses_no_event_and_takes_each_once(world):
    def flow(ctx):
        taken = []
        ctx.step.run("fill", fill)
        for _ in range(4):
            _, event = ctx.group.race(
                partial(ctx.step.wait_for_event, "a", event="x/a", timeout="1h"),
                partial(ctx.step.wait_for_event, "b", event="x/b", timeout="1h"),
            )
            taken.append((event.name, event.data["n"]))
        return taken

    def fill():
        for n in range(2):
            world.tick()
            world.flows.send("x/a", {"n": n})
        world.tick()

    world.flow(name="f", trigger="go/now")(flow)
    world.send("go/now")
    world.tick()
    world.send("x/b", {"n": 2})
    world.tick()
    world.send("x/a", {"n": 3})
    run = world.only_run()
    assert run.status == Status.COMPLETED
    assert run.output == [["x/a", 0], ["x/a", 1], ["x/b", 2], ["x/a", 3]]


def test_a_branch_that_ends_first_with_an_error_ends_the_race_with_it(flows, flows_tester):
    @flows.flow(retries=0)
    def flow(ctx):
        try:
            ctx.group.race(partial(nap, ctx, 60), partial(ctx.step.run, "bad", fail, "no"))
        except StepError as error:
            return [error.step_id, error.message]

    run = flows_tester.start(flow)
    assert run.output == ["group[1]/bad", "no"]


def test_a_retrying_branch_has_not_ended(flows, flows_tester):
    @flows.flow(retries=1)
    def flow(ctx):
        return ctx.group.race(partial(ctx.step.run, "bad", fail, "no"), partial(nap, ctx, 0.5, "in time"))

    run = flows_tester.start(flow)
    flows_tester.advance("10s")
    assert run.output == [1, "in time"]


def test_of_branches_that_are_due_at_the_same_instant_one_wins(flows, flows_tester):
    joined = []

    @flows.flow
    def flow(ctx):
        joined.append(ctx.group.race(partial(nap, ctx, 5, n) for n in range(5)))
        return joined[-1]

    run = flows_tester.start(flow)
    flows_tester.advance("5s")
    index, value = run.output
    assert index == value
    assert joined == [(index, value)]
    assert rows(flows, "SELECT count(*) FROM flows_branches WHERE status = 'completed'") == [(1,)]


def test_a_running_loser_is_stopped_at_its_next_boundary_and_its_value_changes_nothing(world):
    """The winner's event is sent by the loser's own step: the race is decided while that step runs."""
    ran = []

    def flow(ctx):
        def loser():
            ctx.step.run("work", work)
            ran.append("beyond")
            return "lost"

        return ctx.group.race(partial(ctx.step.wait_for_event, "w", event="x/y", timeout="1h"), loser)[0]

    def work():
        world.flows.send("x/y")
        (branch,) = (one for one in world.broker.waiting if one.branch == "group[0]")
        world.broker.waiting.remove(branch)
        take_turn(world.runtime, branch.run_id, branch=branch.branch)
        return "late"

    world.runtime.carries = False
    world.flow(name="f", trigger="go/now")(flow)
    world.send("go/now")
    run = world.only_run()
    assert (run.output, ran) == (0, [])
    assert [step.state for step in run.steps if step.id == "group[1]/work"] == ["late"]


def test_a_race_of_nothing_ends_the_run_with_the_remedy(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        ctx.group.race([])

    run = flows_tester.start(flow)
    assert run.error.name == "StepMisuse"
    assert "give it one branch at least" in run.error.message


def test_races_in_races_each_have_one_winner(flows, flows_tester):
    @flows.flow
    def flow(ctx):
        def inner(base):
            return ctx.group.race(partial(nap, ctx, base, f"{base}a"), partial(nap, ctx, base + 1, f"{base}b"))

        return ctx.group.race(partial(inner, 3), partial(inner, 1), partial(inner, 2))

    run = flows_tester.start(flow)
    flows_tester.advance("1 min")
    assert run.output == [1, [0, "1a"]]


@pytest.mark.parametrize("first", ["event", "timeout"])
def test_an_event_against_a_timer_has_one_winner(flows, flows_tester, first):
    @flows.flow
    def flow(ctx):
        return ctx.group.race(
            partial(ctx.step.wait_for_event, "paid", event="order/paid", timeout="1 day"), partial(nap, ctx, 60)
        )[0]

    run = flows_tester.start(flow)
    flows_tester.advance("30s" if first == "event" else "60s")
    flows_tester.send(Event("order/paid"))
    assert run.output == (0 if first == "event" else 1)
