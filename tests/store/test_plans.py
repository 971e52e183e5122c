"""The plan of every hot statement on a store of 100,000 runs: an index for each, no full scan."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from celeryflows.model.runs import NewRun, Status
from celeryflows.model.steps import Memo
from celeryflows.store.connection import Connection
from celeryflows.store.crons import CronRow
from celeryflows.store.database import Store
from celeryflows.store.reports import events as event_reports
from celeryflows.store.reports import runs as run_reports
from celeryflows.store.upgrade import upgrade
from celeryflows.store.workers import WorkerRow
from tests.servers import Postgres
from tests.store.filled import fill
from tests.store.making import a_step, a_wait, an_event, held

BIG = "flows_(runs|events|steps|waits)"
FULL_SCAN = {
    "sqlite": re.compile(rf"SCAN ({BIG}|[a-z])(?! USING)\b(?!.*USING)"),
    "postgresql": re.compile(rf"Seq Scan on {BIG}"),
}
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN ", "postgresql": "EXPLAIN "}
RUN = "r1000002"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A filled store of each kind in turn, filled once."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('filled') / 'store.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres_server")
        url = server.url(server.create_database())
    made = Store(url)
    upgrade(made)
    fill(made)
    yield made
    made.dispose()


@pytest.fixture
def plans(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Statements as the code sends them, each with its plan for just those parameters."""
    seen: list[tuple[str, str]] = []
    plain = Connection._run

    def explained(self: Connection, how: str, sql: str, params: Any) -> Any:
        if how == "execute" and sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH", "INSERT")):
            rows = plain(self, how, EXPLAIN[store.dialect.name] + sql, dict(params))
            seen.append((" ".join(sql.split()), "\n".join(str(row[-1]) for row in rows)))
        return plain(self, how, sql, params)

    monkeypatch.setattr(Connection, "_run", explained)
    return seen


def a_claim(connection: Connection) -> Any:
    """A queued run of the filled store, claimed."""
    run = connection.execute("SELECT id FROM flows_runs WHERE status = 'queued' ORDER BY id LIMIT 1")[0][0]
    claim = connection.runs.claim(run, "plans", 1)
    assert claim is not None
    return claim


def turn(connection: Connection) -> None:
    """What a turn asks."""
    claim = a_claim(connection)
    connection.runs.claimed(claim.run_id, "plans", 1)
    memos: dict[str, Memo] = connection.steps.memos(claim.run_id)
    assert memos
    connection.steps.record(a_step(claim))
    connection.steps.read_back(claim.run_id, "charge")
    connection.runs.outcome(claim.run_id)
    with connection.transaction():
        connection.runs.suspend(claim, 2**53, 0)
        connection.waits.arm(a_wait(claim))
        connection.waits.settled(claim.run_id, ["paid"])
    connection.runs.finish(a_claim(connection), "completed", "1", None)
    connection.runs.hand_back(a_claim(connection))


def routing(connection: Connection) -> None:
    """What a sender asks."""
    event = an_event()
    with connection.transaction():
        connection.locks.share_names(["shop/paid"])
        connection.waits.shapes_and_version(["shop/paid"])
        connection.waits.open_for("shop/paid", [5, 10])
        connection.waits.open_for("shop/paid", [5, 10], after="w1000001", armed_by=99, limit=200)
        connection.once.take("key", RUN, 1)
        connection.events.add([event])
        connection.runs.add([NewRun(event.id, "flow1", None, Status.QUEUED, event.id)])
        connection.runs.lock([RUN])
        connection.waits.answer("w1000005", event.id)
        connection.runs.queue_answered([RUN])
    connection.events.unrouted(0)
    connection.events.arrivals("shop/paid", 99_000, RUN, 100)


def timers(connection: Connection) -> None:
    """What the leader asks four times a second."""
    connection.runs.due()
    connection.runs.expired()
    connection.runs.next_due()
    with connection.transaction():
        connection.runs.lock([RUN])
        connection.runs.queue_due([RUN])
        connection.waits.expire([RUN])
    connection.crons.due()
    connection.crons.advance(CronRow("flow1", 0, "h", "{}", 1), 2)


def sweeper(connection: Connection) -> None:
    """What recovery asks."""
    connection.workers.start(WorkerRow("w1", "shop", "r", "host", 1, "prefork", "celery"))
    connection.workers.beat("w1")
    connection.runs.of_worker("w1")
    connection.runs.orphans(1)
    connection.messages.unclaimed(1)
    connection.messages.newest_claimed()
    connection.messages.resend(RUN, 1)
    connection.messages.resend_all(100)
    connection.workers.prune(1)
    with connection.transaction():
        connection.runs.requeue(held(a_claim(connection)))


SUBJECTS = [turn, routing, timers, sweeper]


@pytest.mark.parametrize("ask", SUBJECTS, ids=lambda ask: ask.__name__)
def test_no_hot_statement_scans_a_table(
    store: Store, plans: list[tuple[str, str]], ask: Callable[[Connection], None]
) -> None:
    with store.connection() as connection:
        ask(connection)
    assert plans
    found = [f"{sql}\n{plan}" for sql, plan in plans if FULL_SCAN[store.dialect.name].search(plan)]
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize(
    "look",
    [
        lambda store: run_reports.list_runs(store),
        lambda store: run_reports.list_runs(store, status="failed"),
        lambda store: run_reports.list_runs(store, flow="flow3", cursor="r1050000"),
        lambda store: run_reports.list_runs(store, status="suspended", flow="flow10"),
        lambda store: run_reports.run_steps(store, RUN),
        lambda store: event_reports.list_events(store),
        lambda store: event_reports.list_events(store, name="shop/paid"),
        lambda store: event_reports.runs_of_events(store, ["e1000002", "e1000003"]),
    ],
)
def test_no_list_scans_a_table(store: Store, look: Callable[[Store], object]) -> None:
    found: list[str] = []

    def explain(connection: Any, clause: Any, *_: Any) -> None:
        if not str(clause).startswith("EXPLAIN"):
            sql = clause.compile(store.engine, compile_kwargs={"literal_binds": True, "render_postcompile": True})
            plan = connection.exec_driver_sql(EXPLAIN[store.dialect.name] + str(sql).replace("%", "%%"))
            found.append("\n".join(str(row[-1]) for row in plan))

    event.listen(store.engine, "before_execute", explain)
    try:
        look(store)
    finally:
        event.remove(store.engine, "before_execute", explain)
    assert found
    assert not FULL_SCAN[store.dialect.name].search("\n".join(found)), "\n".join(found)


def test_a_statement_without_an_index_is_seen(store: Store, plans: list[tuple[str, str]]) -> None:
    with store.connection() as connection:
        connection.execute("SELECT count(*) FROM flows_runs WHERE reason = 'because'")
    assert FULL_SCAN[store.dialect.name].search(plans[-1][1])
