"""`task_always_eager`: runs in place, on a store in memory, without broker, file or clock."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import TaskRevokedError

from celeryflows import Batch, Debounce, Event, Flows, NonRetriableError, StepError


def times_two(value: int) -> int:
    return value * 2


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Celery]:
    app = Celery("eager", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(task_always_eager=True, flows_store_url=f"sqlite:///{tmp_path}/never.db")
    flows, app.seen = Flows(app), []
    declare_tasks(app)
    declare_flows(flows, app)
    declare_awkward_flows(flows, app)
    yield app
    assert not (tmp_path / "never.db").exists()
    app.close()


def declare_tasks(app: Celery) -> None:
    @app.task(name="add", shared=False)
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="total", shared=False)
    def total(values: list[int]) -> int:
        return sum(values)

    @app.task(name="note", shared=False)
    def note(value: Any) -> None:
        app.seen.append(value)


def declare_flows(flows: Flows, app: Celery) -> None:
    @flows.flow(name="double", trigger="eager/asked")
    def double(ctx: Any) -> int:
        ctx.step.sleep("for long", "3 days")
        value: int = ctx.step.run("double", times_two, ctx.event.data["value"])
        app.seen.append(value)
        return value

    @flows.flow(name="patient")
    def patient(ctx: Any) -> Any:
        event = ctx.step.wait_for_event("go", event="eager/go", timeout="1 day", lookback="run")
        return event.data if event else None

    @flows.flow(name="asks")
    def asks(ctx: Any) -> Any:
        ctx.step.send_event("tell", Event("eager/go", {"answer": 42}))
        event = ctx.step.wait_for_event("go", event="eager/go", timeout="1 day")
        return event.data["answer"] if event else None


def declare_awkward_flows(flows: Flows, app: Celery) -> None:
    @flows.flow(name="failing")
    def failing(ctx: Any) -> None:
        ctx.step.run("reserve", run_out)

    @flows.flow(name="flaky")
    def flaky(ctx: Any) -> int:
        return int(ctx.step.run("try", third_time, ctx))

    @flows.flow(name="quits")
    def quits(ctx: Any) -> None:
        ctx.step.run("quit", lambda: flows.run(ctx.run_id).cancel())
        ctx.step.sleep("never", "1s")

    @flows.flow(name="nested")
    def nested(ctx: Any) -> str:
        return str(ctx.step.run("start", lambda: app.tasks["double"].delay(value=50).get()))


def run_out() -> None:
    raise NonRetriableError("no stock")


def third_time(ctx: Any) -> int:
    if ctx.attempt < 2:
        raise ValueError("not yet")
    return int(ctx.attempt)


def test_a_call_runs_in_place_and_sleeps_end_at_once(app: Celery) -> None:
    began = time.monotonic()
    result = app.tasks["double"].delay(value=4)
    assert (result.get(), result.state) == (8, "SUCCESS")
    assert time.monotonic() - began < 5


def test_debounced_and_gathered_calls_wait_for_nothing(app: Celery) -> None:
    @app.flows.flow(name="late", debounce=Debounce("1h"))
    def late(ctx: Any) -> Any:
        return ctx.event.data["n"]

    @app.flows.flow(name="gathers", batch=Batch(2, "1h"))
    def gathers(ctx: Any) -> Any:
        return [event.data["n"] for event in ctx.events]

    assert late.delay(n=1).get() == 1
    assert gathers.delay(n=2).get() == [2]


def test_a_run_that_is_cancelled_on_its_way_reads_revoked(app: Celery) -> None:
    result = app.tasks["quits"].delay()
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get()


def test_retries_wait_for_nothing(app: Celery) -> None:
    assert app.tasks["flaky"].delay().get() == 2


def test_a_failed_run_raises_its_error(app: Celery) -> None:
    result = app.tasks["failing"].delay()
    assert result.state == "FAILURE"
    with pytest.raises(StepError, match="no stock"):
        result.get()


def test_a_failed_run_raises_at_the_call_where_celery_would(app: Celery) -> None:
    app.conf.task_eager_propagates = True
    with pytest.raises(StepError, match="no stock"):
        app.tasks["failing"].delay()


def test_a_wait_sees_what_was_sent_and_else_times_out_at_once(app: Celery) -> None:
    assert app.tasks["patient"].delay().get() is None
    assert app.tasks["asks"].delay().get() == 42


def test_a_countdown_is_no_wait(app: Celery) -> None:
    assert app.tasks["double"].apply_async(kwargs={"value": 3}, countdown=3600).get() == 6


def test_the_same_task_id_twice_is_one_run(app: Celery) -> None:
    first = app.tasks["double"].apply_async(kwargs={"value": 3}, task_id="one")
    second = app.tasks["double"].apply_async(kwargs={"value": 4}, task_id="one")
    assert (first.get(), second.get(), app.seen) == (6, 6, [6])


def test_an_event_runs_its_flows_in_place(app: Celery) -> None:
    app.flows.send("eager/asked", {"value": 21})
    assert app.seen == [42]


def test_a_call_inside_a_step_runs_inside_it(app: Celery) -> None:
    assert app.tasks["nested"].delay().get() == "100"


def test_apply_runs_in_place_as_any_tasks_does(app: Celery) -> None:
    assert app.tasks["double"].apply(kwargs={"value": 5}).get() == 10


def test_link_is_called_with_the_value(app: Celery) -> None:
    app.tasks["double"].apply_async(kwargs={"value": 6}, link=app.tasks["note"].s())
    assert app.seen == [12, 12]


def test_chains_groups_and_chords_go_through_flows(app: Celery) -> None:
    tasks = app.tasks
    assert chain(tasks["add"].s(1, 2), tasks["double"].s(), tasks["add"].s(1)).apply_async().get() == 7
    assert group(tasks["double"].s(value=1), tasks["add"].s(2, 2)).apply_async().get() == [2, 4]
    assert chord([tasks["double"].s(value=1), tasks["double"].s(value=2)])(tasks["total"].s()).get() == 6
