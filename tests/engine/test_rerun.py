"""A rerun is a new run with the same event: whole, or from a step, with the values of all that was recorded before."""

import asyncio
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from celeryflows import Event, RerunRefused, Status, UnknownEvent, UnknownFlow, UnknownRun
from celeryflows.console.history import export
from celeryflows.signals import run_queued
from celeryflows.store.keyring import Keyring
from tests.engine.world import World


class Counted:
    """A step body that counts its calls and keeps its arguments."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs) if kwargs else args)
        return [*args, *kwargs.values()]


def three(world: World, **more: Any) -> tuple[Counted, Counted, Counted]:
    """A flow of three steps."""
    a, b, c = Counted(), Counted(), Counted()

    @world.flow(name="three", trigger="a/b", **more)
    def handler(ctx: Any) -> Any:
        first = ctx.step.run("a", a, ctx.event.data["n"])
        return ctx.step.run("c", c, ctx.step.run("b", b, *first))

    return a, b, c


def test_a_rerun_starts_a_new_run_with_the_same_event(world: World) -> None:
    a, b, c = three(world)
    world.send("a/b", {"n": 7}, id="mine")
    old = world.only_run()

    new = old.rerun()
    world.drain()

    assert new.id != old.id
    assert new.output == old.output == [[7]]
    assert new.events == old.events
    assert [len(body.calls) for body in (a, b, c)] == [2, 2, 2]
    assert world.store_rows("SELECT origin FROM flows_runs WHERE id = :id", id=new.id) == [(old.id,)]


def test_a_rerun_from_a_step_keeps_what_was_recorded_before_it(world: World) -> None:
    a, b, c = three(world)
    world.send("a/b", {"n": 7})

    new = world.only_run().rerun(from_step="b")
    world.drain()

    assert new.output == [[7]]
    assert [len(body.calls) for body in (a, b, c)] == [1, 2, 2]
    assert {step.id: step.turn for step in new.steps} == {"a": 0, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ([1, 2], (1, 2)),
        ({"x": 1}, ((), {"x": 1})),
        ({}, ()),
        ({"args": [1]}, (1,)),
        ({"kwargs": {"x": 1}}, ((), {"x": 1})),
        ({"args": [1], "kwargs": {"x": 2}}, ((1,), {"x": 2})),
    ],
)
def test_an_edited_input_replaces_the_arguments_of_the_step(world: World, given: Any, called: Any) -> None:
    _, b, c = three(world)
    world.send("a/b", {"n": 7})

    new = world.only_run().rerun(from_step="b", input=given)
    world.drain()

    assert b.calls[1:] == [called]
    assert new.output == [[*(called[0] if called and isinstance(called[-1], dict) else called), *_values(called)]]
    assert len(c.calls) == 2


def _values(called: Any) -> list[Any]:
    return list(called[1].values()) if called and isinstance(called[-1], dict) else []


def test_an_edited_input_holds_for_every_attempt(world: World) -> None:
    seen: list[int] = []

    def fails_twice(n: int) -> int:
        seen.append(n)
        if len(seen) < 4:
            raise OSError("not yet")
        return n

    world.flow(name="f", trigger="a/b", retries=1)(lambda ctx: ctx.step.run("s", fails_twice, 1))
    world.send("a/b")
    world.advance("1m")
    new = world.only_run().rerun(from_step="s", input=[5])
    world.advance("1m")

    assert seen == [1, 1, 5, 5]
    assert new.output == 5


def test_an_edited_input_reaches_an_async_step(world: World) -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    @world.flow(name="f", trigger="a/b")
    async def handler(ctx: Any) -> Any:
        return await ctx.step.run("s", double, 1)

    world.send("a/b")
    new = world.only_run().rerun(from_step="s", input=[21])
    world.drain()

    assert new.output == 42


def test_a_failed_step_runs_again_and_what_it_needs_is_kept(world: World) -> None:
    a, works = Counted(), [False]

    def charge(n: int) -> str:
        if not works[0]:
            raise ValueError("declined")
        return f"charged {n}"

    @world.flow(name="f", trigger="a/b", retries=0)
    def handler(ctx: Any) -> Any:
        (n,) = ctx.step.run("a", a, 3)
        return ctx.step.run("charge", charge, n)

    world.send("a/b")
    old = world.only_run()
    works[0] = True
    new = old.rerun(from_step="charge")
    world.drain()

    assert (old.status, new.status, new.output) == (Status.FAILED, Status.COMPLETED, "charged 3")
    assert len(a.calls) == 1


def test_a_failure_that_was_caught_before_the_step_is_kept(world: World) -> None:
    tried: list[int] = []

    @world.flow(name="f", trigger="a/b", retries=0)
    def handler(ctx: Any) -> Any:
        try:
            ctx.step.run("bad", lambda: tried.append(1) or 1 / 0)
        except Exception as error:
            return ctx.step.run("after", str, error)

    world.send("a/b")
    new = world.only_run().rerun(from_step="after")
    world.drain()

    assert tried == [1]
    assert "ZeroDivisionError" in new.output


def test_sleeps_and_answered_waits_before_the_step_are_over(world: World) -> None:
    @world.flow(name="f", trigger="a/b")
    def handler(ctx: Any) -> Any:
        ctx.step.sleep("nap", "1h")
        came = ctx.step.wait_for_event("answer", event="a/answer", timeout="1h")
        missed = ctx.step.wait_for_event("never", event="a/never", timeout="1h")
        return ctx.step.run("end", lambda: [came.data["n"], missed])

    world.send("a/b")
    world.advance("1h")
    world.send("a/answer", {"n": 5})
    world.advance("1h")
    old = world.only_run()
    assert old.output == [5, None]

    new = old.rerun(from_step="end")
    world.drain()

    assert new.output == [5, None]


def test_a_rerun_from_a_wait_finds_the_event_that_came_too_late(world: World) -> None:
    @world.flow(name="f", trigger="a/b")
    def handler(ctx: Any) -> Any:
        ctx.step.run("ask", lambda: None)
        came = ctx.step.wait_for_event("answer", event="a/answer", timeout="1h")
        return came and came.data["n"]

    world.send("a/b")
    world.advance("2h")
    world.send("a/answer", {"n": 5})
    old = world.only_run()
    new = old.rerun(from_step="answer")
    world.drain()

    assert (old.output, new.output) == (None, 5)


def test_a_rerun_of_a_rerun_keeps_the_copied_values(world: World) -> None:
    a, b, c = three(world)
    world.send("a/b", {"n": 7})

    second = world.only_run().rerun(from_step="b", input=[8])
    world.drain()
    third = second.rerun(from_step="c")
    world.drain()

    assert third.output == second.output == [[8]]
    assert [len(body.calls) for body in (a, b, c)] == [1, 2, 3]


def test_branches_of_an_async_flow_recorded_before_the_step_are_kept(world: World) -> None:
    bodies = {name: Counted() for name in "abcd"}

    @world.flow(name="f", trigger="a/b")
    async def handler(ctx: Any) -> Any:
        await asyncio.gather(*(ctx.step.run(name, bodies[name], name) for name in "abc"))
        return await ctx.step.run("d", bodies["d"], "d")

    world.send("a/b")
    new = world.only_run().rerun(from_step="d")
    world.drain()

    assert new.status == Status.COMPLETED
    assert {name: len(body.calls) for name, body in bodies.items()} == {"a": 1, "b": 1, "c": 1, "d": 2}


def test_what_an_invoked_run_gave_is_kept_and_a_rerun_from_it_starts_another(world: World) -> None:
    world.flow(name="child")(lambda ctx: ctx.event.data["n"])

    @world.flow(name="f", trigger="a/b")
    def handler(ctx: Any) -> Any:
        got = ctx.step.invoke("ask", "child", {"n": 3})
        return ctx.step.run("end", lambda: [got])

    world.send("a/b")
    world.run_due()
    old = world.runs("f")[0]
    behind = old.rerun(from_step="end")
    world.run_due()
    assert (behind.output, len(world.runs("child"))) == ([3], 1)

    from_it = old.rerun(from_step="ask")
    world.run_due()
    assert (from_it.output, len(world.runs("child"))) == ([3], 2)


def test_a_signal_before_the_step_is_kept(world: World) -> None:
    @world.flow(name="f", trigger="a/b")
    def handler(ctx: Any) -> Any:
        got = ctx.step.wait_for_signal("go", "go", timeout="1h")
        return ctx.step.run("end", lambda: got.data)

    world.send("a/b")
    world.flows.signal("go", 7)
    world.drain()
    new = world.only_run().rerun(from_step="end")
    world.drain()

    assert new.output == 7


# --- groups


def fan(world: World) -> dict[str, Counted]:
    """A step, a group of two branches of two steps each, a race, and a step."""
    bodies = {name: Counted() for name in ("before", "a", "b", "c", "d", "fast", "slow", "end")}

    @world.flow(name="fan", trigger="a/b")
    def handler(ctx: Any) -> Any:
        def run(name: str) -> Any:
            return ctx.step.run(name, bodies[name], name)

        run("before")
        both = ctx.group.parallel(lambda: [run("a"), run("b")], lambda: [run("c"), run("d")])
        first = ctx.group.race(lambda: [ctx.step.sleep("nap", "1h"), run("slow")], lambda: run("fast"))
        return [both, first, run("end")]

    world.send("a/b")
    world.advance("2h")
    return bodies


FAN = [[[["a"], ["b"]], [["c"], ["d"]]], [1, ["fast"]], ["end"]]


def again(bodies: dict[str, Counted]) -> list[str]:
    return [name for name, body in bodies.items() if len(body.calls) > 1]


def test_groups_before_the_step_are_kept_whole(world: World) -> None:
    bodies = fan(world)
    new = world.only_run().rerun(from_step="end")
    world.drain()

    assert new.output == world.runs()[0].output == FAN
    assert again(bodies) == ["end"]


@pytest.mark.parametrize("asked", ["b", "group[0]/b"])
def test_a_step_in_a_branch_runs_again_and_the_other_branches_keep_theirs(world: World, asked: str) -> None:
    bodies = fan(world)
    new = world.runs()[0].rerun(from_step=asked, input=["B"])
    world.advance("2h")

    assert new.output == [[[["a"], ["B"]], [["c"], ["d"]]], [1, ["fast"]], ["end"]]
    assert again(bodies) == ["b", "fast", "end"]
    assert bodies["b"].calls[1] == ("B",)


def test_a_rerun_from_a_group_repeats_all_that_it_did(world: World) -> None:
    bodies = fan(world)
    new = world.runs()[0].rerun(from_step="group:0")
    world.advance("2h")

    assert new.output == FAN
    assert again(bodies) == ["a", "b", "c", "d", "fast", "end"]


# --- names of steps


def loop(world: World) -> Counted:
    """A flow whose step `s` is used three times."""
    body = Counted()

    @world.flow(name="loop", trigger="a/b")
    def handler(ctx: Any) -> Any:
        return [ctx.step.run("s", body, i) for i in range(3)]

    world.send("a/b")
    return body


def test_an_id_that_was_used_several_times_is_refused_with_its_uses(world: World) -> None:
    loop(world)

    with pytest.raises(RerunRefused, match=r"'s:0', 's:1', 's:2'\. Name one") as refused:
        world.only_run().rerun(from_step="s")

    assert refused.value.candidates == ("s:0", "s:1", "s:2")
    assert len(world.runs()) == 1


@pytest.mark.parametrize(("exact", "again"), [("s:0", [0, 1, 2]), ("s:1", [1, 2]), ("s:2", [2])])
def test_the_exact_use_of_a_repeated_id_is_taken(world: World, exact: str, again: list[int]) -> None:
    body = loop(world)

    new = world.only_run().rerun(from_step=exact)
    world.drain()

    assert [args[0] for args in body.calls[3:]] == again
    assert new.output == [[0], [1], [2]]


def test_a_step_that_was_never_recorded_is_refused_with_those_that_were(world: World) -> None:
    three(world)
    world.send("a/b", {"n": 1})

    with pytest.raises(RerunRefused, match=r"no step 'x' was recorded in this run\. Its steps: 'a', 'b', 'c'"):
        world.only_run().rerun(from_step="x")


# --- what is refused


def test_a_run_under_way_is_refused(world: World) -> None:
    world.flow(name="f", trigger="a/b")(lambda ctx: ctx.step.sleep("nap", "1h"))
    world.send("a/b")
    run = world.only_run()

    with pytest.raises(RerunRefused, match="is suspended: its steps would be done twice"):
        run.rerun()
    run.cancel()

    assert run.rerun().status == Status.QUEUED


def test_a_run_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(UnknownRun, match="No run 'nobody'"):
        world.flows.run("nobody").rerun()


@pytest.mark.parametrize("bad", ["text", 5, {"args": 5}, {"args": [], "kwargs": [1]}, {1: 2}])
def test_an_input_that_is_no_arguments_is_refused(world: World, bad: Any) -> None:
    three(world)
    world.send("a/b", {"n": 1})

    with pytest.raises(RerunRefused, match="input is a list"):
        world.only_run().rerun(from_step="b", input=bad)


def test_an_input_without_a_step_or_for_a_sleep_is_refused(world: World) -> None:
    world.flow(name="f", trigger="a/b")(lambda ctx: ctx.step.sleep("nap", "1h"))
    world.send("a/b")
    world.advance("1h")
    run = world.only_run()

    with pytest.raises(RerunRefused, match="input belongs to a step"):
        run.rerun(input=[1])
    with pytest.raises(RerunRefused, match="step 'nap' is a sleep"):
        run.rerun(from_step="nap", input=[1])

    assert len(world.runs()) == 1


def test_a_rerun_of_a_flow_that_is_gone_is_refused(world: World) -> None:
    other = world.process("other")
    other.flow(name="gone", trigger="a/b")(lambda ctx: None)
    other.send("a/b")

    with world.store.connection() as connection:
        connection.flows.touch()
        connection.flows.remove(["gone"])
    with pytest.raises(UnknownFlow, match="No flow 'gone'"):
        world.only_run().rerun()


def test_a_rerun_of_a_paused_flow_is_refused_with_the_remedy(world: World) -> None:
    three(world)
    world.send("a/b", {"n": 1})
    world.store_rows("UPDATE flows_flows SET paused_at = 1 WHERE name = 'three' RETURNING name")

    with pytest.raises(RerunRefused, match=r"paused\. Resume it first"):
        world.only_run().rerun()


# --- what a rerun has of its own


def test_the_logger_is_silent_over_kept_steps_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    @world.flow(name="f", trigger="a/b")
    def handler(ctx: Any) -> None:
        ctx.logger.warning("start")
        ctx.step.run("a", int)
        ctx.logger.warning("between")
        ctx.step.run("b", int)
        ctx.logger.warning("end")

    world.send("a/b")
    caplog.clear()
    world.only_run().rerun(from_step="b")
    world.drain()

    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["between", "end"]


def test_a_rerun_survives_the_loss_of_its_worker_in_its_first_turn(flows_tester: Any, flows: Any) -> None:
    a = Counted()

    @flows.flow(name="f")
    def handler(ctx: Any) -> Any:
        ctx.step.run("a", a)
        ctx.step.run("b", int)
        return ctx.step.run("c", int, ctx.step.run("d", int))

    old = flows_tester.start(handler)
    flows_tester.crash_after("b")
    new = old.rerun(from_step="b")
    flows_tester.advance("0s")

    assert new.output == 0
    assert len(a.calls) == 1
    assert flows_tester.calls("b") == 2


def test_a_rerun_keeps_its_queue_and_leaves_the_canvas(world: World) -> None:
    three(world)
    world.send("a/b", {"n": 1})
    run = world.only_run()
    world.store_rows(
        "UPDATE flows_runs SET message = :message WHERE id = :id RETURNING id",
        id=run.id,
        message='{"queue": "slow", "chord": {"x": 1}, "link": [], "group_id": "g"}',
    )

    run.rerun()

    assert [delivery.message for delivery in world.broker.waiting] == ['{"queue": "slow"}']


# --- one event to one flow


def test_an_event_is_replayed_to_one_flow(world: World) -> None:
    got: list[Any] = []
    world.flow(name="f", trigger="a/b")(lambda ctx: None)
    world.flow(name="other")(lambda ctx: got.append(ctx.event))
    (event_id,) = world.send(Event("a/b", {"n": 1}, id="mine"))

    run = world.flows.replay_event(event_id, "other")
    again = world.flows.replay_event(event_id, flow="other")
    world.drain()

    assert [(event.name, event.id, event.data) for event in got] == [("a/b", "mine", {"n": 1})] * 2
    assert run.id != again.id
    assert run.status == Status.COMPLETED
    assert len(world.runs("f")) == 1


def test_an_event_or_a_flow_that_is_not_there_is_refused(world: World) -> None:
    world.flow(name="f", trigger="a/b")(lambda ctx: None)
    (event_id,) = world.send("a/b")

    with pytest.raises(UnknownEvent, match="No event 'none'"):
        world.flows.replay_event("none", "f")
    with pytest.raises(UnknownFlow, match=r"No flow 'g'\. Known: f"):
        world.flows.replay_event(event_id, "g")


def test_a_rerun_is_told_as_queued(world: World) -> None:
    heard: list[tuple[str, str | None]] = []
    three(world, version="9")
    world.send("a/b", {"n": 1})

    def hear(flow: str, run: Any) -> None:
        heard.append((run.run_id, run.version))

    with run_queued.connected_to(hear):
        new = world.only_run().rerun()

    assert heard == [(new.id, "9")]


def test_where_payloads_are_encrypted_a_rerun_shows_no_secret_and_reads_what_it_kept(world: World) -> None:
    world.store.sealer = Keyring([urlsafe_b64encode(b"k" * 32).decode()])
    world.store.agree_on_keys()
    three(world)
    world.send("a/b", {"n": "4111"})

    new = world.only_run().rerun(from_step="b", input=["4222"])
    world.flows.replay("three", status="completed", if_exp="event.data.n == '4111'")
    world.drain()
    lines = "\n".join(export(world.runtime))

    with world.store.engine.connect() as connection:
        stored = [
            str(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
            for table in ("flows_runs", "flows_steps", "flows_replays", "flows_events")
        ]
    assert new.output == [["4222"]]
    assert [secret in "".join(stored) for secret in ("4111", "4222")] == [False, False]
    assert [secret in lines for secret in ("4111", "4222")] == [True, True]
