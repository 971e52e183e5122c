"""How flows come to their app: options, names, several apps, discovery. What is wrong is told without a worker."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, Task
from flask import Flask

from celeryflows import Backoff, ConfigurationError, DeclarationError, Flows, OnCron, OnEvent, current_flows

ORDERS = "tests.celery.apps.project.orders"


def handler(ctx: Any) -> str:
    """Do nothing."""
    return "done"


def other(ctx: Any) -> str:
    return "another"


def plain() -> int:
    return 1


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("declaring", broker="memory://", set_as_current=False)
    Flows(app)
    yield app
    app.close()


@pytest.fixture
def current(app: Celery) -> Iterator[Celery]:
    """The app is the process's current one for a test."""
    from celery import _state

    before = _state._get_current_app()
    app.set_current()
    try:
        yield app
    finally:
        before.set_current()


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ({"bind": True}, "leave bind out"),
        ({"max_retries": 3}, "use retries="),
        ({"autoretry_for": (ValueError,)}, "use retries="),
        ({"default_retry_delay": 3}, "use backoff="),
        ({"retry_backoff": True}, "use backoff="),
        ({"retry_kwargs": {}}, "use retries="),
        ({"retry_jitter": False}, "use backoff="),
    ],
)
def test_celerys_retry_options_are_refused_with_the_remedy(app: Celery, option: Any, remedy: str) -> None:
    with pytest.raises(DeclarationError, match=remedy) as raised:
        app.flows.flow(handler, name="orders.ship", **option)
    assert "orders.ship" in str(raised.value)


@pytest.mark.parametrize(
    ("option", "meant"), [("triger", "trigger"), ("retires", "retries"), ("ignore_results", "ignore_result")]
)
def test_a_misspelt_option_is_refused_with_the_nearest_name(app: Celery, option: str, meant: str) -> None:
    with pytest.raises(DeclarationError, match=f"{option!r}.*{meant!r}"):
        app.flows.flow(handler, name="orders.ship", **{option: 1})


def test_an_option_of_the_apps_own_task_class_is_known() -> None:
    class Tenanted(Task):
        tenant = None

    app = Celery("tenanted", task_cls=Tenanted, set_as_current=False)
    assert Flows(app).flow(handler, name="orders.ship", tenant="blue").tenant == "blue"
    with pytest.raises(DeclarationError, match=r"'tennant'.*'tenant'"):
        app.flows.flow(other, name="orders.other", tennant="blue")


def test_celerys_options_keep_their_meaning(app: Celery) -> None:
    flow = app.flows.flow(handler, name="a", rate_limit="10/m", ignore_result=True, time_limit=30, acks_late=False)
    assert (flow.rate_limit, flow.ignore_result, flow.time_limit, flow.acks_late) == ("10/m", True, 30, False)


@pytest.mark.parametrize(
    "options",
    [
        {"retries": 21},
        {"retries": -1},
        {"backoff": "1s"},
        {"trigger": "0 9 * * *"},
        {"trigger": ["a/b"] * 11},
        {"trigger": OnEvent},
        {"name": "x" * 201},
        {"label": ""},
        {"on_failure": "nobody"},
    ],
)
def test_what_cannot_be_declared_is_no_task(app: Celery, options: Any) -> None:
    with pytest.raises(DeclarationError):
        app.flows.flow(handler, **{"name": "orders.ship", **options})
    assert not {"orders.ship", ""} & set(app.tasks)


def test_a_handler_takes_one_argument_and_is_no_generator(app: Celery) -> None:
    def two(ctx: Any, more: Any) -> None: ...

    def generator(ctx: Any) -> Any:
        yield

    for wrong in (two, generator, "handler"):
        with pytest.raises(DeclarationError):
            app.flows.flow(wrong, name="orders.ship")


def test_two_flows_of_one_name_are_refused(app: Celery) -> None:
    app.flows.flow(handler, name="orders.ship")
    with pytest.raises(DeclarationError, match=r"Two flows are named 'orders\.ship'"):
        app.flows.flow(other, name="orders.ship")
    # The same module imported again is no second flow.
    app.flows.flow(handler, name="orders.ship")


def test_a_flow_may_not_take_the_name_of_a_plain_task(app: Celery) -> None:
    app.task(name="orders.ship", shared=False)(plain)
    app.flows.flow(handler, name="orders.ship")
    with pytest.warns(Warning, match=r"orders\.ship"):
        app.finalize()
    with pytest.raises(DeclarationError, match=r"'orders\.ship' bears the name of a task"):
        app.flows.send("order/placed")


def test_a_bare_flow_is_named_as_celery_names_tasks(app: Celery) -> None:
    flow = app.flows.flow(handler)
    assert flow.name == f"{__name__}.handler"
    assert flow.__doc__ == "Do nothing."


def test_a_flow_declared_after_finalize_is_a_task_at_once(app: Celery) -> None:
    app.finalize()
    app.flows.flow(handler, name="late")
    assert app.tasks["late"].name == "late"


def test_flows_may_come_before_and_after_plain_tasks() -> None:
    app = Celery("mixed", set_as_current=False)
    app.task(name="before", shared=False)(plain)
    flows = Flows(app)
    flows.flow(handler, name="between", trigger=[OnEvent("a/b"), OnCron("0 9 * * *")], backoff=Backoff(first="2s"))
    app.task(name="after", shared=False)(plain)
    assert {"before", "between", "after"} <= set(app.tasks)


def test_calling_a_flow_is_a_type_error_that_names_the_ways(app: Celery) -> None:
    flow = app.flows.flow(handler, name="orders.ship")
    with pytest.raises(TypeError, match=r"ship\.delay\(\.\.\.\).*flows_tester"):
        flow({"order": 1})


def test_one_app_has_one_flows(app: Celery) -> None:
    assert app.flows is not None
    app.flows.init_app(app)
    with pytest.raises(ConfigurationError, match=r"app\.flows"):
        Flows(app)


def test_flows_without_an_app_says_how_to_give_it_one() -> None:
    with pytest.raises(ConfigurationError, match="init_app"):
        Flows().send("order/placed")
    with pytest.raises(ConfigurationError, match="Celery app"):
        Flows(object())
    with pytest.raises(ConfigurationError, match="extensions"):
        Flows(Flask("no_celery"))


def test_what_is_declared_before_init_app_is_on_every_app_of_a_factory() -> None:
    flows = Flows()
    task = flows.flow(handler, name="orders.ship")
    first, second = (Celery(name, set_as_current=False) for name in ("first", "second"))
    flows.init_app(first)
    flows.init_app(second)
    late = flows.flow(other, name="orders.late")
    for app in (first, second):
        assert app.flows is flows
        assert {"orders.ship", "orders.late"} <= set(app.tasks)
    assert task.name == "orders.ship"
    assert late.app is second


def test_a_mistake_shows_where_it_is_made_before_any_app_is_there() -> None:
    with pytest.raises(DeclarationError, match="use retries="):
        Flows().flow(handler, name="orders.ship", max_retries=3)


def test_current_flows_stands_for_those_of_the_current_app(current: Celery) -> None:
    assert current_flows._get_current_object() is current.flows


def test_current_flows_of_an_app_without_says_so(current: Celery) -> None:
    Celery("bare").set_current()
    with pytest.raises(ConfigurationError, match=r"'bare' has no Flows"):
        current_flows.send("order/placed")


def test_autodiscovery_finds_flows_modules(current: Celery) -> None:
    sys.modules.pop(f"{ORDERS}.flows", None)
    current.autodiscover_tasks([ORDERS, "tests.celery.apps.project.stock"], related_name="flows", force=True)
    assert f"{ORDERS}.flows.ship" in current.tasks
