"""What racing clients see of ids, signals and cancels is what one client after the other would have seen."""

from collections.abc import Callable, Iterator

import pytest

from celeryflows.engine.registrar import register_worker
from celeryflows.ids import new_id
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.triggers import OnEvent
from celeryflows.store.database import Store
from tests.store.linear import NEVER, Call, Unknown, unlinear
from tests.store.linear_clients import EVENT, mailbox, once, seat, send_ids, sit_and_leave, wait_and_signal
from tests.store.making import FLOW
from tests.store.races_of_limits import limited
from tests.store.team import Team, flat

NOBODY = (None, frozenset[str]())
SHORT, BATCHES = 40, 12


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    made = Team(4)
    yield made
    made.stop()


@pytest.fixture
def listening(store: Store) -> Store:
    """A flow starts with the clients' event."""
    definition = FlowDefinition(FLOW, triggers=(OnEvent(EVENT),))
    store.transact(lambda tx: tx.flows.put("shop", [definition]))
    return store


def names(count: int) -> list[str]:
    return [new_id() for _ in range(count)]


def seen_of_ids(team: Team, url: str, count: int, *, sound: bool = True) -> list[Call]:
    return list(flat(team.run(4, send_ids, url, names(count), sound)))


def seen_of_signals(team: Team, url: str, count: int, *, sound: bool = True) -> list[Call]:
    return list(flat(team.run(4, wait_and_signal, url, names(count), sound)))


def test_an_id_that_was_sent_stays_sent_for_all(listening: Store, migrated_url: str, team: Team) -> None:
    calls = seen_of_ids(team, migrated_url, SHORT)
    assert sum(call.verb == "send" and call.gave is True for call in calls) == SHORT
    assert unlinear(calls, False, once) == []


def test_without_the_key_no_order_explains_what_was_seen(listening: Store, migrated_url: str, team: Team) -> None:
    assert any(unlinear(seen_of_ids(team, migrated_url, 5, sound=False), False, once) for _ in range(BATCHES))


def test_a_signals_name_has_one_waiter_whom_one_signal_or_cancel_takes(
    store: Store, migrated_url: str, team: Team
) -> None:
    calls: list[Call] = []
    wanted = {("wait", True), ("wait", False), ("signal", True), ("signal", False), ("cancel", True)}
    for _ in range(BATCHES):
        calls += seen_of_signals(team, migrated_url, SHORT)
        if wanted <= (answers := {(call.verb, bool(call.gave)) for call in calls}):
            break
    assert wanted <= answers
    assert unlinear(calls, NOBODY, mailbox) == []


# A file has one writer, whatever locks are taken.
@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
def test_without_the_locks_no_order_explains_who_waits(store: Store, migrated_url: str, team: Team) -> None:
    assert any(unlinear(seen_of_signals(team, migrated_url, 10, sound=False), NOBODY, mailbox) for _ in range(BATCHES))


def test_a_singletons_key_is_taken_once_and_free_when_its_run_ends(store: Store, migrated_url: str, team: Team) -> None:
    register_worker(limited(store))
    calls = flat(team.run(4, sit_and_leave, migrated_url, names(SHORT), True))
    assert {(call.verb, call.gave) for call in calls} == {("send", True), ("send", False), ("end", True)}
    assert unlinear(calls, False, seat) == []


# MariaDB was not seen to let two in by this fault alone.
@pytest.mark.parametrize("migrated_url", ["sqlite", "postgres"], indirect=True)
def test_without_the_key_no_order_explains_who_was_alone(store: Store, migrated_url: str, team: Team) -> None:
    register_worker(limited(store))
    found = (flat(team.run(4, sit_and_leave, migrated_url, names(5), False)) for _ in range(2 * BATCHES))
    assert any(unlinear(calls, False, seat) for calls in found)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("look", "start", "model"), [(seen_of_ids, False, once), (seen_of_signals, NOBODY, mailbox)])
def test_a_thousand_ids_and_names_are_seen_so(
    listening: Store, migrated_url: str, team: Team, look: Callable[..., list[Call]], start: object, model: Callable
) -> None:
    assert unlinear(look(team, migrated_url, 1000), start, model) == []


# -- the checker itself


def call(verb: str, gave: object, began: float, ended: float) -> Call:
    return Call("key", verb, None, gave, began, ended)


@pytest.mark.parametrize(
    ("calls", "is_fine"),
    [
        ([call("send", True, 0, 1), call("send", False, 2, 3)], True),
        ([call("send", False, 0, 1), call("send", True, 2, 3)], False),
        # At once: either may have been the first.
        ([call("send", False, 0, 5), call("send", True, 2, 3)], True),
        ([call("send", True, 0, 1), call("look", False, 2, 3)], False),
        ([call("look", True, 0, 1), call("send", True, 2, 3)], False),
        # Nobody heard what became of it: it may have been done at any time since, or never.
        ([call("send", Unknown, 0, NEVER), call("look", False, 1, 2), call("look", True, 3, 4)], True),
        ([call("send", Unknown, 0, NEVER), call("look", True, 1, 2), call("look", False, 3, 4)], False),
        ([call("send", Unknown, 3, NEVER), call("look", True, 1, 2)], False),
    ],
)
def test_the_checker_knows_what_has_an_order(calls: list[Call], is_fine: bool) -> None:
    assert (unlinear(calls, False, once) == []) is is_fine
