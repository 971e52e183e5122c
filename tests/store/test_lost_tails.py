"""A database comes back without its last commits, as a promoted replica does: what is gone is done again, and nothing
stands still."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from celeryflows.engine.resume import requeue, wake_due
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.turn import take_turn
from celeryflows.scheduler.sweeper import route_left
from celeryflows.store.database import Store
from celeryflows.store.runs import Held
from celeryflows.store.upgrade import upgrade
from tests.conftest import without
from tests.servers import ServerMissing, running_postgres
from tests.store.making import FLOW, a_runtime, outcome, put_run, rows_of
from tests.waiting import eventually


class Tail(Protocol):
    """A store whose last commits can be lost."""

    store: Store

    def mark(self) -> None:
        """All up to here is there for good."""

    def lose(self) -> None:
        """All since then is gone."""


class OnFile:
    """A file, and the copy that comes in its place."""

    def __init__(self, folder: Path) -> None:
        self._file, self._copy = folder / "store.sqlite3", folder / "copy.sqlite3"
        self.store = Store(f"sqlite:///{self._file}")
        self.store.prepare()

    def mark(self) -> None:
        self._put(self._file, self._copy)

    def lose(self) -> None:
        self._put(self._copy, self._file)

    def _put(self, this: Path, over: Path) -> None:
        with closing(sqlite3.connect(this)) as source, closing(sqlite3.connect(over, timeout=10)) as target:
            source.backup(target)


class OnServer:
    """A server whose commits do not wait for the disk: what was not flushed a crash takes along."""

    def __init__(self, server: Any) -> None:
        self._server = server
        name = server.create_database()
        self.store = Store(server.url(name), patience=20)
        upgrade(self.store)
        with server.connect() as connection:
            connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        self.store.dispose()

    def mark(self) -> None:
        with self._server.connect() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS marks (at timestamptz DEFAULT now())")
            connection.execute("INSERT INTO marks DEFAULT VALUES")
            # Who fills a page of the log has it written: what comes now stands at the beginning of one.
            connection.execute("SELECT pg_switch_wal()")

    def lose(self) -> None:
        self._server.crash()
        self._server.start()


@pytest.fixture(params=["sqlite", "postgres"])
def tail(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tail]:
    if request.param == "sqlite":
        made = OnFile(tmp_path)
        yield made
        made.store.dispose()
        return
    try:
        with running_postgres(wal_writer_delay="10s", full_page_writes="off") as server:
            on_server = OnServer(server)
            yield on_server
            on_server.store.dispose()
    except ServerMissing as missing:
        without(missing)


def counted(ran: Counter[str], name: str, body: Callable[[], object] = lambda: None) -> str:
    ran[name] += 1
    body()
    return name


def go_on(runtime: Runtime, run_id: str) -> str:
    """What recovery does, then a turn; how the run stands."""
    with runtime.store.connection() as connection:
        held = connection.repeat(lambda: connection.runs.of_worker(runtime.worker))
    assert all(requeue(runtime, one) for one in held if isinstance(one, Held))
    route_left(runtime, 0)
    eventually(lambda: wake_due(runtime) or outcome(runtime.store, run_id).status != "suspended")
    take_turn(runtime, run_id)
    return str(outcome(runtime.store, run_id).status)


def test_steps_whose_memos_are_gone_are_done_again_and_the_run_completes(tail: Tail) -> None:
    ran: Counter[str] = Counter()

    def handler(ctx: Any) -> list[str]:
        first = ctx.step.run("first", counted, ran, "first")
        ctx.step.run("mark", counted, ran, "mark", tail.mark)
        gone = [ctx.step.run(name, counted, ran, name) for name in ("second", "third")]
        ctx.step.run("lose", counted, ran, "lose", tail.lose)
        ctx.step.sleep("nap", "1ms")
        return [first, *gone, ctx.step.run("last", counted, ran, "last")]

    runtime = a_runtime(tail.store, {FLOW: handler})
    run_id = put_run(tail.store)
    take_turn(runtime, run_id)
    kept = {key for (key,) in rows_of(tail.store, "SELECT key FROM flows_steps")}
    assert {"first", "lose"} <= kept
    assert not kept & {"second", "third"}, "the crash lost nothing"

    assert go_on(runtime, run_id) == "completed"
    assert outcome(tail.store, run_id).output == '["first","second","third","last"]'
    assert ran == {"first": 1, "mark": 2, "second": 2, "third": 2, "lose": 1, "last": 1}


def test_an_end_that_is_gone_is_come_to_again(tail: Tail) -> None:
    ran: Counter[str] = Counter()

    def handler(ctx: Any) -> str:
        ctx.step.run("mark", counted, ran, "mark", tail.mark)
        return str(ctx.step.run("last", counted, ran, "last"))

    runtime = a_runtime(tail.store, {FLOW: handler})
    run_id = put_run(tail.store)
    assert take_turn(runtime, run_id).status == "completed"
    tail.lose()
    with runtime.store.connection() as connection:
        assert connection.repeat(lambda: connection.runs.outcome(run_id)).status == "running"  # type: ignore[union-attr]

    assert go_on(runtime, run_id) == "completed"
    assert outcome(tail.store, run_id).output == '"last"'
    assert ran == {"mark": 2, "last": 2}
