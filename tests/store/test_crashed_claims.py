"""A claim that the database lost in a crash: two workers may hold one turn number, the token tells them apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from celeryflows.engine.recording import Recorder
from celeryflows.engine.turn import never
from celeryflows.errors import LostTurn
from celeryflows.model.runs import Status
from celeryflows.store import steps
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim
from celeryflows.store.upgrade import upgrade
from tests.conftest import without
from tests.mariadb import Mariadb, running_mariadb
from tests.servers import Postgres, ServerMissing, running_postgres
from tests.store.making import a_runtime, a_step, outcome, put_run, rows_of, take_claim

# From then on, until the crash, a commit does not wait for the disk.
HASTE = {
    "postgresql": "SET synchronous_commit = off",
    "mariadb": "SET GLOBAL innodb_flush_log_at_trx_commit = 0",
}


@contextmanager
def slow_postgres() -> Iterator[Postgres]:
    """It is slow to write what nobody waits for."""
    with running_postgres() as made:
        with made.connect() as connection:
            connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            connection.execute("SELECT pg_reload_conf()")
        yield made


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | Mariadb]:
    """A server that these tests may crash."""
    made = slow_postgres() if request.param == "postgres" else running_mariadb(innodb_flush_log_at_timeout="2700")
    try:
        with made as running:
            yield running
    except ServerMissing as missing:
        without(missing)


@pytest.fixture
def crashing(server: Postgres | Mariadb) -> Iterator[Store]:
    made = Store(server.url(server.create_database()), patience=20)
    upgrade(made)
    yield made
    made.dispose()


def claim_in_haste(store: Store, run_id: str) -> Claim:
    """A claim whose commit does not wait for the disk."""
    with store.connection() as connection:
        connection.execute(HASTE[store.dialect.name])
        claim = connection.runs.claim(run_id, "w1", 1)
    assert claim is not None
    return claim


def crash(server: Postgres | Mariadb) -> None:
    server.crash()
    server.start()


@pytest.fixture
def doubled(server: Postgres | Mariadb, crashing: Store) -> tuple[Claim, Claim]:
    """The claims of two workers on the first turn of one run, the first of them lost in a crash."""
    run_id = put_run(crashing)
    lost = claim_in_haste(crashing, run_id)
    crash(server)
    with crashing.connection() as connection:
        found = connection.repeat(lambda: connection.runs.outcome(run_id))
    assert found is not None
    assert (found.status, found.turn) == (Status.QUEUED, 0), "the crash did not lose the claim"
    return lost, take_claim(crashing, run_id, "w2")


def record(store: Store, claim: Claim, value: str) -> bool:
    """True when the worker's pen wrote it."""
    with store.connection() as connection:
        try:
            return Recorder(a_runtime(store), connection, claim, never).record(a_step(claim, value=value)) is None
        except LostTurn:
            return False


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_workers_with_one_turn_number_one_records(
    crashing: Store, doubled: tuple[Claim, Claim], first: int
) -> None:
    lost, kept = doubled
    assert (lost.run_id, lost.turn) == (kept.run_id, kept.turn)
    order = [(lost, '"lost"'), (kept, '"kept"')]
    recorded = [record(crashing, *order[number]) for number in (first, 1 - first)]
    assert recorded == [bool(first), not first]
    assert rows_of(crashing, "SELECT value FROM flows_steps") == [('"kept"',)]


def test_the_worker_whose_claim_was_lost_can_end_nothing(crashing: Store, doubled: tuple[Claim, Claim]) -> None:
    lost, kept = doubled
    with crashing.connection() as connection:
        assert connection.runs.claimed(lost.run_id, lost.worker, lost.token) is None
        assert not connection.runs.suspend(lost, None, 0)
        assert not connection.runs.finish(lost, Status.COMPLETED, "1", None)
        assert not connection.runs.hand_back(lost)
        assert connection.runs.finish(kept, Status.COMPLETED, "2", None)
    assert outcome(crashing, kept.run_id).output == "2"


def test_with_the_turn_number_alone_both_would_record(crashing: Store, doubled: tuple[Claim, Claim]) -> None:
    tokenless = steps.RECORD.replace("AND claim_tok = :token", "")
    assert tokenless != steps.RECORD
    with patch.object(steps, "RECORD", tokenless), crashing.connection() as connection:
        assert [bool(connection.steps.record(a_step(claim, claim.worker))) for claim in doubled] == [True, True]


def test_a_claim_that_waited_for_the_disk_survives_the_crash(server: Postgres | Mariadb, crashing: Store) -> None:
    claim = take_claim(crashing, put_run(crashing))
    crash(server)
    with crashing.connection() as connection:
        found = connection.repeat(lambda: connection.runs.outcome(claim.run_id))
    assert found is not None
    assert (found.status, found.turn, found.token) == (Status.RUNNING, 1, claim.token)
    assert record(crashing, claim, "1")
