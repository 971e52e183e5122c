"""How a canvas is read: the same from JSON, and its own options and callbacks on the members that Celery gives them."""

from typing import Any

import pytest
from celery import Celery, chain, chord, group
from kombu.utils import json

from celeryflows.celery_bridge.canvas import read_canvas
from celeryflows.model.canvases import leaves, member_names
from tests.celery.apps import canvases


@pytest.fixture(scope="module")
def app() -> Celery:
    app = Celery("canvases", broker="memory://", set_as_current=False)
    for fn in canvases.TASKS:
        app.task(name=f"canvases.{fn.__name__}", shared=False)(fn)
    app.finalize()
    canvases.made.append(app)
    return app


def s(name: str, *args: Any) -> Any:
    return canvases.s(name, *args)


def seen(app: Celery, canvas: Any, option: str) -> list[Any]:
    """An option of each member, in order; of callbacks the names."""
    found = [call.options.get(option) for _, call in leaves(read_canvas(canvas, app))]
    return [[one["task"] for one in value] if isinstance(value, list) else value for value in found]


@pytest.mark.parametrize("name", canvases.TABLE)
def test_a_canvas_from_json_is_read_as_the_one_that_was_written(app: Celery, name: str) -> None:
    canvas = canvases.TABLE[name](app.tasks)
    plain = json.loads(json.dumps(canvas))
    assert type(plain) is dict
    assert json.dumps(leafy(app, plain)) == json.dumps(leafy(app, canvas))


def leafy(app: Celery, canvas: Any) -> list[Any]:
    plan = read_canvas(canvas, app)
    return [[place, call.name, call.args, call.kwargs, call.immutable, call.options] for place, call in leaves(plan)]


def test_members_are_named_by_their_tasks_and_counted(app: Celery) -> None:
    canvas = chord([s("add", 1), app.tasks["canvases.add"].map([1]), s("add", 2)], s("total"))
    assert list(member_names(read_canvas(canvas, app)).values()) == ["add", "add_map", "add:1", "total"]


def test_options_of_a_chain_hold_for_what_it_begins_with(app: Celery) -> None:
    assert seen(app, chain(s("add", 1), s("add", 2)).set(queue="q"), "queue") == ["q", None]
    assert seen(app, chain(group(s("add"), s("add")), s("total")).set(queue="q"), "queue")[:2] == ["q", "q"]


def test_options_of_a_group_hold_for_its_members_and_of_a_chord_for_all(app: Celery) -> None:
    assert seen(app, group(s("add", 1), chain(s("add", 2), s("add"))).set(queue="q"), "queue") == ["q", "q", None]
    assert seen(app, chord([s("add", 1)], s("total"), queue="q"), "queue") == ["q", "q"]


def test_a_chains_callback_is_its_last_tasks_and_its_errback_every_tasks(app: Celery) -> None:
    canvas = chain(s("add", 1), s("add", 2))
    canvas.link(s("noted"))
    canvas.link_error(s("told"))
    assert seen(app, canvas, "link") == [None, ["canvases.noted"]]
    assert seen(app, canvas, "link_error") == [["canvases.told"]] * 2


def test_a_chords_callback_is_its_bodys(app: Celery) -> None:
    canvas = chord([s("add", 1)], s("total"))
    canvas.link(s("noted"))
    assert seen(app, canvas, "link") == [None, ["canvases.noted"]]


def test_a_map_goes_where_its_task_goes(app: Celery) -> None:
    assert seen(app, app.tasks["canvases.add"].map([1]), "route_name") == ["canvases.add"]


def test_the_place_in_a_canvas_that_was_sent_before_is_left_behind(app: Celery) -> None:
    canvas = chord([s("add", 1), s("add", 2)], s("total"))
    canvas.freeze()
    assert [set(call.options) for _, call in leaves(read_canvas(canvas, app))] == [set()] * 3
