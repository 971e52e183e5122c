"""Existing tasks as runs: what their callers get, by whatever way they call. One real worker for each kind of store."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.beat import ScheduleEntry, Scheduler
from celery.exceptions import ChordError, MaxRetriesExceededError, TaskRevokedError
from celery.result import AsyncResult
from celery.schedules import schedule

from tests.celery.apps import adopted
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import BRISK, World

SOON = 20.0
ROUTES = {"adopted.send_email": {"queue": "mails"}}


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> World:
    return make_world(request.param, task_routes=ROUTES, **BRISK)


@pytest.fixture(scope="module", autouse=True)
def worker(world: World) -> Iterator[Worker]:
    with world.worker("tests.celery.apps.adopted", "-c", "2", "-Q", "celery,mails,side") as running:
        yield running


@pytest.fixture(scope="module")
def app(world: World, worker: Worker) -> Celery:
    return world.app(adopted.sheet)


@pytest.fixture(scope="module")
def tasks(app: Celery) -> Any:
    return app.tasks


@pytest.fixture(scope="module")
def stranger(world: World) -> Celery:
    """A client that has neither our extension nor the tasks' code."""
    return world.keep(Celery("stranger", broker=world.broker, backend=world.broker, set_as_current=False))


def run_of(app: Celery, flow: str) -> Any:
    """The newest run of a task."""
    [view] = app.flows.runs(flow=flow, limit=1)  # type: ignore[attr-defined]
    return app.flows.run(view.id)  # type: ignore[attr-defined]


# -- started by events


def test_an_event_starts_an_untouched_task_on_its_own_queue(app: Celery, world: World) -> None:
    app.flows.send("user/signed.up", {"email": "ann@example.com"})  # type: ignore[attr-defined]
    run = run_of(app, "adopted.send_email")
    assert run.get(timeout=SOON) == ["ann@example.com", "welcome"]
    assert f"mail ann@example.com welcome {run.id} mails" in world.lines()
    assert AsyncResult(run.id, app=app).get(timeout=SOON) == ["ann@example.com", "welcome"]


def test_a_function_of_the_event_is_called_in_the_worker(app: Celery) -> None:
    app.flows.send("user/left", {"email": "bob"})  # type: ignore[attr-defined]
    assert run_of(app, "adopted.send_email").get(timeout=SOON) == ["bob", "user/left"]


def test_an_events_data_are_the_arguments_where_nothing_else_is_said(app: Celery) -> None:
    app.flows.send("number/came", {"number": 4})  # type: ignore[attr-defined]
    assert run_of(app, "adopted.take").get(timeout=SOON) == 5


def test_an_event_that_does_not_fit_the_task_fails_its_run_with_the_remedy(app: Celery) -> None:
    app.flows.send("number/came", {"nummer": 4})  # type: ignore[attr-defined]
    run = run_of(app, "adopted.take")
    eventually(lambda: run.status == "failed", within=SOON)
    assert "number/came" in run.error.message
    assert "kwargs=" in run.error.message


def test_plain_calls_of_a_task_with_a_trigger_make_no_run(app: Celery, tasks: Any) -> None:
    before = len(app.flows.runs(flow="adopted.take"))  # type: ignore[attr-defined]
    assert tasks["adopted.take"].delay(6).get(timeout=SOON) == 7
    assert len(app.flows.runs(flow="adopted.take")) == before  # type: ignore[attr-defined]


def test_autoretry_tries_a_run_again_through_the_store_and_a_plain_call_through_celery(app: Celery, tasks: Any) -> None:
    app.flows.send("mail/failed", {"name": "a", "times": 2})  # type: ignore[attr-defined]
    assert run_of(app, "adopted.flaky").get(timeout=SOON) == 2
    assert tasks["adopted.flaky"].delay("b", times=2).get(timeout=SOON) == 2


def test_a_run_whose_process_dies_goes_on_though_its_message_was_acked_early(app: Celery, tasks: Any) -> None:
    assert not tasks["adopted.early"].acks_late
    app.flows.send("early/killed")  # type: ignore[attr-defined]
    run = run_of(app, "adopted.early")
    assert run.get(timeout=SOON) == "alive"
    # Celery would have told FAILURE for the lost process.
    assert AsyncResult(run.id, app=app).get(timeout=SOON) == "alive"


# -- limits on plain calls


def held_one(world: World, account: str, start: Callable[[dict[str, Any]], Any]) -> None:
    """Of two calls with one key the second waits in the store for the first, by any way in."""
    first = start({"account": account, "gate": f"gate {account}"})
    eventually(lambda: f"sync {account} {first.id}" in world.lines(), within=SOON)
    second = start({"account": account})
    held = "SELECT 1 FROM flows_runs WHERE id = :id AND status = 'queued' AND held_at IS NOT NULL"
    eventually(lambda: world.rows(held, id=second.id), within=SOON)
    world.open_gate(f"gate {account}")
    assert first.get(timeout=SOON) == second.get(timeout=SOON) == account


def by_beat(app: Celery, kwargs: dict[str, Any]) -> Any:
    beat = Scheduler(app, lazy=True)
    return beat.apply_async(ScheduleEntry("entry", "adopted.sync", schedule=schedule(60), kwargs=kwargs, app=app))


WAYS: dict[str, Callable[[Celery, dict[str, Any]], Any]] = {
    "delay": lambda app, kwargs: app.tasks["adopted.sync"].delay(**kwargs),
    "delay by position": lambda app, kwargs: app.tasks["adopted.sync"].delay(*kwargs.values()),
    "apply_async": lambda app, kwargs: app.tasks["adopted.sync"].apply_async(kwargs=kwargs),
    "canvas": lambda app, kwargs: chain(app.tasks["adopted.sync"].si(**kwargs)).apply_async(),
    "group": lambda app, kwargs: group([app.tasks["adopted.sync"].s(**kwargs)]).apply_async()[0],
    "beat": by_beat,
    "send_task": lambda app, kwargs: app.send_task("adopted.sync", kwargs=kwargs),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_keyed_limit_holds_for_every_way_in(app: Celery, world: World, way: str) -> None:
    held_one(world, way.replace(" ", "_"), lambda kwargs: WAYS[way](app, kwargs))


def test_a_keyed_limit_holds_for_messages_of_a_client_without_us(stranger: Celery, world: World) -> None:
    held_one(world, "stranger", lambda kwargs: stranger.send_task("adopted.sync", kwargs=kwargs))
    held_one(world, "positional", lambda kwargs: stranger.send_task("adopted.sync", args=list(kwargs.values())))


def test_different_keys_do_not_wait_for_each_other(tasks: Any, world: World) -> None:
    first = tasks["adopted.sync"].delay("k1", gate="gate k1")
    assert tasks["adopted.sync"].delay("k2").get(timeout=SOON) == "k2"
    world.open_gate("gate k1")
    first.get(timeout=SOON)


def test_a_call_that_is_skipped_reads_revoked(tasks: Any, app: Celery) -> None:
    assert tasks["adopted.once"].delay("a", 1, 2, x=3).get(timeout=SOON)[:3] == ["a", [1, 2], {"x": 3}]
    skipped = tasks["adopted.once"].delay("a")
    with pytest.raises(TaskRevokedError):
        skipped.get(timeout=SOON)
    assert "rate limit" in app.flows.run(skipped.id).reason  # type: ignore[attr-defined]


def test_a_skipped_call_of_a_client_without_us_reads_revoked(stranger: Celery) -> None:
    assert stranger.send_task("adopted.once", args=["b"]).get(timeout=SOON)[0] == "b"
    with pytest.raises(TaskRevokedError):
        stranger.send_task("adopted.once", kwargs={"name": "b"}).get(timeout=SOON)


def test_a_singleton_skips_calls_while_one_is_there(tasks: Any, world: World) -> None:
    first = tasks["adopted.alone"].delay("s")
    with pytest.raises(TaskRevokedError):
        tasks["adopted.alone"].delay(name="s").get(timeout=SOON)
    world.open_gate("alone s")
    assert first.get(timeout=SOON) == "s"


def test_arguments_arrive_with_their_types(tasks: Any) -> None:
    given = datetime(2026, 1, 2, 3, 4, tzinfo=UTC), Decimal("1.50")
    assert tasks["adopted.kinds"].delay(*given).get(timeout=SOON) == [
        "datetime", "Decimal", "2026-01-02 03:04:00+00:00", "1.50",
    ]  # fmt: skip


def test_a_call_that_does_not_fit_is_a_type_error_at_the_call(tasks: Any, stranger: Celery) -> None:
    with pytest.raises(TypeError):
        tasks["adopted.add"].delay(1)
    with pytest.raises(TypeError):
        stranger.send_task("adopted.add", args=[1]).get(timeout=SOON)


def test_chains_chords_and_groups_of_limited_tasks_give_celerys_values(tasks: Any) -> None:
    add, total = tasks["adopted.add"], tasks["adopted.total"]
    assert chain(add.s(1, 2), add.s(10), tasks["adopted.take"].s()).apply_async().get(timeout=SOON) == 14
    assert group(add.s(n, n) for n in range(3)).apply_async().get(timeout=SOON) == [0, 2, 4]
    assert chord([add.s(n, n) for n in range(3)])(total.s()).get(timeout=SOON) == 6


def test_link_and_link_error_are_called_once(tasks: Any, world: World) -> None:
    tasks["adopted.add"].apply_async((20, 1), link=tasks["adopted.note"].s()).get(timeout=SOON)
    world.told("note 21")
    failed = tasks["adopted.trying"].apply_async((9,), link_error=tasks["adopted.note_error"].s())
    with pytest.raises(ValueError, match="not yet"):
        failed.get(timeout=SOON)
    world.told(f"note_error {failed.id} ValueError")
    assert (world.counts()["note 21"], world.counts()[f"note_error {failed.id} ValueError"]) == (1, 1)


def test_a_skipped_member_fails_its_chord(tasks: Any, app: Celery) -> None:
    tasks["adopted.once"].delay("c").get(timeout=SOON)
    body = chord([tasks["adopted.once"].s("c"), tasks["adopted.add"].s(1, 1)])(tasks["adopted.total"].s())
    with pytest.raises(ChordError):
        AsyncResult(body.id, app=app).get(timeout=SOON)


def test_a_countdown_is_a_scheduled_run_and_no_eta_message(tasks: Any, app: Celery, world: World) -> None:
    later = tasks["adopted.add"].apply_async((1, 2), countdown=3600)
    assert app.flows.run(later.id).status == "scheduled"  # type: ignore[attr-defined]
    later.revoke()
    with pytest.raises(TaskRevokedError):
        later.get(timeout=SOON)


def test_queue_and_id_of_a_call_hold(tasks: Any, world: World) -> None:
    called = tasks["adopted.trying"].apply_async((1,), queue="side", task_id="my-own")
    assert (called.id, called.get(timeout=SOON)) == ("my-own", 1)
    kept = world.rows("SELECT message FROM flows_runs WHERE id = 'my-own'")[0][0]
    # What the task says itself is not kept with each run.
    assert json.loads(kept) == {"queue": "side"}


# -- self.retry, hooks and ends


def test_retry_keeps_id_and_count_and_is_bounded_by_max_retries(tasks: Any, world: World) -> None:
    called = tasks["adopted.trying"].delay(2)
    assert called.get(timeout=SOON) == 2
    assert [f"try {n} {called.id}" in world.lines() for n in range(4)] == [True, True, True, False]
    with pytest.raises(ValueError, match="not yet"):
        tasks["adopted.trying"].delay(until=3).get(timeout=SOON)


def test_a_retrys_countdown_is_kept_by_the_store(tasks: Any, app: Celery, world: World) -> None:
    called = tasks["adopted.trying"].delay(1, delay=3600)
    eventually(lambda: app.flows.run(called.id).status == "suspended", within=SOON)  # type: ignore[attr-defined]
    [(due, began)] = world.rows("SELECT wake_at, created_at FROM flows_runs WHERE id = :id", id=called.id)
    assert due - began == pytest.approx(3600e6, abs=30e6)
    with world.redis() as client:
        eventually(lambda: client.hlen("unacked") == 0)
    called.revoke()


def test_celerys_hooks_get_the_arguments_of_the_call(tasks: Any, world: World) -> None:
    told = tasks["adopted.once"].delay("hooked", 1, x=2).get(timeout=SOON)
    shown = f"{told[3]} {sorted(told[4].items())}"
    assert told[3:] == [["hooked", 1], {"x": 2}]
    world.told(f"before_start {shown}")
    world.told(f"on_success {told} {shown}")
    with pytest.raises(ValueError, match="not yet"):
        tasks["adopted.trying"].delay(until=77).get(timeout=SOON)
    shown = "[] [('delay', 0), ('until', 77)]"
    world.told(f"on_retry ValueError {shown}", times=2)
    world.told(f"on_failure ValueError {shown}")


@pytest.mark.parametrize("how", ["ignore", "reject"])
def test_ignore_and_reject_end_the_run_as_cancelled(tasks: Any, app: Celery, how: str) -> None:
    called = tasks["adopted.ended"].delay(how)
    with pytest.raises(TaskRevokedError):
        called.get(timeout=SOON)
    run = app.flows.run(called.id)  # type: ignore[attr-defined]
    assert (run.status, run.reason.partition(":")[0].lower()) == ("cancelled", how)


def test_a_hard_time_limit_fails_a_plain_tasks_run(tasks: Any, app: Celery, world: World) -> None:
    called = tasks["adopted.stuck"].delay()
    with pytest.raises(Exception, match="TimeLimitExceeded"):
        called.get(timeout=SOON)
    assert app.flows.run(called.id).status == "failed"  # type: ignore[attr-defined]
    assert world.counts()["stuck"] == 1


def test_a_limited_task_whose_process_dies_runs_again(tasks: Any) -> None:
    assert tasks["adopted.killed"].delay().get(timeout=SOON) == "alive"


def test_a_task_whose_result_nobody_keeps_may_return_anything(tasks: Any, app: Celery) -> None:
    called = tasks["adopted.unanswered"].delay()
    assert app.flows.run(called.id).get(timeout=SOON) is None  # type: ignore[attr-defined]


# -- durable


def test_a_durable_task_keeps_its_steps_over_its_retries(tasks: Any, world: World) -> None:
    assert tasks["adopted.process"].delay(7).get(timeout=SOON) == [70, True, 0]
    assert tasks["adopted.process"].delay(order=8, fail=2).get(timeout=SOON) == [80, True, 2]
    assert (world.counts()["charge 7"], world.counts()["charge 8"]) == (1, 1)
    with pytest.raises(ValueError, match="again"):
        tasks["adopted.process"].delay(9, fail=3).get(timeout=SOON)


def test_a_durable_task_takes_calls_of_a_client_without_us(stranger: Celery, app: Celery) -> None:
    called = stranger.send_task("adopted.process", args=[11], task_id="from-elsewhere")
    assert called.get(timeout=SOON) == [110, True, 0]
    assert app.flows.run("from-elsewhere").output == [110, True, 0]  # type: ignore[attr-defined]


def test_a_durable_task_in_a_chain_and_a_chord(tasks: Any) -> None:
    line = tasks["adopted.add"].s(1, 2) | tasks["adopted.process"].s()
    assert line.apply_async().get(timeout=SOON)[0] == 30
    body = chord([tasks["adopted.process"].s(n) for n in (1, 2)])(tasks["adopted.note"].s())
    body.get(timeout=SOON)


def test_limited_and_durable_tasks_are_steps_of_a_flow(tasks: Any) -> None:
    assert tasks["adopted.asking"].delay().get(timeout=SOON) == [3, 30]


def test_a_step_whose_limited_task_is_skipped_fails_with_the_reason(tasks: Any) -> None:
    assert tasks["adopted.asking_once"].delay(name="asked").get(timeout=SOON) == ["done", "asked"]
    name, message, after = tasks["adopted.asking_once"].delay(name="asked").get(timeout=SOON)
    assert (name, after) == ("TaskRevokedError", "goes on")
    assert "rate limit: more than 1 in 1 hour" in message


def test_map_starmap_and_chunks_call_a_limited_task_as_a_function(tasks: Any, world: World) -> None:
    once = tasks["adopted.once"]
    before = world.rows("SELECT count(*) FROM flows_runs")
    mapped = once.map(["f", "f"]).apply_async().get(timeout=SOON)
    assert [one[:3] for one in mapped] == [["f", [], {}]] * 2
    assert once.starmap([("f", 1), ("f", 2)]).apply_async().get(timeout=SOON)[1][:2] == ["f", [2]]
    parts = once.chunks([("f",), ("f",), ("f",)], 2).apply_async().get(timeout=SOON)
    assert [len(part) for part in parts] == [2, 1]
    assert world.rows("SELECT count(*) FROM flows_runs") == before


def test_replace_is_refused_by_name(tasks: Any) -> None:
    with pytest.raises(Exception, match=r"self\.replace"):
        tasks["adopted.replaced"].delay().get(timeout=SOON)


def test_the_worker_boots_and_logs_no_error_of_ours(worker: Worker) -> None:
    assert worker.exit_code is None
    assert "Traceback" not in worker.log.partition(" ready.")[0]
    assert MaxRetriesExceededError.__name__ not in worker.log
