"""A caller with tables of its own beside the store's, for tests of the outbox."""

from typing import Any

from sqlalchemy import URL, Engine, Integer, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from celeryflows.scheduler.sweeper import route_left
from tests.engine.world import World


class Base(DeclarativeBase):
    """The caller's own tables, beside the store's."""


class Order(Base):
    """An order that is paid."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)


def callers_engine(url: URL) -> Engine:
    """An engine as SQLAlchemy's pages ask for it: SQLite's driver begins no transaction before a savepoint."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda raw, record: setattr(raw, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    Base.metadata.create_all(engine)
    return engine


def declare_ship(world: World) -> None:
    """A worker with a flow that starts at paid orders."""
    world.flow(name="ship", trigger="order/paid")(lambda ctx: ctx.event.data.get("n"))
    world.start_worker()


def recovered(world: World) -> int:
    """Route what is left as the leader does, and take every turn; how many events were left."""
    left = route_left(world.runtime, 0)
    world.drain()
    return left


def outputs(world: World) -> list[Any]:
    """What the runs of `ship` gave."""
    world.drain()
    return sorted(run.output for run in world.runs("ship"))
