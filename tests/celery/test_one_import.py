"""One import changed: our Celery class with its Flows made, and flows that a package shares with every app."""

import pickle
import sys
from collections.abc import Iterator
from typing import Any

import celery
import pytest

from celeryflows import Celery, ConfigurationError, DeclarationError, Flows, shared_flow
from celeryflows.celery_bridge import shared


@pytest.fixture(autouse=True)
def shared_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test shares is forgotten after it, but by the apps that live on: each test shares under its own name."""
    monkeypatch.setattr(shared, "_declarations", [])


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A flow's name that no other test has."""
    return "package." + "".join(letter for letter in request.node.name if letter.isalpha())


@pytest.fixture
def apps() -> Iterator[list[celery.Celery]]:
    made: list[celery.Celery] = []
    yield made
    for app in made:
        app.close()


def handler(ctx: Any) -> str:
    """Do nothing."""
    return "done"


def test_our_celery_class_has_its_flows_made_and_a_flow_beside_task(apps: list[celery.Celery]) -> None:
    app = Celery("one", broker="memory://", set_as_current=False)
    apps.append(app)
    task = app.flow(trigger="shop/paid", name="one.paid")(handler)
    assert isinstance(app.flows, Flows)
    assert app.tasks["one.paid"].is_flow
    assert task.name == "one.paid"
    assert app.flow(handler).name == f"{__name__}.handler"
    with pytest.raises(ConfigurationError, match=r"use app\.flows"):
        Flows(app)


def test_each_app_of_our_class_has_a_flows_of_its_own(apps: list[celery.Celery]) -> None:
    apps += [Celery(name, broker="memory://", set_as_current=False) for name in ("left", "right")]
    assert apps[0].flows is not apps[1].flows


def test_an_app_of_our_class_comes_back_from_a_pickle_as_one(apps: list[celery.Celery]) -> None:
    app = Celery("pickled", broker="memory://", set_as_current=False)
    again = pickle.loads(pickle.dumps(app))
    apps += [app, again]
    assert type(again) is Celery
    assert isinstance(again.flows, Flows)


def test_a_subclass_of_our_class_keeps_its_own_init(apps: list[celery.Celery]) -> None:
    class Shop(Celery):
        def on_init(self) -> None:
            self.shop = "open"

    app = Shop("shop", broker="memory://", set_as_current=False)
    apps.append(app)
    assert (app.shop, isinstance(app.flows, Flows)) == ("open", True)


@pytest.mark.parametrize("when", ["before the app", "after the app", "after it was finalized"])
def test_a_shared_flow_comes_to_every_app_with_a_flows(apps: list[celery.Celery], name: str, when: str) -> None:
    def share() -> Any:
        return shared_flow(name=name, trigger="package/hello")(handler)

    hello = share() if when == "before the app" else None
    app = Celery("host", broker="memory://", set_as_current=False)
    apps.append(app)
    if when == "after it was finalized":
        app.finalize()
    hello = share() if hello is None else hello
    app.finalize()
    assert app.tasks[name].is_flow
    before = celery.current_app._get_current_object()
    app.set_current()
    try:
        assert hello.name == name
        assert hello.app is app
    finally:
        before.set_current()


def test_a_shared_flow_is_each_apps_own_task(apps: list[celery.Celery], name: str) -> None:
    shared_flow(name=name)(handler)
    apps += [Celery(main, broker="memory://", set_as_current=False) for main in ("left", "right")]
    assert apps[0].tasks[name] is not apps[1].tasks[name]


def test_an_app_without_flows_has_no_shared_flow_and_the_remedy_is_told(apps: list[celery.Celery], name: str) -> None:
    hello = shared_flow(handler, name=name)
    app = celery.Celery("plain", broker="memory://", set_as_current=False)
    apps.append(app)
    before = celery.current_app._get_current_object()
    app.set_current()
    try:
        with pytest.raises(ConfigurationError, match=r"Flows\(app\)"):
            _ = hello.name
    finally:
        before.set_current()
    Flows(app)
    assert app.tasks[name].is_flow


def test_a_mistake_in_a_shared_flow_shows_where_it_is_made() -> None:
    with pytest.raises(DeclarationError, match="use retries="):
        shared_flow(name="package.bad", max_retries=3)(handler)


def test_the_names_are_importable_from_the_package() -> None:
    assert {"Celery", "shared_flow", "current_flows"} <= set(sys.modules["celeryflows"].__all__)
