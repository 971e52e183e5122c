"""Flows in Celery's canvas and callbacks, and called by clients without our extension. One real worker."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError
from celery.result import AsyncResult

from celeryflows import StepError
from tests.celery.apps import shop
from tests.waiting import eventually
from tests.worlds import World

SOON = 15.0


@pytest.fixture(scope="module")
def world(make_world: Callable[..., World]) -> Iterator[World]:
    made = make_world("sqlite")
    with made.worker("tests.celery.apps.shop", "-c", "2", "-Q", "celery,side"):
        yield made


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.app(shop.sheet)


@pytest.fixture(scope="module")
def tasks(app: Celery) -> Any:
    return app.tasks


@pytest.fixture(scope="module")
def stranger(world: World) -> Celery:
    """A client that has neither our extension nor the flows' code."""
    return world.keep(Celery("stranger", broker=world.broker, backend=world.broker, set_as_current=False))


def test_a_chain_goes_into_a_flow_and_out_of_it(tasks: Any) -> None:
    line = chain(tasks["shop.add"].s(1, 2), tasks["shop.slow_double"].s(), tasks["shop.add"].s(10))
    assert line.apply_async().get(timeout=SOON) == 16


def test_a_chain_may_begin_with_a_flow_and_pass_from_flow_to_flow(tasks: Any) -> None:
    line = tasks["shop.slow_double"].s(value=3) | tasks["shop.double"].s()
    assert line.apply_async().get(timeout=SOON) == 12


def test_the_steps_of_a_chain_keep_their_parents(tasks: Any) -> None:
    last = (tasks["shop.add"].s(1, 1) | tasks["shop.slow_double"].s()).apply_async()
    assert last.get(timeout=SOON) == 4
    assert last.parent.get(timeout=SOON) == 2


def test_a_failed_flow_ends_its_chain(tasks: Any, world: World) -> None:
    line = (tasks["shop.failing"].s() | tasks["shop.note"].s()).apply_async()
    with pytest.raises(StepError, match="no stock"):
        line.get(timeout=SOON)
    assert "note None" not in world.lines()


def test_a_group_of_flows_gives_their_values_in_order(tasks: Any) -> None:
    many = group(tasks["shop.slow_double"].s(value=1), tasks["shop.add"].s(1, 2), tasks["shop.double"].s(value=5))
    assert many.apply_async().get(timeout=SOON) == [2, 3, 10]


def test_a_chord_waits_for_flows_that_sleep(tasks: Any) -> None:
    header = [tasks["shop.slow_double"].s(value=1), tasks["shop.double"].s(value=2), tasks["shop.add"].s(5, 5)]
    assert chord(header)(tasks["shop.total"].s()).get(timeout=SOON) == 16


def test_a_flow_may_be_the_body_of_a_chord(tasks: Any) -> None:
    body = chord([tasks["shop.add"].s(1, 1), tasks["shop.add"].s(2, 2)])(tasks["shop.echo"].s())
    assert body.get(timeout=SOON) == {"value": [2, 4]}


def test_a_failed_flow_fails_its_chord(tasks: Any) -> None:
    body = chord([tasks["shop.failing"].s(), tasks["shop.double"].s(value=2)])(tasks["shop.total"].s())
    with pytest.raises(ChordError, match="no stock"):
        AsyncResult(body.id, app=tasks["shop.total"].app).get(timeout=SOON)


def test_a_cancelled_flow_fails_its_chord(app: Celery, tasks: Any) -> None:
    header = [tasks["shop.patient"].s(key="chord"), tasks["shop.double"].s(value=2)]
    body = chord(header)(tasks["shop.total"].s())
    [run] = eventually(lambda: app.flows.runs(flow="shop.patient", status="suspended"))
    app.flows.run(run.id).cancel()
    with pytest.raises(ChordError, match="cancelled by hand"):
        AsyncResult(body.id, app=app).get(timeout=SOON)


def test_link_is_called_once_with_the_value_of_a_flow_that_slept(tasks: Any, world: World) -> None:
    tasks["shop.slow_double"].apply_async(kwargs={"value": 21}, link=tasks["shop.note"].s())
    world.told("note 42")
    tasks["shop.slow_double"].apply_async(kwargs={"value": 22}, link=tasks["shop.note"].s()).get(timeout=SOON)
    world.told("note 44")
    assert world.counts()["note 42"] == 1


def test_link_error_is_called_with_the_error_of_a_failed_flow(tasks: Any, world: World) -> None:
    failed = tasks["shop.failing"].apply_async(link_error=tasks["shop.note_error"].s())
    world.told(f"note_error {failed.id} StepError")


def test_callers_headers_reach_every_turn(tasks: Any) -> None:
    called = tasks["shop.headers"].apply_async(headers={"tenant": "blue"})
    assert called.get(timeout=SOON) == ["blue", "blue"]


def test_a_message_of_a_plain_client_runs_the_flow_and_answers(stranger: Celery) -> None:
    assert stranger.send_task("shop.slow_double", kwargs={"value": 8}).get(timeout=SOON) == 16
    assert stranger.send_task("shop.double", args=[{"value": 9}]).get(timeout=SOON) == 18


def test_a_plain_clients_message_keeps_its_id_and_its_callbacks(stranger: Celery, app: Celery, world: World) -> None:
    note = stranger.signature("shop.note")
    called = stranger.send_task("shop.slow_double", kwargs={"value": 500}, task_id="plain-1", link=note)
    assert called.get(timeout=SOON) == 1000
    world.told("note 1000")
    assert app.flows.run("plain-1").output == 1000


def test_a_plain_clients_run_goes_on_in_the_queue_it_came_by(stranger: Celery, world: World) -> None:
    called = stranger.send_task("shop.routes", kwargs={}, queue="side")
    assert called.get(timeout=SOON) == ["side", "side"]


def test_a_plain_client_that_passes_what_no_flow_takes_gets_an_error(stranger: Celery) -> None:
    with pytest.raises(TypeError, match="a flow takes one mapping"):
        stranger.send_task("shop.double", args=[1, 2]).get(timeout=SOON)


def test_a_plain_chain_goes_through_a_flow(stranger: Celery) -> None:
    line = stranger.signature("shop.add", args=(2, 3)) | stranger.signature("shop.slow_double")
    assert line.apply_async().get(timeout=SOON) == 10


def test_a_plain_chord_waits_for_flows(stranger: Celery) -> None:
    header = [stranger.signature("shop.slow_double", kwargs={"value": n}) for n in (1, 2)]
    assert chord(header, app=stranger)(stranger.signature("shop.total")).get(timeout=SOON) == 6


def test_a_task_calls_a_flow_and_a_flow_calls_a_task(tasks: Any, app: Celery) -> None:
    called = tasks["shop.call_flow"].delay(4).get(timeout=SOON)
    assert AsyncResult(called, app=app).get(timeout=SOON) == 8


def test_queue_and_priority_of_a_call_hold_for_every_message(tasks: Any) -> None:
    assert tasks["shop.routes"].apply_async(queue="side").get(timeout=SOON) == ["side", "side"]


def test_task_routes_choose_the_queue_of_every_message(world: World) -> None:
    routed = world.app(shop.sheet, task_routes={"shop.routes": {"queue": "side"}})
    assert routed.tasks["shop.routes"].delay().get(timeout=SOON)[0] == "side"
