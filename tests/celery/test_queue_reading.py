"""Which tasks the messages of a queue in Redis name: those that wait there, and those that are answered."""

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery

from celeryflows.celery_bridge import queue_reading
from celeryflows.celery_bridge.broker import CeleryBroker

Read = Callable[[str], bool | None]


@pytest.fixture(params=["", "ours:"], ids=["plain", "prefixed"])
def app(broker_url: str, request: pytest.FixtureRequest) -> Iterator[Celery]:
    app = Celery("shop", broker=broker_url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": request.param}
    with redis.Redis.from_url(broker_url) as client:
        client.flushdb()
    yield app
    app.close()


@pytest.fixture
def read(app: Celery) -> Iterator[Read]:
    broker = CeleryBroker(app, "shop")
    yield lambda task_id: broker.holds("celery", task_id, time.monotonic())
    broker.close()


def test_a_task_of_any_priority_is_found_while_it_waits_and_no_other(app: Celery, read: Read) -> None:
    for n in range(1100):
        app.send_task("shop.pack", task_id=f"t{n}", priority=n % 10)
    assert [read(f"t{n}") for n in (0, 7, 599, 1099, 1100)] == [True, True, True, True, False]
    app.control.purge()
    assert read("t0") is False


def test_what_stands_in_arguments_is_no_task(app: Celery, read: Read) -> None:
    app.send_task("shop.pack", args=['"id": "t1"'], kwargs={"id": "t2"}, task_id="t3")
    assert [read(f"t{n}") for n in (1, 2, 3)] == [False, False, True]


def test_the_callback_of_a_task_names_it(app: Celery, read: Read) -> None:
    app.send_task("celeryflows.answer", args=[1], kwargs={"task_id": "t1"}, parent_id="t1")
    assert read("t1") is True


def test_nobody_can_tell_of_messages_that_do_not_name_their_task_nor_of_very_many(
    app: Celery, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.conf.task_protocol = 1
    app.send_task("shop.pack", task_id="t1")
    assert read("t1") is None
    app.control.purge()
    # What it could not tell it is not asked again at once.
    assert read("t1") is None
    monkeypatch.setattr(queue_reading, "REST", 0)
    assert read("t1") is False
    monkeypatch.setattr(queue_reading, "MOST", 3)
    app.conf.task_protocol = 2
    for n in range(4):
        app.send_task("shop.pack", task_id=f"t{n}")
    assert read("t1") is None


def test_a_reading_serves_until_a_newer_one_is_asked_for(app: Celery) -> None:
    broker, before = CeleryBroker(app, "shop"), time.monotonic()
    assert broker.holds("celery", "t1", before) is False
    app.send_task("shop.pack", task_id="t1")
    assert broker.holds("celery", "t1", before) is False
    assert broker.holds("celery", "t1", time.monotonic()) is True
    broker.close()
