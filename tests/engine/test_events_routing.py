"""Promises of routing: which flows an event starts, patterns, conditions, and what event and run tell of each other."""

from typing import Any

from celeryflows import Event, OnEvent, Status
from celeryflows.store.reports.events import one_event, runs_of_events
from tests.engine.world import World, statuses


def declare(world: World, name: str, *triggers: Any) -> None:
    world.flow(name=name, trigger=list(triggers))(lambda ctx: ctx.event.data.get("n"))


def flows_started(world: World, event_id: str) -> list[str]:
    return sorted(run.flow for run in runs_of_events(world.store, [event_id]))


def test_one_event_starts_three_flows(world: World) -> None:
    for name in ("mail", "crm", "metrics"):
        declare(world, name, "user/signed.up")

    (event_id,) = world.send("user/signed.up", {"n": 7})

    assert flows_started(world, event_id) == ["crm", "mail", "metrics"]
    assert [run.output for run in world.runs()] == [7, 7, 7]


def test_a_flow_with_two_matching_triggers_starts_once(world: World) -> None:
    declare(world, "audit", "order/paid", "order/*", OnEvent("order/paid", "event.data.n == 1"))

    world.send("order/paid", {"n": 1})

    assert len(world.runs()) == 1


def test_patterns_match_what_follows_their_slash_or_dot(world: World) -> None:
    declare(world, "all", "app/*")
    declare(world, "users", "app/user.*")

    for name in ("app/user.created", "app/order", "app/users.x", "apps/user.created", "app"):
        world.send(name)

    assert len(world.runs("all")) == 3
    assert [run.events[0].name for run in world.runs("users")] == ["app/user.created"]


def test_an_event_that_nobody_asks_for_is_kept(world: World) -> None:
    declare(world, "f", "order/paid")

    (event_id,) = world.send("order/lost")

    assert one_event(world.store, event_id) is not None
    assert world.runs() == []


def test_a_condition_is_judged_for_events_of_its_own_name_only(world: World) -> None:
    declare(world, "big", OnEvent("order/paid", "event.data.total > 100"))
    declare(world, "other", "order/lost")

    (event_id,) = world.send("order/lost", {"total": "much"})

    assert flows_started(world, event_id) == ["other"]
    assert one_event(world.store, event_id).problem is None


def test_a_missing_field_is_null_and_no_error(world: World) -> None:
    declare(world, "anonymous", OnEvent("page/seen", "event.data.user == null"))

    missing, null, there = world.send([Event("page/seen", d) for d in ({}, {"user": None}, {"user": "u1"})])

    assert [flows_started(world, e) for e in (missing, null, there)] == [["anonymous"], ["anonymous"], []]
    assert [event.problem for event in world.events()] == [None, None, None]


def test_a_condition_that_cannot_be_judged_is_no_match_and_the_event_shows_why(world: World) -> None:
    declare(world, "big", OnEvent("order/paid", "event.data.total > 100"))
    declare(world, "every", "order/paid")

    (event_id,) = world.send("order/paid", {"total": "much"})

    assert flows_started(world, event_id) == ["every"]
    assert one_event(world.store, event_id).problem.startswith("flow big: ")


def test_an_unevaluable_event_in_a_list_harms_no_other(world: World) -> None:
    declare(world, "big", OnEvent("order/paid", "event.data.total > 100"))

    ids = world.send([Event("order/paid", {"total": total}) for total in (200, "much", 300, None)])

    assert [flows_started(world, event_id) for event_id in ids] == [["big"], [], ["big"], []]


def test_a_run_lists_its_event_and_an_event_the_runs_it_started(world: World) -> None:
    declare(world, "a", "order/paid")
    declare(world, "b", "order/paid")

    (event_id,) = world.send(Event("order/paid", {"n": 1}, id="evt_1"))

    assert [[event.id for event in run.events] for run in world.runs()] == [["evt_1"], ["evt_1"]]
    assert {(run.run_id, run.status) for run in runs_of_events(world.store, [event_id])} == {
        (run.id, "completed") for run in world.runs()
    }


def test_a_list_of_events_starts_each_ones_runs(world: World) -> None:
    declare(world, "paid", "order/paid")
    declare(world, "lost", "order/lost")

    ids = world.send([Event(f"order/{what}", {"n": n}) for n, what in enumerate(["paid", "lost", "paid", "seen"])])

    assert [flows_started(world, event_id) for event_id in ids] == [["paid"], ["lost"], ["paid"], []]
    assert sorted(run.output for run in world.runs()) == [0, 1, 2]


def test_a_run_starts_under_the_version_that_its_flow_had(world: World) -> None:
    seen: list[str] = []
    world.flow(name="f", trigger="a/b", version="2024-01")(lambda ctx: seen.append(ctx.version))

    world.send("a/b")

    assert seen == ["2024-01"]


def test_a_flow_that_sends_in_its_body_starts_the_next(world: World) -> None:
    declare(world, "second", "step/two")

    @world.flow(name="first", trigger="step/one")
    def first(ctx: Any) -> list[str]:
        return ctx.step.send_event("tell", Event("step/two", {"n": 2}))

    world.send("step/one")

    assert statuses(world.runs()) == [Status.COMPLETED, Status.COMPLETED]
    assert world.only_run("second").output == 2
