"""Promises of `send(transaction=session)`: committed and rolled back with it, savepoints and reuse included."""

from contextlib import suppress

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from celeryflows import Event
from tests.engine.orders import Order, declare_ship, outputs, recovered
from tests.engine.world import World


@pytest.fixture(autouse=True)
def ship(shared: World) -> None:
    declare_ship(shared)


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
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
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
            session.add(Order(id=n + 1))
            session.commit()

    assert recovered(shared) == 0
    assert outputs(shared) == [0, 1, 2]


def test_a_session_factory_and_begin_blocks_serve_too(shared: World, engine: Engine) -> None:
    factory = sessionmaker(engine)

    with factory.begin() as session:
        shared.flows.send("order/paid", {"n": 1}, transaction=session)
    with suppress(LookupError), factory.begin() as session:
        shared.flows.send("order/paid", {"n": 2}, transaction=session)
        raise LookupError

    assert outputs(shared) == [1]


def test_a_scoped_session_serves_as_the_session_that_it_stands_for(shared: World, engine: Engine) -> None:
    sessions = scoped_session(sessionmaker(engine))

    shared.flows.send("order/paid", {"n": 1}, transaction=sessions)
    sessions.commit()
    sessions.remove()

    assert recovered(shared) == 0
    assert outputs(shared) == [1]


# --- savepoints and longer transactions


def test_a_savepoint_that_is_rolled_back_takes_its_events_with_it_and_no_others(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        shared.flows.send("order/paid", {"n": 1}, transaction=session)
        savepoint = session.begin_nested()
        shared.flows.send("order/paid", {"n": 2}, transaction=session)
        savepoint.rollback()
        shared.flows.send("order/paid", {"n": 3}, transaction=session)
        session.commit()

    assert len(shared.broker.waiting) == 2
    assert recovered(shared) == 0
    assert outputs(shared) == [1, 3]


def test_a_savepoint_that_is_released_waits_for_the_commit(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        with session.begin_nested():
            shared.flows.send("order/paid", {"n": 1}, transaction=session)
        assert len(shared.broker.waiting) == 0
        session.add(Order(id=1))
        session.commit()

    assert len(shared.broker.waiting) == 1
    assert recovered(shared) == 0
    assert outputs(shared) == [1]


def test_a_savepoint_that_is_released_is_gone_with_its_transaction(shared: World, engine: Engine) -> None:
    with Session(engine) as session:
        with session.begin_nested():
            shared.flows.send("order/paid", {"n": 1}, transaction=session)
        session.rollback()
        session.add(Order(id=1))
        session.commit()

    assert shared.events() == []
    assert recovered(shared) == 0


@pytest.mark.parametrize("mode", ["create_savepoint", "rollback_only"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_session_inside_a_longer_transaction_waits_for_that_ones_end(
    shared: World, engine: Engine, mode: str, end: str
) -> None:
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            shared.flows.send("order/paid", {"n": 1}, transaction=session)
            session.commit()
        assert len(shared.broker.waiting) == 0
        getattr(outer, end)()

    assert recovered(shared) == (1 if end == "commit" else 0)
    assert outputs(shared) == ([1] if end == "commit" else [])


def test_the_first_send_of_a_process_may_come_after_the_callers_own_writes(shared: World, engine: Engine) -> None:
    first = shared.process("web")
    first.flow(name="mail", trigger="order/paid")(lambda ctx: None)

    with Session(engine) as session:
        session.add(Order(id=1))
        session.flush()
        first.flows.send("order/paid", {"n": 1}, transaction=session)
        session.commit()

    assert sorted(run.flow for run in shared.runs()) == ["mail", "ship"]
