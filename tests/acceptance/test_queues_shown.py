"""Queues on the desk, of an app that names and routes them in each of Celery's ways: what the store and what the
broker has in each, who serves it, and that nobody is called deaf for a queue that is not its own."""

from collections.abc import Iterator

import pytest

from celeryflows import Event
from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.console.crew import Crew, Queue, crew
from tests.celery.apps.queued import SHEET
from tests.waiting import eventually
from tests.worlds import BRISK, World

ROUTED = {
    "task_default_queue": "main",
    "task_routes": {"queued.ship*": {"queue": "shipping"}},
    "task_queues": None,
    "broker_transport_options": {"global_keyprefix": "shop:", "priority_steps": [0, 3, 6, 9]},
    **BRISK,
}
EVENTS = {"main": "order/placed", "shipping": "order/packed", "archive": "order/kept"}


@pytest.fixture(scope="module")
def world(make_world) -> World:
    return make_world(**ROUTED)


@pytest.fixture(scope="module")
def app(world):
    return world.app(SHEET)


@pytest.fixture(scope="module")
def flows(app):
    return app.flows


@pytest.fixture(scope="module", autouse=True)
def worker(world, flows) -> Iterator[None]:
    with world.worker("tests.celery.apps.queued", "-P", "solo", "-Q", "main,archive"):
        yield


def queues(found: Crew) -> dict[str, Queue]:
    return {queue.name: queue for queue in found.queues}


def test_runs_stand_in_the_queues_that_their_messages_go_to_with_what_the_broker_has_there(world, flows):
    flows.send([Event(name, {"n": n}) for name in EVENTS.values() for n in range(3)])
    world.told("billed 2")
    world.told("kept 2")

    def figures() -> dict[str, tuple[int, int | None, int]]:
        found = queues(crew(flows.runtime))
        return {name: (queue.waiting, queue.messages, queue.workers) for name, queue in found.items()}

    eventually(lambda: figures()["main"] == figures()["archive"] == (0, 0, 1), every=0.2)
    assert figures()["shipping"] == (3, 3, 0)
    assert {one.flow: one.count for one in queues(crew(flows.runtime))["shipping"].flows} == {"queued.ship": 3}


def test_nobody_is_called_deaf_for_what_waits_in_a_queue_that_it_does_not_serve(world, app, flows):
    app.tasks["queued.bill"].apply_async(kwargs={"n": 77}, queue="elsewhere")
    flows.send(Event("order/packed", {"n": 5}))
    world.age_messages(60)

    found = crew(flows.runtime)
    assert queues(found)["elsewhere"].waiting == 1
    assert queues(found)["elsewhere"].messages == 1
    assert queues(found)["main"].oldest is None
    assert [hand.deaf for hand in found.hands] == [False]


def test_a_routing_key_leads_to_the_queue_that_is_bound_by_it(app, flows):
    app.amqp.queues.add("abroad", routing_key="post.abroad", exchange="")
    assert "abroad" in queues(crew(flows.runtime))


def test_under_a_key_prefix_nothing_is_taken_for_lost(world, app, flows):
    broker = CeleryBroker(app, "queued")
    assert broker.length("shipping") == len(world.rows("SELECT 1 FROM flows_runs WHERE flow = 'queued.ship'"))
    assert broker.length("main") == 0
    (kept,) = world.rows("SELECT value FROM flows_meta WHERE key = 'broker_epoch'")
    assert broker.epoch() == kept[0]
    broker.close()


def test_a_broker_that_is_away_is_not_asked_at_each_look(world):
    away = world.app(SHEET, broker_url="redis://127.0.0.1:1/0").flows
    found = queues(crew(away.runtime))
    assert found["shipping"].messages is None
    assert found["shipping"].waiting >= 3
    asked = []
    away.runtime.queues._ask = lambda names: asked.append(names) or {}
    assert queues(crew(away.runtime))["shipping"].messages is None
    assert asked == []
