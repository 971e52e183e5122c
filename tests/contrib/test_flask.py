"""Promises to a Flask app: a factory wires it, steps have its context, sends belong to Flask-SQLAlchemy's session."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from celery import Celery, Task, _state
from flask import Flask, current_app, g, has_app_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Integer, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from celeryflows import ConfigurationError, Flows
from celeryflows.contrib.flask import init_app, make_celery
from celeryflows.scheduler.sweeper import route_left
from celeryflows.testing import FlowsTester


class Base(DeclarativeBase):
    """The shop's tables."""


db = SQLAlchemy(model_class=Base)


class Order(db.Model):  # type: ignore[name-defined, misc]
    """An order that is paid."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)


@pytest.fixture(autouse=True)
def default_app() -> Iterator[None]:
    """A factory makes its Celery app the default one: not for the tests that follow."""
    before = _state.default_app, _state._tls.current_app
    yield
    _state.default_app, _state._tls.current_app = before


Make = Callable[..., Flask]


@pytest.fixture
def make(shop_url: str) -> Iterator[Make]:
    """Makes apps by a factory, with store and orders in one database; the Flows is `extensions["flows"]`."""
    with ExitStack() as stack:

        def create_app(flows: Flows, **config: Any) -> Flask:
            app = Flask("flask_shop")
            app.config.from_mapping(
                SQLALCHEMY_DATABASE_URI=shop_url,
                CELERY={"broker_url": "memory://", "flows_store_url": shop_url},
                **config,
            )
            db.init_app(app)
            init_app(app, flows)
            with app.app_context():
                db.drop_all()
                db.create_all()
            stack.callback(close, app)
            return app

        yield create_app


def close(app: Flask) -> None:
    with app.app_context():
        for engine in db.engines.values():
            engine.dispose()
    app.extensions["celery"].flows.runtime.store.dispose()


@contextmanager
def at_work(app: Flask) -> Iterator[Any]:
    """The engine of the app, its messages kept in a list instead of a broker."""
    runtime = app.extensions["celery"].flows.runtime
    runtime.dispatcher = type("Kept", (), {"send_runs": lambda self, deliveries: sent.extend(deliveries)})()
    sent: list[Any] = []
    yield runtime


def with_ship() -> Flows:
    flows = Flows()
    flows.flow(name="ship", trigger="order/paid")(lambda ctx: ctx.event.data["n"])
    return flows


# --- sends in the session


def test_what_is_sent_in_a_session_is_committed_with_it_and_starts_at_once(make: Make) -> None:
    flows = with_ship()
    app = make(flows)

    with app.app_context(), at_work(app):
        db.session.add(Order(id=1))
        flows.send("order/paid", {"n": 1}, transaction=db.session)
        assert flows.runs() == []
        db.session.commit()
        assert [run.flow for run in flows.runs()] == ["ship"]
        assert db.session.scalars(select(Order.id)).all() == [1]


@pytest.mark.parametrize("end", ["rollback", "teardown"])
def test_what_is_sent_in_a_session_that_is_not_committed_leaves_nothing(make: Make, end: str) -> None:
    flows = with_ship()
    app = make(flows)

    with at_work(app) as runtime:
        with app.test_request_context():
            db.session.add(Order(id=1))
            flows.send("order/paid", {"n": 1}, transaction=db.session)
            if end == "rollback":
                db.session.rollback()
        assert route_left(runtime, 0) == 0
        with app.app_context():
            assert (flows.runs(), db.session.scalars(select(Order.id)).all()) == ([], [])


def test_a_savepoint_takes_its_own_events_alone(make: Make) -> None:
    flows = with_ship()
    app = make(flows)

    with app.app_context(), at_work(app):
        flows.send("order/paid", {"n": 1}, transaction=db.session)
        nested = db.session.begin_nested()
        flows.send("order/paid", {"n": 2}, transaction=db.session)
        nested.rollback()
        db.session.commit()
        assert len(flows.runs()) == 1


# --- in tests


def test_under_the_test_kit_a_session_may_be_any_database(make: Make) -> None:
    flows = with_ship()
    app = make(flows)

    with app.app_context(), FlowsTester(flows) as tester:
        db.session.add(Order(id=1))
        flows.send("order/paid", {"n": 1}, transaction=db.session)
        tester.advance("0s")
        assert tester.runs() == []
        db.session.commit()
        flows.send("order/paid", {"n": 2}, transaction=db.session)
        db.session.rollback()
        with db.engine.begin() as connection:
            flows.send("order/paid", {"n": 3}, transaction=connection)
        with db.engine.connect() as connection:
            flows.send("order/paid", {"n": 4}, transaction=connection)
            connection.rollback()
            connection.commit()
        tester.advance("0s")
        assert sorted(run.output for run in tester.runs()) == [1, 3]


# --- the factory


def test_tasks_and_flows_run_in_the_apps_context_and_leave_it() -> None:
    flows = Flows()
    ended: list[object] = []

    @flows.flow(name="greet")
    def greet(ctx: Any) -> Any:
        g.seen = ctx.run_id
        return [ctx.step.run("config", lambda: current_app.config["GREETING"]), g.seen == ctx.run_id]

    @flows.flow(name="greet_async")
    async def greet_async(ctx: Any) -> Any:
        return await ctx.step.run("config", lambda: current_app.config["GREETING"])

    app = Flask("flask_shop")
    app.config.from_mapping(GREETING="hello", CELERY={"task_always_eager": True, "task_store_eager_result": False})
    app.teardown_appcontext(lambda error: ended.append(error))
    celery = init_app(app, flows)

    @celery.task(name="plain")
    def plain() -> Any:
        return current_app.config["GREETING"]

    assert plain.delay().get() == "hello"
    assert celery.tasks["greet"].delay().get() == ["hello", True]
    assert celery.tasks["greet_async"].delay().get() == "hello"
    assert (ended, has_app_context()) == ([None] * 3, False)


def test_a_factory_may_make_several_apps_and_bring_its_own_celery(make: Make) -> None:
    flows = with_ship()
    first, own = make(flows), Flask("other")
    own.extensions["celery"] = mine = Celery("other", broker="memory://", set_as_current=False)

    assert init_app(own, flows) is mine
    assert mine.flows is flows
    assert first.extensions["celery"].flows is flows
    assert {"ship"} <= first.extensions["celery"].tasks.keys() & mine.tasks.keys()


def test_the_celery_app_is_the_one_of_flasks_manual() -> None:
    app = Flask("shop")
    app.config["CELERY"] = {"broker_url": "memory://x", "task_ignore_result": True}

    celery = make_celery(app)

    assert (celery.main, celery.conf.broker_url, celery.conf.task_ignore_result) == ("shop", "memory://x", True)
    assert issubclass(celery.Task, Task)
    assert _state.default_app is celery


# --- the command and the pages


def test_flask_has_the_command(make: Make) -> None:
    flows = with_ship()
    app = make(flows)
    runner = app.test_cli_runner()

    assert "ship" in runner.invoke(args=["flows", "list"]).output
    sent = runner.invoke(args=["flows", "send", "order/paid", '{"n": 1}'])
    assert sent.exit_code == 0, sent.output
    assert "ship" in runner.invoke(args=["flows", "runs"]).output
    assert runner.invoke(args=["flows", "show", "nothing"]).exit_code == 1


def test_pages_without_a_secret_key_are_refused_with_the_remedy() -> None:
    app = Flask("shop")

    with pytest.raises(ConfigurationError, match="SECRET_KEY"):
        init_app(app, Flows(), dashboard="/flows")


@pytest.mark.parametrize(("roles", "status"), [([], 403), (["look"], 200)])
def test_a_login_of_the_apps_own_says_who_may_look(make: Make, roles: list[str], status: int) -> None:
    app = Flask("shop")
    app.config.from_mapping(make(with_ship()).config, SECRET_KEY="for this test")
    flows = Flows()
    init_app(app, flows, dashboard="/flows")

    @app.before_request
    def tell_roles() -> None:
        request.environ["celeryflows.roles"] = roles

    assert app.test_client().get("/flows/runs").status_code == status
    flows.runtime.store.dispose()


def test_the_pages_stand_where_they_are_asked_for(make: Make) -> None:
    flows = with_ship()
    app = Flask("shop")
    app.config.from_mapping(make(flows).config)
    app.secret_key = "for this test"
    init_app(app, flows, dashboard="/flows")

    answer = app.test_client().get("/flows/", follow_redirects=True)

    assert (answer.status_code, "ship" in answer.text or "flows" in answer.text) == (200, True)
    app.extensions["celery"].flows.runtime.store.dispose()
