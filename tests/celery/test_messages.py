"""What goes to the broker for a run: one small message, by Celery's own routes. Real Redis, no worker."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, Task
from kombu.entity import Queue

from celeryflows import ConfigurationError, Event, InvalidEvent
from celeryflows.celery_bridge.broker import CeleryBroker
from celeryflows.celery_bridge.bundling import TASK
from celeryflows.model.runs import Delivery
from celeryflows.scheduler.figures import BUCKET
from tests.celery.apps import shop
from tests.worlds import World


class Sending(Task):
    """A base that has its own way to send."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        return super().apply_async(*args, **options)


@pytest.fixture(scope="module")
def made(make_world: Callable[..., World]) -> World:
    return make_world("sqlite", result_backend=None)


@pytest.fixture
def world(made: World) -> World:
    with made.redis() as client:
        client.flushdb()
    return made


@pytest.fixture
def app(world: World) -> Celery:
    world.count_as_quick("shop.ordered")
    return world.app(shop.sheet)


def messages(world: World, queue: str = "celery") -> list[dict[str, Any]]:
    """What waits in a queue, oldest first."""
    with world.redis() as client:
        return [json.loads(text) for text in reversed(client.lrange(queue, 0, -1))]


def body(message: dict[str, Any]) -> Any:
    """The message's arguments, as the worker decodes them."""
    return json.loads(base64.b64decode(message["body"]))[:2]


def test_a_message_names_its_run_and_carries_nothing_else(app: Celery, world: World) -> None:
    called = app.tasks["shop.double"].delay(value="a secret")
    [message] = messages(world)
    assert (message["headers"]["task"], message["headers"]["id"]) == ("shop.double", called.id)
    assert body(message) == [[], {}]
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("()", "{}")
    assert "a secret" not in json.dumps(message)
    assert (message["headers"]["eta"], message["headers"]["expires"]) == (None, None)


def runs_of(message: dict[str, Any]) -> list[str]:
    """The runs that a message is for."""
    return body(message)[0][1] if message["headers"]["task"] == TASK else [message["headers"]["id"]]


@pytest.mark.parametrize(("count", "sizes"), [(15, [1] * 15), (25, [3] * 8 + [1]), (80, [8] * 10)])
def test_runs_of_one_list_go_together_in_their_order(app: Celery, world: World, count: int, sizes: list[int]) -> None:
    event_ids = app.flows.send([Event("shop/ordered", {"name": str(n)}) for n in range(count)])
    of_event = dict(world.rows("SELECT event_id, id FROM flows_runs WHERE flow = 'shop.ordered'"))
    sent = [runs_of(message) for message in messages(world)]
    assert [len(runs) for runs in sent] == sizes
    assert [run for runs in sent for run in runs] == [of_event[id] for id in event_ids]


def test_a_bundle_tells_its_flow_and_the_ids_of_its_runs(app: Celery, world: World) -> None:
    app.flows.send([Event("shop/ordered", {"name": "a secret"}) for _ in range(16)])
    message = messages(world)[0]
    assert message["headers"]["argsrepr"] == "('shop.ordered', 2 runs)"
    assert body(message) == [["shop.ordered", runs_of(message), False], {}]
    assert "a secret" not in json.dumps(message)


ALONE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "its task has a time limit": ({"time_limit": 9}, {}),
    "its task has a rate limit": ({"rate_limit": "10/s"}, {}),
    "it is acknowledged early": ({"acks_late": False}, {}),
    "its base sends by itself": ({"base": Sending}, {}),
    "who sends is watched": ({}, {"task_send_sent_event": True}),
    "the app wants it": ({}, {"flows_max_bundle": 1}),
    "workers are watched": ({}, {"worker_send_task_events": True}),
}


@pytest.mark.parametrize("why", ALONE)
def test_what_celery_counts_limits_or_tells_of_has_messages_of_its_own(world: World, why: str) -> None:
    options, settings = ALONE[why]
    app = world.app(shop.sheet, **settings)
    app.flows.flow(lambda ctx: None, name="shop.alone", trigger="shop/alone", **options)
    world.count_as_quick("shop.alone")
    app.flows.send([Event("shop/alone")] * 16)
    assert [message["headers"]["task"] for message in messages(world)] == ["shop.alone"] * 16


PACES = {"nobody has counted it": None, "a few runs tell nothing": (20, 20), "it is slow": (100, 1_100_000)}


@pytest.mark.parametrize("why", PACES)
def test_a_flow_that_is_not_known_as_quick_has_messages_of_its_own(world: World, why: str) -> None:
    app = world.app(shop.sheet)
    app.flows.flow(lambda ctx: None, name="shop.unknown", trigger="shop/unknown")
    if (pace := PACES[why]) is not None:
        with world.store.connection() as connection:
            at = connection.now() // BUCKET * BUCKET
            connection.figures.put(at, {"shop.unknown": {"completed": pace[0], "took": pace[1]}}, None)
    app.flows.send([Event("shop/unknown")] * 16)
    assert len(messages(world)) == 16


def test_calls_and_what_is_sent_again_have_messages_of_their_own(app: Celery, world: World) -> None:
    dispatcher = app.flows.runtime.dispatcher
    dispatcher.send_runs([Delivery(f"again{n}", "shop.ordered", alone=True) for n in range(16)])
    dispatcher.send_runs([Delivery(f"called{n}", "shop.ordered", message='{"priority": 3}') for n in range(16)])
    dispatcher.send_runs([Delivery("parent", "shop.ordered", branch=f"group[{n}]") for n in range(16)])
    assert len(messages(world)) + len(messages(world, "celery\x06\x163")) == 48


def test_a_bundle_goes_where_its_flow_goes(world: World) -> None:
    app = world.app(shop.sheet, task_routes={"shop.routed": {"queue": "routed"}})
    world.count_as_quick("shop.routed", "shop.placed")
    app.flows.flow(lambda ctx: None, name="shop.routed", trigger="shop/listed")
    app.flows.flow(lambda ctx: None, name="shop.placed", trigger="shop/listed", queue="placed", priority=3)
    app.flows.send([Event("shop/listed")] * 16)
    assert len(messages(world, "routed")) == 8
    with world.redis() as client:
        [placed] = [key.decode() for key in client.keys("placed*")]
    assert [message["properties"]["priority"] for message in messages(world, placed)] == [3] * 8


def test_many_messages_look_after_their_queue_once(app: Celery, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[str] = []
    bind = Queue.bind
    monkeypatch.setattr(Queue, "bind", lambda queue, channel: bound.append(queue.name) or bind(queue, channel))
    app.flows.runtime.dispatcher.send_runs([Delivery(f"run{n}", "shop.ordered", alone=True) for n in range(25)])
    assert len(messages(world)) == 25
    assert bound == ["celery"]


def test_what_is_scheduled_sends_no_message(app: Celery, world: World) -> None:
    flow = app.tasks["shop.double"]
    naive = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
    times = [{"countdown": 60}, {"eta": naive}, {"eta": datetime.now(UTC) + timedelta(days=2)}]
    for when in times:
        assert app.flows.run(flow.apply_async(kwargs={"value": 1}, **when).id).status == "scheduled"
    assert messages(world) == []


def test_a_moment_that_is_past_starts_at_once(app: Celery, world: World) -> None:
    app.tasks["shop.double"].apply_async(kwargs={"value": 1}, eta=datetime.now(UTC) - timedelta(hours=1))
    assert len(messages(world)) == 1


def test_queue_priority_and_time_limits_of_a_call_are_the_messages(app: Celery, world: World) -> None:
    app.tasks["shop.double"].apply_async(kwargs={"value": 1}, queue="side", priority=7, time_limit=9, soft_time_limit=8)
    [message] = messages(world, "side\x06\x166") or messages(world, "side")
    assert message["properties"]["priority"] == 7
    assert message["headers"]["timelimit"] == [9, 8]


def test_queue_and_priority_of_the_declaration_hold_for_every_message(world: World) -> None:
    app = world.app(shop.sheet)
    flow = app.flows.flow(lambda ctx: None, name="shop.declared", queue="declared", priority=3)
    flow.delay()
    app.flows.flow(lambda ctx: None, name="shop.heard", trigger="shop/heard", queue="declared")
    app.flows.send("shop/heard")
    with world.redis() as client:
        queues = [key.decode() for key in client.keys("declared*")]
    found = {m["headers"]["task"]: m["properties"]["priority"] for queue in queues for m in messages(world, queue)}
    assert found == {"shop.declared": 3, "shop.heard": 0}


def test_task_routes_choose_the_queue(world: World) -> None:
    app = world.app(shop.sheet, task_routes={"shop.d*": {"queue": "doubles"}})
    app.tasks["shop.double"].delay(value=1)
    app.tasks["shop.echo"].delay()
    assert [len(messages(world, queue)) for queue in ("doubles", "celery")] == [1, 1]


def test_a_service_without_flow_code_starts_what_others_declared(app: Celery, world: World) -> None:
    app.flows.send("shop/ordered", {"name": "so that the flows are known"})
    service = world.app(type(shop.sheet)("shop"))
    [event] = service.flows.send("shop/ordered", {"name": "Ann"})
    [(run_id,)] = world.rows("SELECT id FROM flows_runs WHERE event_id = :id", id=event)
    assert messages(world)[-1]["headers"]["id"] == run_id
    assert messages(world)[-1]["headers"]["task"] == "shop.ordered"


def test_a_service_without_flow_code_sends_as_the_flow_was_declared(world: World) -> None:
    app = world.app(shop.sheet)
    app.flows.flow(lambda ctx: None, name="shop.aside", trigger="shop/aside", queue="aside", priority=3)
    app.flows.send("shop/aside")
    service = world.app(type(shop.sheet)("shop"))
    [event] = service.flows.send("shop/aside")
    [(run_id,)] = world.rows("SELECT id FROM flows_runs WHERE event_id = :id", id=event)

    dispatcher, name = service.flows.runtime.dispatcher, service.flows.runtime.app
    # Whoever leads wakes the runs of all, and sends again what was lost.
    dispatcher.send_runs([Delivery("woken", "shop.aside")])
    with world.redis() as client:
        queues = [key.decode() for key in client.keys("aside*")]
    found = [(m["headers"]["id"], m["properties"]["priority"]) for queue in queues for m in messages(world, queue)]
    assert {(run_id, 3), ("woken", 3)} < set(found)
    assert (len(found), messages(world)) == (3, [])
    assert CeleryBroker(service, name).queue_of(Delivery("woken", "shop.aside")) == "aside"
    assert CeleryBroker(app, name).queue_of(Delivery("woken", "shop.aside")) == "aside"


def test_get_without_a_result_backend_names_what_works_without(app: Celery) -> None:
    called = app.tasks["shop.double"].delay(value=1)
    with pytest.raises(ConfigurationError, match=rf"flows\.run\('{called.id}'\)\.get"):
        called.get(timeout=1)


@pytest.mark.parametrize("args", [(1, 2), ({"a": 1}, {"b": 2})])
def test_more_than_one_argument_is_a_type_error_at_the_call(app: Celery, world: World, args: Any) -> None:
    with pytest.raises(TypeError, match="one mapping"):
        app.tasks["shop.double"].delay(*args)
    assert messages(world) == []


def test_an_event_takes_no_keywords_beside_it(app: Celery) -> None:
    with pytest.raises(TypeError, match="no keyword"):
        app.tasks["shop.double"].delay(Event("shop/called"), value=1)


@pytest.mark.parametrize("task_id", ["", "x" * 257, "new\nline"])
def test_a_task_id_that_cannot_be_a_run_id_is_refused(app: Celery, world: World, task_id: str) -> None:
    with pytest.raises(InvalidEvent, match="run id"):
        app.tasks["shop.double"].apply_async(kwargs={"value": 1}, task_id=task_id)
    assert messages(world) == []


def test_what_cannot_be_stored_is_refused_with_its_path_and_nothing_starts(app: Celery, world: World) -> None:
    with pytest.raises(InvalidEvent, match=r"\$\.value"):
        app.tasks["shop.double"].delay(value=float("nan"))
    assert messages(world) == []
