"""Promises of `send(transaction=connection)`: left to the workers after its commit; and what is no transaction."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session

from celeryflows import ConfigurationError, Event, InvalidEvent
from celeryflows.scheduler.sweeper import route_left
from tests.engine.orders import Base, Order, declare_ship, outputs, recovered
from tests.engine.world import World
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def ship(shared: World) -> None:
    declare_ship(shared)


def test_a_connection_that_is_rolled_back_leaves_nothing(shared: World, engine: Engine) -> None:
    with engine.connect() as connection:
        shared.flows.send("order/paid", {"n": 1}, transaction=connection)
        connection.rollback()

    assert shared.events() == []
    assert recovered(shared) == 0


def test_a_committed_connection_is_left_to_the_workers_who_start_each_run_once(shared: World, engine: Engine) -> None:
    with engine.begin() as connection:
        ids = shared.flows.send([Event("order/paid", {"n": n}) for n in (1, 2)], transaction=connection)

    assert [event.id for event in shared.events()] == ids
    assert shared.runs() == []
    assert recovered(shared) == 2
    assert recovered(shared) == 0
    assert outputs(shared) == [1, 2]


def test_the_workers_look_for_it_after_a_quarter_of_a_second(shared: World, engine: Engine) -> None:
    with engine.begin() as connection:
        shared.flows.send("order/paid", {"n": 1}, transaction=connection)

    eventually(lambda: route_left(shared.runtime), within=2)
    assert outputs(shared) == [1]


def test_a_sessions_own_connection_serves_too(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        connection = session.connection()
        shared.flows.send("order/paid", {"n": 1}, transaction=connection)
        session.commit()

    assert recovered(shared) == 1
    assert outputs(shared) == [1]


# --- refused


@pytest.mark.parametrize("bad", [object(), "session", 5])
def test_anything_else_is_refused(shared: World, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="takes a SQLAlchemy Connection or Session"):
        shared.flows.send("order/paid", transaction=bad)


def test_an_engine_is_no_transaction(shared: World, engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="got Engine"):
        shared.flows.send("order/paid", transaction=engine)


def test_a_bad_event_is_refused_before_anything_is_written(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        with pytest.raises(InvalidEvent):
            shared.flows.send([Event("order/paid", {"n": 1}), Event("")], transaction=session)
        session.commit()

    assert shared.events() == []


def test_an_empty_list_is_nothing(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        assert shared.flows.send([], transaction=session) == []
        session.commit()

    assert shared.events() == []


def test_a_transaction_on_another_database_is_refused_and_left_whole(shared: World, tmp_path: Path) -> None:
    elsewhere = create_engine(f"sqlite:///{tmp_path / 'elsewhere.sqlite3'}")
    Base.metadata.create_all(elsewhere)

    with Session(elsewhere) as session:
        session.add(Order(id=1))
        with pytest.raises(ConfigurationError, match="not the store's"):
            shared.flows.send("order/paid", {"n": 1}, transaction=session)
        session.commit()

    with Session(elsewhere) as session:
        assert session.scalars(select(Order.id)).all() == [1]
    elsewhere.dispose()
