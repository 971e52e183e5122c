"""A table of canvases on a real worker: as Celery runs them and as flows, they give the same values."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from celeryflows import Event, RunFailed
from tests.celery.apps import canvases
from tests.kinds import KINDS
from tests.waiting import eventually
from tests.worlds import World

SOON = 60.0


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, make_world: Callable[..., World]) -> Iterator[World]:
    made = make_world(request.param)
    with made.worker("tests.celery.apps.canvases", "-P", "threads", "-c", "8"):
        yield made


@pytest.fixture(scope="module")
def app(world: World) -> Celery:
    return world.keep(canvases.make(world.settings))


def steps_of(app: Celery, run_id: str) -> dict[str, str]:
    """How each step of a run stands."""
    return {step.id: step.state for step in app.flows.run(run_id).steps}  # type: ignore[attr-defined]


def test_every_canvas_gives_as_a_flow_what_celery_gives(app: Celery) -> None:
    theirs = {name: row(app.tasks).apply_async() for name, row in canvases.TABLE.items()}
    ours = {name: app.tasks[f"canvas {name}"].delay() for name in canvases.TABLE}
    expected = {name: result.get(timeout=SOON) for name, result in theirs.items()}

    assert {name: result.get(timeout=SOON) for name, result in ours.items()} == expected


def test_each_signature_of_a_canvas_is_a_step_by_the_name_of_its_task(app: Celery) -> None:
    run = app.tasks["canvas stringed"].delay()
    assert run.get(timeout=SOON) == 21
    assert set(steps_of(app, run.id)) == {"add", "add:1", "mul", "mul:1", "total", "add:2"}


def test_a_canvas_is_built_once_from_the_event_that_starts_its_run(app: Celery, world: World) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    flows.send(Event("canvas/asked", {"n": 40}))
    [run] = eventually(lambda: flows.runs(flow="canvas built"))
    assert flows.run(run.id).get(timeout=SOON) == 1560
    assert world.counts()["built 40"] == 1


def test_a_canvas_within_a_flow_is_rerun_from_the_member_that_failed(app: Celery, world: World) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    failed = app.tasks["canvas steps"].delay()
    with pytest.raises(RunFailed, match="is broken"):
        flows.run(failed.id).get(timeout=SOON)
    assert steps_of(app, failed.id) == {
        "before": "done", "sum/add": "done", "sum/add:1": "done", "sum/total": "done", "end/add": "done",
        "end/fragile": "failed",
    }  # fmt: skip

    world.open_gate(f"mended {failed.id}")
    again = flows.run(failed.id).rerun(from_step="end/fragile")
    with pytest.raises(RunFailed, match=f"{again.id} is broken"):
        # It asks for the gate of its own run: what was before it was kept.
        again.get(timeout=SOON)
    assert world.counts()[f"fragile {again.id}"] == 1


def test_a_chord_is_rerun_from_the_member_that_failed_and_keeps_the_others(app: Celery, world: World) -> None:
    flows: Any = app.flows  # type: ignore[attr-defined]
    world.open_gate("mended right")
    failed = app.tasks["canvas fragile"].delay()
    with pytest.raises(RunFailed, match="left is broken"):
        flows.run(failed.id).get(timeout=SOON)
    world.open_gate("mended left")

    assert flows.run(failed.id).rerun(from_step="fragile:0").get(timeout=SOON) == 1 + 7 + 3
    assert world.counts()["fragile left"] == 2
    assert world.counts()["fragile right"] == 1
    # Of the member that failed, and of the body that was never sent.
    assert (world.counts()["told ValueError"], world.counts()["told ChordError"]) == (1, 1)


def test_a_flow_may_be_a_member_of_a_canvas(app: Celery) -> None:
    assert app.tasks["canvas with a flow"].delay().get(timeout=SOON) == 5


def test_callbacks_of_a_canvas_are_called(app: Celery, world: World) -> None:
    assert app.tasks["canvas linked"].delay().get(timeout=SOON) == 4
    world.told("noted 4")
    assert world.counts()["noted 4"] == 1
