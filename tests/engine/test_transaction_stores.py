"""step.transaction on each database: lost replies, zombies, cancellations, and others that want to write meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import OperationalError

from celeryflows import Backoff, RunHandle, Status
from celeryflows.engine.resume import requeue
from celeryflows.engine.turn import take_turn
from celeryflows.signals import step_completed
from celeryflows.store.runs import Held
from celeryflows.store.user_transaction import UserTransaction
from tests.engine.world import World
from tests.waiting import eventually

metadata = MetaData()
accounts = Table("accounts", metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))
notes = Table(
    "notes",
    metadata,
    Column("account", Integer, ForeignKey("accounts.id", deferrable=True, initially="DEFERRED")),
)
AT_ONCE = Backoff("0s")


@pytest.fixture
def engine(shared: World) -> Iterator[Engine]:
    engine = create_engine(shared.store.url)
    # MariaDB defers no constraint to the commit.
    metadata.create_all(engine, tables=[accounts] if engine.dialect.name == "mariadb" else None)
    shared.start_worker()
    yield engine
    engine.dispose()


def names(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(connection.scalars(select(accounts.c.name)))


def book(connection: Connection, name: str) -> str:
    connection.execute(insert(accounts).values(name=name))
    return name


def started(world: World, handler: Callable[[Any], Any], **options: Any) -> RunHandle:
    """A run of the handler that was driven to its end."""
    task = world.flow(name="books", **{"backoff": AT_ONCE, **options})(handler)
    run = world.flows.run(task.delay().id)
    return ended(world, run)


def ended(world: World, run: RunHandle) -> RunHandle:
    def is_ended() -> bool:
        world.drain()
        world.run_due()
        return run.ended_at is not None

    eventually(is_ended, within=20)
    return run


@pytest.mark.parametrize("is_async", [False, True])
def test_it_writes_once_with_its_memo(shared: World, engine: Engine, is_async: bool) -> None:
    calls: list[str] = []

    def write(connection: Connection, name: str) -> str:
        calls.append(name)
        return book(connection, name)

    def flow(ctx: Any) -> Any:
        first = ctx.step.transaction("a", write, "first")
        ctx.step.sleep("nap", "1 ms")
        return first, ctx.step.transaction("b", write, "second")

    async def async_flow(ctx: Any) -> Any:
        first = await ctx.step.transaction("a", write, "first")
        await ctx.step.sleep("nap", "1 ms")
        return first, await ctx.step.transaction("b", write, "second")

    run = started(shared, async_flow if is_async else flow)

    assert run.output == ["first", "second"]
    assert (names(engine), calls) == (["first", "second"], ["first", "second"])


def test_an_error_of_the_commit_itself_rolls_back_and_is_tried_again(shared: World, engine: Engine) -> None:
    """A deferred constraint is judged at the commit."""
    if engine.dialect.name == "mariadb":
        pytest.skip("MariaDB refuses nothing at the commit")
    if engine.dialect.name == "sqlite":
        shared.store.engine.dispose()
        event.listen(shared.store.engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    refused: list[str] = []

    def flow(ctx: Any) -> Any:
        def write(connection: Connection) -> None:
            connection.execute(insert(accounts).values(id=1 + ctx.attempt, name=f"attempt {ctx.attempt}"))
            connection.execute(insert(notes).values(account=2))
            refused.append("called")

        ctx.step.transaction("a", write)

    run = started(shared, flow)

    assert (run.status, refused) == (Status.COMPLETED, ["called"] * 2)
    assert names(engine) == ["attempt 1"]


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("link", ["before", "after", "during"])
def test_a_commit_whose_reply_was_lost_is_read_back_before_anything_is_tried_again(
    shared: World, engine: Engine, monkeypatch: pytest.MonkeyPatch, link: str, retries: int
) -> None:
    if link == "during" and engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no server that goes on alone")
    calls: list[int] = []
    late: list[threading.Thread] = []
    commit = UserTransaction.commit

    def lossy(transaction: UserTransaction) -> None:
        if len(calls) > 1:
            return commit(transaction)
        if link == "after":
            commit(transaction)
        elif link == "during":
            late.append(_commit_late(transaction))
        transaction.connection.invalidate()
        raise OperationalError("COMMIT", {}, Exception("the connection was lost"))

    monkeypatch.setattr(UserTransaction, "commit", lossy)

    def flow(ctx: Any) -> Any:
        def write(connection: Connection) -> str:
            calls.append(ctx.attempt)
            return book(connection, "once")

        return ctx.step.transaction("a", write)

    run = started(shared, flow, retries=retries)
    for thread in late:
        thread.join(10)

    if link == "before" and retries == 0:
        assert (run.status, names(engine)) == (Status.FAILED, [])
    else:
        assert (run.output, names(engine)) == ("once", ["once"])
        assert len(calls) == (2 if link == "before" else 1)


def _commit_late(transaction: UserTransaction) -> threading.Thread:
    """The server is still at it when the client has given up."""
    fairy: Any = transaction.connection.connection
    driver = fairy.dbapi_connection
    fairy.detach()

    def commit() -> None:
        time.sleep(0.2)
        driver.commit()
        driver.close()

    thread = threading.Thread(target=commit)
    thread.start()
    return thread


@pytest.mark.parametrize("fails", [False, True])
def test_a_zombies_statements_are_rolled_back(shared: World, engine: Engine, fails: bool) -> None:
    """Only where others can write meanwhile may its run be taken over while its function runs."""
    others = shared.process()
    calls: list[str] = []
    told: list[Any] = []

    def flow(ctx: Any) -> Any:
        def write(connection: Connection) -> str:
            calls.append("called")
            if len(calls) == 1 and engine.dialect.name != "sqlite":
                book(connection, "zombie")
                take_over(shared, others, ctx.run_id)
                if fails:
                    raise KeyError
                return "zombie"
            return book(connection, "successor")

        if not calls and engine.dialect.name == "sqlite":
            calls.append("taken over before it began")
            take_over(shared, others, ctx.run_id)
        return ctx.step.transaction("a", write)

    others.flow(name="books", backoff=AT_ONCE)(flow)
    with step_completed.connected_to(lambda _sender, step: told.append(step.value)):
        run = started(shared, flow)

    assert told == ["successor"]
    assert (run.output, names(engine), len(calls)) == ("successor", ["successor"], 2)


def take_over(world: World, others: Any, run_id: str) -> None:
    """The worker is believed dead, and another takes the next turn."""
    with world.store.connection() as connection:
        (held,) = connection.runs.of_worker(world.runtime.worker)
    assert requeue(world.runtime, Held(run_id, held.turn, held.worker, held.token))
    assert take_turn(others.runtime, run_id).status == Status.COMPLETED


def test_a_run_that_is_cancelled_meanwhile_rolls_back_and_leaves_no_memo(shared: World, engine: Engine) -> None:
    def flow(ctx: Any) -> Any:
        def write(connection: Connection) -> None:
            book(connection, "never")
            if engine.dialect.name != "sqlite":
                shared.flows.run(ctx.run_id).cancel("enough")

        if engine.dialect.name == "sqlite":
            shared.flows.run(ctx.run_id).cancel("enough")
        ctx.step.transaction("a", write)

    run = started(shared, flow)

    assert (run.status, run.reason) == (Status.CANCELLED, "enough")
    assert (run.steps, names(engine)) == ([], [])


def test_an_event_sent_with_its_connection_follows_its_commit(shared: World, engine: Engine) -> None:
    shared.flow(name="told", trigger="account/booked", backoff=AT_ONCE)(lambda ctx: ctx.event.data["attempt"])
    shared.start_worker()

    def flow(ctx: Any) -> Any:
        def write(connection: Connection) -> None:
            shared.flows.send("account/booked", {"attempt": ctx.attempt}, transaction=connection)
            if ctx.attempt == 0:
                raise KeyError

        ctx.step.transaction("a", write)

    assert started(shared, flow).status == Status.COMPLETED
    eventually(lambda: (shared.run_due(), shared.runs("told"))[1], within=10)
    assert [ended(shared, run).output for run in shared.runs("told")] == [1]


def test_sending_beside_it_is_refused_at_once_where_there_is_one_writer(shared: World, engine: Engine) -> None:
    shared.start_worker()

    def flow(ctx: Any) -> Any:
        ctx.step.transaction("a", lambda connection: shared.flows.send("nobody/listens"))

    began = time.monotonic()
    run = started(shared, flow, retries=0)

    if engine.dialect.name != "sqlite":
        assert run.status == Status.COMPLETED
    else:
        assert run.error is not None
        assert "transaction=connection" in run.error.message
        assert time.monotonic() - began < 10


def test_a_dead_connection_of_the_pool_costs_no_attempt(shared: World, engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite's connections do not die")
    seen: list[int] = []

    def flow(ctx: Any) -> Any:
        ctx.step.transaction("a", lambda connection: seen.append(connection.scalar(text(MYSELF[engine.dialect.name]))))
        with engine.connect() as other:
            other.execute(text(END[engine.dialect.name]), {"pid": seen[0]})
        eventually(lambda: _is_gone(engine, seen[0]))
        ctx.step.transaction("b", book, "alive")

    run = started(shared, flow, retries=0)

    assert run.status == Status.COMPLETED, run.error
    assert names(engine) == ["alive"]


MYSELF = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT CONNECTION_ID()"}
END = {"postgresql": "SELECT pg_terminate_backend(:pid)", "mariadb": "KILL :pid"}
SESSIONS = {"postgresql": "pg_stat_activity WHERE pid", "mariadb": "information_schema.processlist WHERE id"}


def _is_gone(engine: Engine, pid: int) -> bool:
    found = text(f"SELECT count(*) FROM {SESSIONS[engine.dialect.name]} = :pid")
    with engine.connect() as connection:
        return not connection.scalar(found, {"pid": pid})


def test_the_pools_connections_come_back_as_they_were(shared: World, engine: Engine) -> None:
    """Single statements commit by themselves again, and no transaction is left open."""

    def flow(ctx: Any) -> Any:
        ctx.step.transaction("a", book, "a")

    assert started(shared, flow).status == Status.COMPLETED
    pooled = [shared.store.engine.raw_connection() for _ in range(4)]
    try:
        states = [shared.store.dialect.in_transaction(one.dbapi_connection) for one in pooled]
        pooled[0].cursor().execute("INSERT INTO accounts (name) VALUES ('by itself')")
        assert not any(states)
        assert names(engine) == ["a", "by itself"]
    finally:
        for one in pooled:
            one.close()
