"""Untouched tasks in an app with a Flows: byte for byte the same on the wire, and the same for their callers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery, chain, group
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

from celeryflows import Concurrency, Flows, OnCron
from tests.worlds import World

QUEUES = ("celery", "slow", "routed")
WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def add(x: Any, y: Any = 1) -> Any:
    return x + y


def limited(x: Any) -> Any:
    return x


def tell(self: Any, **named: Any) -> Any:
    return named


def make(world: World) -> Celery:
    """The same app, each time anew."""
    app = world.keep(Celery("wire", set_as_current=False))
    app.conf.update(world.settings, task_routes={"wire.tell": {"queue": "routed", "priority": 3}})
    app.oid = app._local.oid = "the-reply-queue"
    return app


def declare(app: Celery) -> None:
    app.task(name="wire.add", shared=False)(add)
    app.task(name="wire.tell", shared=False, bind=True, max_retries=2, rate_limit="10/m", autoretry_for=(ValueError,))(
        tell
    )


def calls(app: Celery) -> None:
    """One of each way."""
    task, other = app.tasks["wire.add"], app.tasks["wire.tell"]
    task.apply_async((1, 2), task_id="t1")
    task.apply_async((), {"x": WHEN}, task_id="t2", countdown=None, eta=WHEN, expires=WHEN, queue="slow")
    other.apply_async(
        kwargs={"a": [1, {"b": None}]},
        task_id="t3",
        link=task.s(1).set(task_id="l1"),
        link_error=task.si(1, 2).set(task_id="l2"),
        headers={"tenant": "blue"},
        time_limit=9,
        soft_time_limit=8,
        shadow="shown",
        ignore_result=True,
    )
    app.send_task("wire.add", (1,), task_id="t4")
    app.send_task("elsewhere.task", kwargs={"a": 1}, task_id="t5", priority=2)
    chain(task.s(1).set(task_id="c1"), task.s(2).set(task_id="c2")).apply_async(task_id="c2")
    group([task.s(1).set(task_id="g1"), task.s(2).set(task_id="g2")]).apply_async(task_id="g")
    beat = Scheduler(app, lazy=True)
    beat.apply_async(
        ScheduleEntry("e", "wire.add", schedule=schedule(60), args=(1,), options={"task_id": "b1"}, app=app)
    )


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> World:
    return make_world("sqlite", result_backend=None)


@pytest.fixture
def sent(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[Celery], list[bytes]]:
    """The raw messages that an app's calls put into each queue; what Celery rolls dice for is fixed."""

    def found(app: Celery) -> list[bytes]:
        with world.redis() as client:
            client.flushdb()
            numbers = iter(range(10_000))
            for where in ("kombu.utils.uuid.uuid4", "kombu.messaging.uuid", "kombu.transport.virtual.base.uuid"):
                monkeypatch.setattr(where, lambda: f"id-{next(numbers)}", raising=False)
            calls(app)
            return [bytes(one) for key in sorted(client.keys("*")) if client.type(key) == b"list"
                    for one in client.lrange(key, 0, -1)]  # fmt: skip

    return found


def test_untouched_tasks_send_the_same_bytes_as_without_flows(
    world: World, sent: Callable[[Celery], list[bytes]]
) -> None:
    without = make(world)
    declare(without)
    expected = sent(without)
    having = make(world)
    flows = Flows(having)
    declare(having)
    having.task(name="wire.limited", shared=False, concurrency=Concurrency(1))(limited)
    flows.on("wire/happened", "wire.add")
    flows.on(OnCron("0 9 * * *"), "wire.tell")
    assert len(expected) == 9
    assert sent(having) == expected


def test_untouched_tasks_have_the_attributes_that_they_had(world: World) -> None:
    without, having = make(world), make(world)
    declare(without)
    Flows(having).on("wire/happened", "wire.add")
    declare(having)
    for name in ("wire.add", "wire.tell"):
        mine, theirs = having.tasks[name], without.tasks[name]
        told = ("acks_late", "reject_on_worker_lost", "typing", "rate_limit", "max_retries", "ignore_result")
        assert [getattr(mine, one) for one in told] == [getattr(theirs, one) for one in told]
        assert mine(x=1) == theirs(x=1)
        assert mine.apply(kwargs={"x": 2}).get() == theirs.apply(kwargs={"x": 2}).get()
