"""No hot statement reads a table of 100,000 runs from end to end, whatever plan the database takes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from celeryflows.clock import TurnedClock
from celeryflows.engine.finish import cancel
from celeryflows.engine.intake import send
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.resume import end_overdue, expire_unstarted, pay_debts, wake_due
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.signalling import signal
from celeryflows.engine.throttling import let_in_due
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.model.limits import Concurrency, Limits, Throttle
from celeryflows.model.runs import OPEN, Status
from celeryflows.model.triggers import OnEvent
from celeryflows.scheduler.crons import fire_due
from celeryflows.scheduler.doorkeeper import fill_changed, let_in, prune
from celeryflows.scheduler.sweeper import NoBroker, adopt_orphans, forget_old, resend_lost, route_left
from celeryflows.store.crons import CronRow
from celeryflows.store.reports.activity import events_since, runs_since, steps_of
from celeryflows.store.reports.events import list_events, one_event, runs_of_events
from celeryflows.store.reports.health import overdue, queued, unrouted
from celeryflows.store.reports.runs import list_runs, one_run, run_events, run_steps
from celeryflows.store.reports.selecting import events_of_runs, open_runs
from celeryflows.store.upgrade import upgrade
from tests.engine.bundles import take_bundle
from tests.kinds import MARIADB
from tests.store.making import FLOW, SECOND, a_runtime, an_event, put_run
from tests.store.plans import NOW, RUNS, WatchedStore, fill, full_scans, plan, rows_read, strays


class Broker(NoBroker):
    """One that lost everything, so that all its messages are looked for."""

    def epoch(self) -> str:
        return "new"


# What pages ask may be slow where a server has never looked at its tables; what senders, turns and leaders ask may not.
INFORMED, MISLED = ("sqlite", "sqlite analyzed", "postgres", MARIADB), "postgres misled"


@pytest.fixture(scope="module", params=INFORMED)
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedStore]:
    if request.param.startswith("sqlite"):
        url = f"sqlite:///{tmp_path_factory.mktemp('filled') / 'store.sqlite3'}"
    else:
        server = request.getfixturevalue("mariadb_server" if request.param == "mariadb" else "postgres_server")
        url = server.url(server.create_database())
    store = WatchedStore(url, clock=TurnedClock(NOW))
    upgrade(store)
    fill(store, analyzed=request.param in ("sqlite analyzed", "postgres", "mariadb"), misled=request.param == MISLED)
    yield store
    store.dispose()


def buy(ctx: Any) -> Any:
    ctx.step.run("a", lambda: 1)
    ctx.step.send_event("tell", Event("shop/told"))
    ctx.step.wait_for_event("w", event="shop/e1", match="data.x", timeout="1h", lookback="wait")
    ctx.step.wait_for_event("v", event="shop/e2", if_exp="async.data.y == event.data.x", timeout="1h")


def join(ctx: Any) -> Any:
    if "again" in ctx.event.data:
        return ctx.step.sleep("nap", "1h")
    ctx.step.wait_for_signal("s", "shop/go", timeout="1h")
    ctx.step.invoke("leaf", "leaf")
    return ctx.continue_as_new({"again": True})


def live_together(store: WatchedStore, runtime: Runtime) -> None:
    """What linked runs and signals do."""
    run_id = put_run(store, flow="join")
    take_turn(runtime, run_id)
    assert signal(runtime, "shop/go") == run_id
    while runtime.dispatcher.waiting:
        take_turn(runtime, runtime.dispatcher.waiting.popleft().run_id)
    assert cancel(runtime, run_id, "no")


def live_bundled(store: WatchedStore) -> None:
    """What runs do that came by one message, the last of which is given back."""
    runtime = a_runtime(store, {"leaf": lambda ctx: 1})
    runs = [put_run(store, flow="leaf") for _ in range(3)]
    ends = take_bundle(runtime, runs, lambda bundled, run: bundled.release() if run == runs[1] else None)
    assert [end.status for end in ends] == [Status.COMPLETED] * 2


def live(store: WatchedStore) -> None:
    """All that senders, turns and the leader do."""
    runtime = a_runtime(store, {FLOW: buy, "join": join, "leaf": lambda ctx: 1})
    live_together(store, runtime)
    live_bundled(store)
    send(runtime, [Event("shop/e3", {"x": 1}), Event("shop/e4", {"x": 2}, id="mine")])
    with store.connection() as connection:
        event = an_event("shop/bought", '{"x":1}')
        connection.events.add([event])
        connection.crons.put(CronRow(FLOW, 0, "h", '{"cron":"* * * * *","tz":"UTC","missed":"latest"}', 5))
    run_id = put_run(store, event_id=event.id)
    for name in ("shop/e1", "shop/e2"):
        take_turn(runtime, run_id)
        send(runtime, [Event(name, {"x": 1, "y": 1})])
    take_turn(runtime, run_id)
    cancel(runtime, put_run(store, Status.SCHEDULED, wake_at=NOW + SECOND), "no")
    for repair in (pay_debts, wake_due, expire_unstarted, end_overdue, route_left, fire_due, adopt_orphans):
        repair(runtime)
    resend_lost(runtime, Broker())
    forget_old(runtime)
    with store.connection() as connection:
        connection.runs.next_due()
        connection.dues.look()
        connection.cancels.sent_since(event.id, "shop/e3", after=(0, ""), holding="1", limit=100)
        connection.runs.of_worker("w1")
        connection.workers.lead("w1", SECOND)
        connection.workers.resign("w1")
        connection.messages.newest_claimed()
        for one in connection.messages.unclaimed(0):
            connection.messages.resend(one.delivery.run_id, one.sent_at)
        connection.steps.read_back(run_id, "a")
        connection.runs.claimed(run_id, "w1", 1)


# What pages and terminals ask for.
PAGES: list[Callable[[WatchedStore], object]] = [
    *(
        partial(list_runs, status=status, flow=flow, cursor=cursor)
        for status in (None, "failed", "queued", "skipped")
        for flow in (None, "shop.f3", "shop.rare", "shop.none")
        for cursor in (None, "r0000050000")
    ),
    *(partial(list_runs, event=name) for name in ("shop/e3", "shop/none")),
    partial(list_runs, event="shop/e3", status="failed"),
    *(partial(list_events, name=name) for name in (None, "shop/e3", "shop/none")),
    partial(list_events, own=True),
    partial(one_event, event_id="e0000000001"),
    partial(one_run, run_id="r0000000001"),
    partial(run_steps, run_id="r0000000001"),
    partial(run_events, run_id="r0000000001"),
    *(
        partial(open_runs, flow=flow, statuses=tuple(sorted(OPEN)), span=(None, None), cursor=cursor, limit=10_000)
        for flow in ("shop.f3", "shop.rare", "shop.none")
        for cursor in ("", "r0000050000")
    ),
    partial(events_of_runs, run_ids=["r0000000001", "r0000000002"]),
    partial(runs_of_events, event_ids=["e0000000001", "e0000000002"]),
    partial(steps_of, run_ids=["r0000000001", "r0000000002"]),
    partial(events_since, since=NOW - SECOND),
    partial(runs_since, since=NOW - SECOND, also=["r0000000001"]),
    queued,
    partial(overdue, before=NOW),
    partial(unrouted, before=NOW),
]
MOST = RUNS // 10
WORDS = ("SAVEPOINT", "ROLLBACK")


def scanned(store: WatchedStore) -> dict[str, list[str]]:
    if store.dialect.name == "mariadb":
        # Its blocks cannot be explained; it counts what they read.
        return {sql: [f"{rows} rows"] for sql, rows in store.read.items() if rows > MOST}
    asked = {sql: params for sql, params in store.seen.items() if not sql.startswith(WORDS)}
    plans = {sql: plan(store, sql, params) for sql, params in asked.items()}
    return {sql: lines for sql, lines in plans.items() if full_scans(lines) or strays(sql, lines)}


def shown(found: dict[str, list[str]]) -> str:
    return "\n\n".join("\n  ".join([" ".join(sql.split()), *lines]) for sql, lines in found.items())


def test_a_scan_would_be_seen(filled: WatchedStore) -> None:
    for sql in (
        "SELECT * FROM flows_runs WHERE reason = 'x'",
        "SELECT count(value) FROM flows_steps",
        "SELECT w.id FROM flows_waits w WHERE w.kind = 'x'",
        "SELECT id FROM flows_events ORDER BY id LIMIT 500000",
    ):
        assert filled.dialect.name == "mariadb" or full_scans(plan(filled, sql, {})), sql
        assert rows_read(filled, sql, {}) > MOST


@pytest.mark.parametrize("filled", [MISLED], indirect=True)
def test_a_stray_would_be_seen(filled: WatchedStore) -> None:
    lines = plan(filled, "SELECT id FROM flows_runs WHERE status = 'queued' AND sends >= 0", {})
    assert strays("SELECT id FROM flows_runs WHERE status = 'queued' AND id = 'r'", lines)


def test_what_senders_turns_and_the_leader_ask_is_found_by_indexes(filled: WatchedStore) -> None:
    filled.seen.clear()
    filled.read.clear()
    live(filled)
    assert len(filled.seen) > 40
    assert shown(scanned(filled)) == ""


@pytest.mark.parametrize("filled", [MISLED], indirect=True)
def test_a_server_that_never_looked_at_what_is_there_finds_it_by_indexes_and_by_its_key(filled: WatchedStore) -> None:
    filled.seen.clear()
    filled.read.clear()
    live(filled)
    live_limited(filled)
    plans = {sql: plan(filled, sql, params) for sql, params in filled.seen.items() if not sql.startswith(WORDS)}
    assert len(plans) > 70
    assert shown({sql: lines for sql, lines in plans.items() if strays(sql, lines) or full_scans(lines)}) == ""


def live_limited(store: WatchedStore) -> None:
    """What starts, ends, comes back and is cancelled at gates, and what the leader looks for there."""
    limits = Limits(
        concurrency=(Concurrency(1, key="event.data.x"), Concurrency(2)), throttle=Throttle(9, "1s", burst=9)
    )
    runtime = a_runtime(store, {"limited": lambda ctx: ctx.step.sleep("nap", "1ms")})
    (flow,) = runtime.flows.values()
    definition = replace(flow.definition, triggers=(OnEvent("shop/limited"),), limits=limits)
    runtime.flows = {"limited": replace(flow, definition=definition)}
    register_worker(runtime)
    for _ in range(3):
        send(runtime, [Event("shop/limited", {"x": 1})])
    send(runtime, [Event("shop/limited", {"x": x}) for x in (1, 2, 3)])
    (first, *_) = runtime.dispatcher.waiting
    take_turn(runtime, first.run_id)
    store.clock.turn(SECOND)
    wake_due(runtime)
    with store.connection() as connection:
        rows = connection.execute("SELECT id FROM flows_runs WHERE held_at >= '1' AND status = 'queued' AND sends >= 0")
    cancel(runtime, rows[0][0], "no")
    for repair in (let_in, fill_changed, let_in_due, prune):
        repair(runtime)
    with store.begin() as tx:
        tx.gate_audit.lines()
        tx.gate_audit.orphans(SECOND)
        tx.gate_audit.at_work("w1")
        tx.throttles.next_due()
        tx.gates.pop("1g7")
        tx.gates.pop_many("1g7", 20)
        tx.gates.hand_on("1g7", 1, ("r0000000007", ""))
        tx.gates.share_and_take("1g7", ("r", ""), 1)
        tx.gates.has_line("1g7")


def test_what_limits_ask_is_found_by_indexes(filled: WatchedStore) -> None:
    filled.seen.clear()
    filled.read.clear()
    live_limited(filled)
    assert len(filled.seen) > 30
    assert shown(scanned(filled)) == ""


def test_what_retention_asks_is_found_by_indexes(filled: WatchedStore) -> None:
    filled.seen.clear()
    filled.read.clear()
    with filled.connection() as connection, connection.transaction():
        verbs = connection.retention
        runs = verbs.runs_by_id("r0000050000", "r0000090000", 50)
        verbs.runs_of_flow("shop.f3", "r0000050000", 50)
        verbs.odd_runs(NOW, 0, "", 50)
        verbs.held([replace(run, parent="r0000000001") for run in runs], NOW)
        _, events = verbs.forget_runs([run.id for run in runs])
        verbs.events_by_id("e0000050000", "e0000090000", 50)
        verbs.events_of_name("shop/e3", NOW, NOW - 1_000 * SECOND, "", 50)
        verbs.forget_events(events, NOW, NOW)
        connection.audit.forget(connection.audit.old(NOW, "", "02", 50))
    assert len(events) > 40
    assert len(filled.seen) >= 15
    assert shown(scanned(filled)) == ""


def test_what_pages_ask_is_found_by_indexes(filled: WatchedStore) -> None:
    filled.watch_reports()
    read: dict[str, int] = {}
    for ask in PAGES:
        filled.seen.clear()
        ask(filled)
        assert filled.seen
        for sql, params in filled.seen.items():
            read[f"{' '.join(sql.split())} {params}"] = rows_read(filled, sql, params)
    assert {sql: count for sql, count in read.items() if count > MOST} == {}
