"""Whatever commit a worker dies after, linked runs go on by recovery: each child once, each parent answered."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows import InvokeError
from celeryflows.clock import TurnedClock
from celeryflows.ids import new_id
from celeryflows.scheduler.sweeper import NoBroker, adopt_orphans, resend_lost
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from tests.engine.world import NEW_YEAR, World, memory_store


class Died(BaseException):
    """kill -9: nothing of the process runs any more."""


class Broker(NoBroker):
    """One that has lost every message."""

    def length(self, queue: str) -> int:
        return 0


class Deaths:
    """Lets the process die right after its n-th commit."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.dead = 10**9, False
        run, command = Connection._run, Connection._command

        def dying_run(connection: Connection, how: str, sql: str, params: Any) -> Any:
            self._check()
            rows = run(connection, how, sql, params)
            inside = connection._raw is not None and connection._raw.driver_connection.in_transaction
            if not inside and sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "WITH fence")):
                self._count()
            return rows

        def dying_command(connection: Connection, sql: str) -> None:
            if sql != "ROLLBACK":
                self._check()
            command(connection, sql)
            if sql == "COMMIT":
                self._count()

        monkeypatch.setattr(Connection, "_run", dying_run)
        monkeypatch.setattr(Connection, "_command", dying_command)

    def _check(self) -> None:
        if self.dead:
            raise Died

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.dead = True
            raise Died


@pytest.fixture
def world() -> Iterator[World]:
    world = World(memory_store(TurnedClock(NEW_YEAR)))
    declare(world)
    yield world
    world.close()


def declare(world: World) -> None:
    @world.flow(name="parent", trigger="order/placed")
    def parent(ctx: Any) -> Any:
        doubled = ctx.step.invoke("double", "double", {"n": 4})
        try:
            ctx.step.invoke("bad", "bad")
        except InvokeError as error:
            said = error.message
        return [doubled, said, ctx.step.invoke("count", "count", {"n": 2})]

    @world.flow(name="double")
    def double(ctx: Any) -> int:
        ctx.step.sleep("nap", "1h")
        return int(ctx.event.data["n"] * 2)

    @world.flow(name="bad", retries=0)
    def bad(ctx: Any) -> None:
        raise ValueError("no stock")

    @world.flow(name="count")
    def count(ctx: Any) -> Any:
        n = ctx.event.data["n"]
        return ctx.continue_as_new({"n": n - 1}) if n else "counted"


def recover(world: World) -> None:
    """Another process takes over: the messages are lost, the dead worker's runs and debts are found."""
    world.broker.waiting.clear()
    world._inline._draining = False
    world.runtime.worker = new_id()
    world.advance("30s")
    for _ in range(12):
        adopt_orphans(world.runtime)
        resend_lost(world.runtime, Broker())
        world.advance("10m")


def test_a_death_after_any_commit_starts_no_child_twice_and_leaves_no_parent_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send("order/placed")
    deaths = Deaths(world.store, monkeypatch)
    world.advance("2h")
    (whole,) = world.runs("parent")
    assert whole.output == [8, "no stock", "counted"]
    died = 0
    for at in range(1, 60):
        world.flows.send("order/placed")
        run = world.runs("parent")[-1]
        deaths.left = at
        try:
            world.advance("2h")
        except Died:
            died += 1
        finally:
            deaths.left, deaths.dead = 10**9, False
        recover(world)
        assert run.output == [8, "no stock", "counted"], f"died after commit {at}: {run.status}"
    assert died > 10
    counts = Counter(one.flow for one in world.runs())
    assert counts == {"parent": 60, "double": 60, "bad": 60, "count": 180}
    with world.store.connection() as connection:
        assert connection.execute("SELECT 1 FROM flows_runs WHERE owes IS NOT NULL OR ended_at IS NULL") == []
