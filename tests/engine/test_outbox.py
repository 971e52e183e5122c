"""Promises of `send(transaction=)`: the events belong to the caller's transaction, and are routed after its commit."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Integer, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from celeryflows import ConfigurationError, Event, InvalidEvent
from celeryflows.scheduler.sweeper import route_left
from tests.engine.world import World, store_at
from tests.waiting import eventually


class Base(DeclarativeBase):
    """The caller's own tables, beside the store's."""


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)


@pytest.fixture
def shared(store_url: str) -> Iterator[World]:
    """A world with a flow that starts at orders, on a store that the caller shares."""
    world = World(store_at(store_url))
    world.flow(name="ship", trigger="order/paid")(lambda ctx: ctx.event.data.get("n"))
    world.start_worker()
    yield world
    world.close()


@pytest.fixture
def engine(shared: World) -> Iterator[Engine]:
    """The caller's own engine on the same database."""
    engine = create_engine(shared.store.url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def recovered(world: World) -> int:
    """Route what is left as the leader does, and take every turn; how many events were left."""
    left = route_left(world.runtime, 0)
    world.drain()
    return left


def outputs(world: World) -> list[Any]:
    world.drain()
    return sorted(run.output for run in world.runs("ship"))


# --- a Session


def test_a_session_that_is_rolled_back_leaves_no_event_and_no_run(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        shared.flows.send("order/paid", {"n": 1}, transaction=session)
        session.rollback()

    assert shared.events() == []
    assert recovered(shared) == 0
    assert shared.runs() == []


def test_a_session_that_is_closed_without_commit_leaves_nothing(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        shared.flows.send("order/paid", {"n": 1}, transaction=session)

    assert shared.events() == []
    assert recovered(shared) == 0


def test_a_session_whose_commit_fails_leaves_nothing(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        session.commit()

    with Session(engine) as session:
        shared.flows.send("order/paid", {"n": 1}, transaction=session)
        session.add(Order(id=1))
        with pytest.raises(Exception, match=r"(?i)unique"):
            session.commit()

    assert shared.events() == []
    assert recovered(shared) == 0


def test_a_committed_session_starts_each_run_once_and_at_once(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        (event_id,) = shared.flows.send("order/paid", {"n": 1}, transaction=session)
        assert len(shared.broker.waiting) == 0
        session.commit()

    assert [event.id for event in shared.events()] == [event_id]
    assert len(shared.broker.waiting) == 1
    assert recovered(shared) == 0
    assert outputs(shared) == [1]
    with Session(engine) as session:
        assert session.scalars(select(Order.id)).all() == [1]


def test_nobody_sees_the_event_before_the_commit(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        shared.flows.send("order/paid", {"n": 1}, transaction=session)
        assert shared.events() == []
        if shared.store.dialect.name == "postgresql":
            assert recovered(shared) == 0
        session.commit()

    assert len(shared.events()) == 1


def test_several_sends_and_lists_of_one_transaction_all_start(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        shared.flows.send("order/paid", {"n": 1}, transaction=session)
        shared.flows.send([Event("order/paid", {"n": n}) for n in (2, 3)], transaction=session)
        shared.flows.send(Event("order/paid", {"n": 4}), transaction=session)
        session.commit()

    assert recovered(shared) == 0
    assert outputs(shared) == [1, 2, 3, 4]


def test_a_session_serves_one_transaction_after_the_other(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        for n in range(3):
            shared.flows.send("order/paid", {"n": n}, transaction=session)
            session.commit()
            shared.flows.send("order/paid", {"n": 100 + n}, transaction=session)
            session.rollback()
            session.add(Order(id=n))
            session.commit()

    assert recovered(shared) == 0
    assert outputs(shared) == [0, 1, 2]


def test_a_session_factory_and_begin_blocks_serve_too(shared: World, engine: Engine) -> None:
    factory = sessionmaker(engine)

    with factory.begin() as session:
        shared.flows.send("order/paid", {"n": 1}, transaction=session)
    with pytest.raises(RuntimeError, match="no"), factory.begin() as session:
        shared.flows.send("order/paid", {"n": 2}, transaction=session)
        raise RuntimeError("no")

    assert outputs(shared) == [1]


def test_a_scoped_session_serves_as_the_session_that_it_stands_for(shared: World, engine: Engine) -> None:
    sessions = scoped_session(sessionmaker(engine))

    shared.flows.send("order/paid", {"n": 1}, transaction=sessions)
    sessions.commit()
    sessions.remove()

    assert recovered(shared) == 0
    assert outputs(shared) == [1]


# --- a Connection


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
        connection: Connection = session.connection()
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


def test_a_transaction_on_another_database_is_refused_and_left_whole(
    shared: World, tmp_path: Any, store_url: str
) -> None:
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
