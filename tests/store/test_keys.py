"""Once-keys, the leader's lease, crons and workers: each compare-and-set has one winner."""

from celeryflows.clock import TurnedClock
from celeryflows.store.crons import CronRow
from celeryflows.store.database import Store
from celeryflows.store.workers import WorkerRow
from tests.store.making import SECOND, at_once, held, rows_of, running


def a_worker(id: str, release: str = "r1", app: str = "shop") -> WorkerRow:
    return WorkerRow(id, app, release, "host", 1, "prefork", "celery")


# -- once


def test_a_key_counts_once_within_its_window(turned: Store, clock: TurnedClock) -> None:
    with turned.connection() as connection:
        assert connection.once.take("k", "first", 10 * SECOND)
        assert not connection.once.take("k", "second", 10 * SECOND)
        assert connection.once.take("other", "second", 10 * SECOND)
        clock.turn(10 * SECOND - 1)
        # The window is that of the first: the second did not prolong it.
        assert not connection.once.take("k", "third", 10 * SECOND)
        assert connection.once.holder("k") == "first"
        clock.turn(1)
        assert connection.once.take("k", "third", 10 * SECOND)
        assert (connection.once.holder("k"), connection.once.holder("none")) == ("third", None)


def test_of_many_who_take_a_key_one_gets_it(turned: Store, clock: TurnedClock) -> None:
    for expired in (False, True):

        def take(number: int) -> bool:
            with turned.connection() as connection:
                return connection.once.take("k", f"run{number}", SECOND)

        taken = at_once(6, take)
        assert sorted(taken) == [False] * 5 + [True], f"expired before: {expired}"
        with turned.connection() as connection:
            assert connection.once.holder("k") == f"run{taken.index(True)}"
        clock.turn(SECOND)


def test_keys_are_forgotten_after_their_window_in_pieces(turned: Store, clock: TurnedClock) -> None:
    with turned.connection() as connection:
        for number in range(5):
            connection.once.take(f"k{number}", "run", (number + 1) * SECOND)
        clock.turn(3 * SECOND)
        assert [connection.once.prune(2) for _ in range(3)] == [2, 1, 0]
    assert rows_of(turned, "SELECT key FROM flows_once ORDER BY key") == [("k3",), ("k4",)]


# -- the leader


def test_one_leads_until_its_lease_is_over(turned: Store, clock: TurnedClock) -> None:
    with turned.connection() as connection:
        assert connection.workers.lead("a", 10 * SECOND)
        assert not connection.workers.lead("b", 10 * SECOND)
        clock.turn(9 * SECOND)
        assert connection.workers.lead("a", 10 * SECOND)
        clock.turn(10 * SECOND)
        assert not connection.workers.lead("b", 10 * SECOND)
        clock.turn(1)
        assert connection.workers.lead("b", 10 * SECOND)
        assert not connection.workers.lead("a", 10 * SECOND)


def test_a_leader_that_resigns_is_followed_at_once(turned: Store, clock: TurnedClock) -> None:
    with turned.connection() as connection:
        assert connection.workers.lead("a", 10 * SECOND)
        connection.workers.resign("b")
        assert not connection.workers.lead("b", 10 * SECOND)
        connection.workers.resign("a")
        assert connection.workers.lead("b", 10 * SECOND)


def test_of_many_who_ask_for_a_free_lease_one_leads(store: Store) -> None:
    def lead(number: int) -> bool:
        with store.connection() as connection:
            return connection.workers.lead(f"w{number}", 60 * SECOND)

    assert sorted(at_once(6, lead)) == [False] * 5 + [True]


# -- crons


def test_a_cron_comes_due_and_goes_on_once(turned: Store, clock: TurnedClock) -> None:
    now = clock.now()
    rows = [CronRow("f", number, "h", "{}", now + number) for number in range(3)]
    with turned.connection() as connection:
        for row in [*rows, CronRow("f", 3, "h", "{}", None)]:
            connection.crons.put(row)
        clock.turn(1)
        assert connection.crons.due() == rows[:2]
        assert connection.crons.due(limit=1) == rows[:1]
        assert connection.crons.advance(rows[0], now + 50)
        assert not connection.crons.advance(rows[0], now + 60)
        assert connection.crons.due() == [rows[1]]
        assert [row.next_at for row in connection.crons.of(["f", "g"])] == [now + 50, now + 1, now + 2, None]


def test_of_many_who_fire_a_cron_one_does(store: Store) -> None:
    row = CronRow("f", 0, "h", "{}", 1)
    with store.connection() as connection:
        connection.crons.put(row)

    def fire(number: int) -> bool:
        with store.begin() as tx:
            return tx.crons.advance(row, 2 + number)

    fired = at_once(6, fire)
    assert sorted(fired) == [False] * 5 + [True]
    assert rows_of(store, "SELECT next_at FROM flows_crons") == [(2 + fired.index(True),)]


def test_a_cron_that_is_declared_again_keeps_its_time_and_a_changed_one_does_not(store: Store) -> None:
    with store.connection() as connection:
        connection.crons.put(CronRow("f", 0, "h", "{}", 5))
        connection.crons.put(CronRow("f", 0, "h", "{}", 9))
        assert connection.crons.all() == [CronRow("f", 0, "h", "{}", 5)]
        connection.crons.put(CronRow("f", 0, "other", '{"a":1}', 9))
        assert connection.crons.all() == [CronRow("f", 0, "other", '{"a":1}', 9)]
        # Who looked before the change may not fire it.
        assert not connection.crons.advance(CronRow("f", 0, "h", "{}", 9), 10)
        connection.crons.remove("f", 0)
        assert connection.crons.all() == []


# -- workers and their runs


def test_a_silent_workers_runs_are_orphans_and_a_beating_ones_are_not(turned: Store, clock: TurnedClock) -> None:
    claims = {worker: running(turned, worker) for worker in ("silent", "beating", "unknown")}
    with turned.connection() as connection:
        for worker in ("silent", "beating"):
            connection.workers.start(a_worker(worker))
        clock.turn(20 * SECOND)
        assert connection.workers.beat("beating")
        assert not connection.workers.beat("unknown")
        orphans = connection.runs.orphans(20 * SECOND)
        assert sorted(orphans, key=lambda one: one.worker) == [held(claims["silent"]), held(claims["unknown"])]
        assert len(connection.runs.orphans(20 * SECOND, limit=1)) == 1
        assert connection.runs.of_worker("beating") == [held(claims["beating"])]
        connection.runs.hand_back(claims["silent"])
        assert connection.runs.of_worker("silent") == []


def test_workers_long_silent_are_forgotten_unless_they_hold_a_run(turned: Store, clock: TurnedClock) -> None:
    running(turned, "holding")
    with turned.connection() as connection:
        for worker in ("holding", "gone", "leaving", "here"):
            connection.workers.start(a_worker(worker))
        connection.workers.stop("leaving")
        clock.turn(20 * SECOND)
        connection.workers.beat("here")
        connection.workers.prune(20 * SECOND)
        assert {worker.id for worker in connection.workers.all()} == {"holding", "here"}


def test_a_release_is_alive_while_a_worker_of_it_beats(turned: Store, clock: TurnedClock) -> None:
    with turned.connection() as connection:
        connection.workers.start(a_worker("w", "new"))
        assert connection.workers.any_alive("shop", "new", 20 * SECOND)
        assert not connection.workers.any_alive("shop", "old", 20 * SECOND)
        assert not connection.workers.any_alive("depot", "new", 20 * SECOND)
        clock.turn(20 * SECOND)
        assert not connection.workers.any_alive("shop", "new", 20 * SECOND)


def test_the_newest_release_counts_until_an_older_one_comes_back(turned: Store, clock: TurnedClock) -> None:
    with turned.connection() as connection:
        assert connection.flows.newest_release("shop") is None
        for release in ("one", "two"):
            assert connection.flows.add_release("shop", release)
            clock.turn(1)
        assert not connection.flows.add_release("shop", "one")
        assert connection.flows.newest_release("shop") == "two"
        connection.flows.renew_release("shop", "one")
        assert connection.flows.newest_release("shop") == "one"
        assert connection.flows.newest_release("depot") is None


def test_a_fact_is_set_once_or_over_and_flows_count_their_changes(store: Store) -> None:
    with store.connection() as connection:
        assert [connection.flows.first_fact("a", value) for value in ("1", "2")] == ["1", "1"]
        connection.flows.put_fact("a", "3")
        assert (connection.flows.fact("a"), connection.flows.fact("b")) == ("3", None)

    def touch(_: int) -> None:
        with store.begin() as tx:
            tx.flows.touch()

    at_once(4, touch)
    with store.connection() as connection:
        assert connection.flows.version() == "4"
