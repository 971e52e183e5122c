"""Promises of `FlowsTester(engine=...)`: `step.transaction` writes in the user's own database, once or not at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, select
from sqlalchemy.orm import Session

from celeryflows import Backoff, ConfigurationError, Flows, Status
from celeryflows.testing import FlowsTester
from tests.engine.orders import Base, Order


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.sqlite3'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def orders(engine: Engine) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Order.id).order_by(Order.id)))


def test_a_session_and_a_connection_write_there_and_retries_leave_nothing(flows: Flows, engine: Engine) -> None:
    @flows.flow(name="books", backoff=Backoff("1s"))
    def books(ctx: Any) -> Any:
        def by_session(session: Session) -> int:
            session.add(Order(id=10 + ctx.attempt))
            if ctx.attempt == 0:
                raise LookupError
            return ctx.attempt

        def by_connection(connection: Connection) -> int:
            connection.execute(Order.__table__.insert().values(id=20))
            return 20

        return ctx.step.transaction("a", by_session), ctx.step.transaction("b", by_connection)

    with FlowsTester(flows, engine=engine) as tester:
        run = tester.start(books)
        tester.advance("1 minute")
        assert run.output == [1, 20]

    assert orders(engine) == [11, 20]


@pytest.mark.parametrize(("moment", "calls"), [("crash_in", 2), ("crash_after", 1)])
def test_a_crash_around_the_commit_writes_nothing_twice(flows: Flows, engine: Engine, moment: str, calls: int) -> None:
    @flows.flow(name="books")
    def books(ctx: Any) -> None:
        ctx.step.transaction("a", lambda connection: connection.execute(Order.__table__.insert().values(id=1)) and None)

    with FlowsTester(flows, engine=engine) as tester:
        getattr(tester, moment)("a")
        run = tester.start(books)
        assert (run.status, tester.calls("a")) == (Status.COMPLETED, calls)

    assert orders(engine) == [1]


def test_what_is_sent_within_goes_with_its_commit(flows: Flows, engine: Engine) -> None:
    flows.flow(name="ship", trigger="order/paid")(lambda ctx: ctx.event.data["n"])

    @flows.flow(name="books", backoff=Backoff("1s"))
    def books(ctx: Any) -> None:
        def write(connection: Connection) -> None:
            flows.send("order/paid", {"n": ctx.attempt}, transaction=connection)
            if ctx.attempt == 0:
                raise LookupError

        ctx.step.transaction("a", write)

    with FlowsTester(flows, engine=engine) as tester:
        tester.start(books)
        tester.advance("1 minute")
        assert [run.output for run in tester.runs("ship")] == [1]


def test_a_function_that_commits_by_itself_is_told_to_leave_that_to_the_step(flows: Flows, engine: Engine) -> None:
    @flows.flow(name="books")
    def books(ctx: Any) -> None:
        ctx.step.transaction("a", lambda connection: connection.commit())

    with FlowsTester(flows, engine=engine) as tester:
        run = tester.start(books)
        assert run.error is not None
        assert (run.status, run.error.name) == (Status.FAILED, "StepMisuse")


def test_anything_but_an_engine_is_refused(flows: Flows) -> None:
    with pytest.raises(ConfigurationError, match="takes a SQLAlchemy Engine, got str"):
        FlowsTester(flows, engine="sqlite://")
