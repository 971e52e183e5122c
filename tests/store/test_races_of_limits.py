"""Limits under racing processes: no rate is exceeded, nothing is lost or doubled; without the locks it is."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from celeryflows.engine.registrar import register_worker
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from tests.store.making import rows_of
from tests.store.races_of_limits import ask_meter, bounce_and_fire, bounce_into_batches, limited, send_many
from tests.store.team import Team, flat

SHORT = 25
BATCH, BATCHES = 15, 40
HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(4, 8)
    yield made
    made.stop()


# -- rates


def passes(team: Team, url: str, *, asks: int, interval: int, sound: bool = True) -> tuple[int, int]:
    """How many of the asks of eight processes passed, and how many may at most."""
    answers = team.run(8, ask_meter, url, asks, 20, interval, sound)
    took = max(end for _, _, end in answers) - min(began for _, began, _ in answers)
    return sum(passed for passed, _, _ in answers), 20 + int(took * 1_000_000 / interval) + 1


def test_eight_processes_pass_no_more_than_the_rate(store: Store, migrated_url: str, team: Team) -> None:
    assert passes(team, migrated_url, asks=60, interval=HOUR) == (20, 21)
    with store.connection() as connection:
        connection.execute("DELETE FROM flows_meters")
    passed, most = passes(team, migrated_url, asks=60, interval=5_000)
    assert 20 < passed <= most


def test_without_the_one_statement_more_pass(store: Store, migrated_url: str, team: Team) -> None:
    def goes_over() -> bool:
        with store.connection() as connection:
            connection.execute("DELETE FROM flows_meters")
        passed, most = passes(team, migrated_url, asks=60, interval=HOUR, sound=False)
        return passed > most

    # The looks of two have to meet.
    assert any(goes_over() for _ in range(20))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_40000_asks_no_more_than_the_rate_pass(store: Store, migrated_url: str, team: Team) -> None:
    passed, most = passes(team, migrated_url, asks=5_000, interval=20_000)
    assert 20 < passed <= most


@pytest.mark.parametrize("migrated_url", ["postgres", "mariadb"], indirect=True)
def test_a_meter_that_is_forgotten_just_then_is_held_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.connection() as connection:
        connection.execute("INSERT INTO flows_meters (key, flow, kind, tat) VALUES ('m', 'f', 'throttle', 0)")
    make = Connection.many

    def make_while_the_leader_tidies(*args: Any) -> Any:
        made = make(*args)
        with store.connection() as leader:
            leader.meters.prune("")
        return made

    monkeypatch.setattr(Connection, "many", make_while_the_leader_tidies)
    with store.begin() as tx:
        tx.throttles.hold([("m", "f", None)])
        assert tx.throttles.get("m") is not None


# -- one run a value, one run at a time


def started(team: Team, store: Store, url: str, flow: str, keys: list[str], *, sound: bool = True) -> Counter[int]:
    """How many keys started how many runs, when four processes send each at once."""
    register_worker(limited(store))
    sent = flat(team.run(4, send_many, url, flow, keys, sound))
    runs = rows_of(
        store,
        "SELECT e.id, e.data, r.status FROM flows_runs r JOIN flows_events e ON e.id = r.event_id WHERE flow = :flow",
        flow=flow,
    )
    if sound:
        assert sorted(row[0] for row in runs) == sorted(sent)
        assert {status for _, _, status in runs} == {"queued", "skipped"}
    counts = Counter(data.split('"')[3] for _, data, status in runs if status == "queued")
    return Counter(counts[key] for key in keys)


@pytest.mark.parametrize("flow", ["idempotent", "alone"])
def test_of_those_who_come_at_once_one_starts(store: Store, migrated_url: str, team: Team, flow: str) -> None:
    assert started(team, store, migrated_url, flow, [f"k{n}" for n in range(SHORT)]) == {1: SHORT}


@pytest.mark.parametrize("flow", ["idempotent", "alone"])
def test_without_the_key_several_start(store: Store, migrated_url: str, team: Team, flow: str) -> None:
    rounds = ([f"k{batch}-{n}" for n in range(BATCH)] for batch in range(BATCHES))
    assert any(max(started(team, store, migrated_url, flow, keys, sound=False)) > 1 for keys in rounds)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("flow", ["idempotent", "alone"])
def test_of_each_of_400_values_one_starts(store: Store, migrated_url: str, team: Team, flow: str) -> None:
    assert started(team, store, migrated_url, flow, [f"k{n}" for n in range(400)]) == {1: 400}


# -- batches


def gathered(team: Team, store: Store, url: str, rounds: int, *, sound: bool = True) -> list[str]:
    """What is wrong with the batches of five that four processes fill."""
    register_worker(limited(store))
    before = rows_of(store, "SELECT count(*) FROM flows_batch_events")[0][0]
    sent = flat(team.run(4, send_many, url, "gathered", ["k"] * rounds, sound))
    into = rows_of(store, "SELECT event_id, run_id FROM flows_batch_events")
    wrong = [f"{len(into) - before} of {len(sent)} went in"] if len(into) - before != len(sent) else []
    sizes = Counter(run_id for _, run_id in into)
    runs = dict(rows_of(store, "SELECT id, status FROM flows_runs WHERE flow = 'gathered'"))
    wrong += [f"{run_id} has {size}" for run_id, size in sizes.items() if size > 5]
    wrong += [
        f"{run_id} was sent with {sizes[run_id]}" for run_id, s in runs.items() if s == "queued" and sizes[run_id] != 5
    ]
    open_ones = [run_id for run_id, status in runs.items() if status == "scheduled"]
    return wrong if len(open_ones) <= 1 else [*wrong, f"{len(open_ones)} gather at once"]


def test_every_event_is_in_one_batch_and_each_is_full_when_it_starts(
    store: Store, migrated_url: str, team: Team
) -> None:
    assert gathered(team, store, migrated_url, SHORT) == []


def test_without_the_lock_batches_are_wrong(store: Store, migrated_url: str, team: Team) -> None:
    assert any(gathered(team, store, migrated_url, BATCH, sound=False) for _ in range(BATCHES))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_one_of_2000_events_is_in_one_batch(store: Store, migrated_url: str, team: Team) -> None:
    assert gathered(team, store, migrated_url, 500) == []


# -- debounces


def lost(team: Team, store: Store, url: str, events: int, *, sound: bool = True) -> list[str]:
    """What is wrong after windows were closed while events came to them: events in no run, runs that were left."""
    register_worker(limited(store))
    team.run(4, bounce_and_fire, url, events, sound)
    newest = rows_of(
        store, "SELECT id FROM flows_events WHERE name = 'shop/debounced' ORDER BY ts DESC, stored_at DESC LIMIT 1"
    )
    runs = rows_of(store, "SELECT event_id, wake_at, held_at FROM flows_runs WHERE flow = 'debounced'")
    wrong = [f"{event_id} never fires" for event_id, wake, held in runs if wake is None or held is not None]
    into = {row[0] for row in rows_of(store, "SELECT event_id FROM flows_batch_events")}
    wrong += [f"{row[0]} is in no run" for row in newest if row[0] not in into]
    all_events = {row[0] for row in rows_of(store, "SELECT id FROM flows_events WHERE name = 'shop/debounced'")}
    wrong += [f"{len(all_events - into)} events are in no run"] if all_events - into else []
    last = rows_of(
        store,
        "SELECT b.run_id, r.event_id, max(e.ts), (SELECT t.ts FROM flows_events t WHERE t.id = r.event_id) "
        "FROM flows_batch_events b JOIN flows_runs r ON r.id = b.run_id JOIN flows_events e ON e.id = b.event_id "
        "GROUP BY b.run_id, r.event_id",
    )
    return wrong + [f"{run_id} does not run with its newest" for run_id, _, most, ts in last if ts != most]


def test_the_newest_event_is_never_lost_while_windows_close(store: Store, migrated_url: str, team: Team) -> None:
    assert lost(team, store, migrated_url, SHORT) == []


def test_without_the_lock_events_are_lost(store: Store, migrated_url: str, team: Team) -> None:
    assert any(lost(team, store, migrated_url, BATCH, sound=False) for _ in range(BATCHES))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_newest_of_900_events_is_never_lost(store: Store, migrated_url: str, team: Team) -> None:
    assert lost(team, store, migrated_url, 300) == []


# -- debounces whose newest events go into batches


def misplaced(team: Team, store: Store, url: str, events: int, *, sound: bool = True) -> list[str]:
    """What is wrong after two processes closed windows at once while events came: a window's newest event is in one
    batch, no other event is in any, a batch that starts has five, and one gathers."""
    register_worker(limited(store))
    team.run(4, bounce_into_batches, url, events, sound)
    runs = rows_of(
        store, "SELECT id, status, event_id, continued_as, batch, wake_at FROM flows_runs WHERE flow = 'both'"
    )
    into = rows_of(store, "SELECT run_id, event_id, no FROM flows_batch_events")
    sent = {row[0] for row in rows_of(store, "SELECT id FROM flows_events WHERE name = 'shop/both'")}
    batches = {run_id for run_id, _, _, _, size, _ in runs if size is not None}
    inside = Counter(event_id for run_id, event_id, no in into if run_id in batches and no >= 0)
    sizes = Counter(run_id for run_id, _, no in into if run_id in batches and no >= 0)
    newest = {row[2] for row in runs}
    wrong = [f"{len(sent - {row[1] for row in into})} events are in no run"] if sent - {row[1] for row in into} else []
    if inside != Counter(newest):
        wrong.append(f"{len(newest)} windows closed, in batches are {inside.total()} of {len(inside)} events")
    wrong += [
        f"{run_id} was not joined"
        for run_id, status, _, other, *_ in runs
        if status == "skipped" and other not in batches
    ]
    wrong += [f"{row[0]} starts with {sizes[row[0]]}" for row in runs if row[5] is not None and sizes[row[0]] != 5]
    gathers = [row[0] for row in runs if row[0] in batches and row[5] is None]
    return wrong if len(gathers) <= 1 else [*wrong, f"{len(gathers)} gather at once"]


def test_the_newest_of_each_window_is_in_one_batch_while_two_close_them(
    store: Store, migrated_url: str, team: Team
) -> None:
    assert misplaced(team, store, migrated_url, SHORT) == []


def test_without_the_lock_newest_events_are_in_wrong_batches(store: Store, migrated_url: str, team: Team) -> None:
    assert any(misplaced(team, store, migrated_url, BATCH, sound=False) for _ in range(BATCHES))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_900_debounced_events_the_newest_are_each_in_one_batch(store: Store, migrated_url: str, team: Team) -> None:
    assert misplaced(team, store, migrated_url, 300) == []
