"""What every turn runs goes to PostgreSQL past the driver's cursor, and says the same."""

import random
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType, SimpleNamespace

import pytest

from celeryflows.errors import ConfigurationError, StoreError
from celeryflows.model.steps import State
from celeryflows.store import branches, bundles, runs, steps
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.prepared import Prepared
from celeryflows.store.steps import StepRow
from tests.databases import prepared_database
from tests.servers import Postgres
from tests.store.making import put_run, running, take_claim

HOT = {
    name: getattr(module, name)
    for module, names in (
        (runs, ("CLAIM", "CLAIM_CARRIED", "SUSPEND", "FINISH", "FINISH_UNHEARD")),
        (steps, ("RECORD", "RECORD_IN_BRANCH", "MEMOS")),
        (branches, ("CLAIM", "SUSPEND", "END", "END_AMONG")),
        (bundles, ("FINISH_AND_CLAIM",)),
    )
    for name in names
}
INTEGER, BIGINT = 23, 20
NUMBERS = {"turn": INTEGER, "attempts": INTEGER, "attempt": INTEGER, "took": BIGINT, "due": BIGINT, "wake": BIGINT}
NUMBERS |= {"token": BIGINT, "next_token": BIGINT, "began": BIGINT}
TEXTS = (25, 1043)


@pytest.fixture
def pg(postgres_server: Postgres) -> Iterator[Store]:
    made = Store(postgres_server.url(prepared_database(postgres_server)))
    yield made
    made.dispose()


def prepared(connection: Connection) -> Prepared:
    """The prepared statements of a connection that is open."""
    connection.now()
    found = connection._prepared
    assert found is not None
    return found


@contextmanager
def rolled_back(connection: Connection) -> Iterator[None]:
    """A transaction that comes to nothing."""
    with suppress(ZeroDivisionError), connection.transaction():
        yield
        raise ZeroDivisionError


def a_step(store: Store, **fields: object) -> StepRow:
    claim = running(store)
    row = StepRow(claim.run_id, claim.turn, claim.token, "a", "run", State.DONE, 1, "1", claim.at)
    return StepRow(**{**row.params(), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("module", "name"), [(m, n) for m in (runs, steps, branches, bundles) for n in HOT if hasattr(m, n)]
)
def test_each_parameter_gets_the_type_of_its_column(pg: Store, module: ModuleType, name: str) -> None:
    text = pg.dialect.compile(getattr(module, name))
    with pg.connection() as connection:
        statement = prepared(connection)._prepare(text)
        described = connection._raw.pgconn.describe_prepared(statement.name)
        types = {given: described.param_type(i) for i, given in enumerate(statement.names)}
    for given, type_id in types.items():
        assert type_id == NUMBERS[given] if given in NUMBERS else type_id in TEXTS, given


def test_what_is_written_and_read_is_what_the_cursor_writes_and_reads(pg: Store) -> None:
    value = '"\u00fc \U0001f600 \\u0000 %s"'
    row = a_step(pg, value=value, took=2**40)
    with pg.connection() as connection:
        assert connection.steps.record(row) is not None
        hot = connection.execute_hot(steps.MEMOS, run=row.run)
        assert hot == connection.execute(steps.MEMOS, run=row.run)
        assert connection.steps.memos(row.run)["a"].value == value
        assert connection.steps.record(row) is None, "the first write stays"


def test_a_text_with_a_nul_is_refused_and_not_cut(pg: Store) -> None:
    row = a_step(pg, value='"a\0b"')
    with pg.connection() as connection:
        with pytest.raises(StoreError, match="NUL"):
            connection.steps.record(row)
        assert connection.steps.memos(row.run) == {}


def test_what_the_driver_discards_at_a_rollback_is_prepared_anew(pg: Store) -> None:
    first, second = a_step(pg), a_step(pg)
    with pg.connection() as connection:
        assert connection.steps.record(first) is not None
        with rolled_back(connection):
            connection.execute("SELECT {now}")
        connection._raw.execute("DEALLOCATE ALL")
        assert connection.steps.record(second) is not None


def test_a_rollback_of_ours_keeps_all_that_is_prepared(pg: Store) -> None:
    row = a_step(pg)
    with pg.connection() as connection:
        connection.steps.record(row)
        for _ in range(8):
            connection.now()
        before = names_prepared(connection)
        assert {name.partition("_")[0] for name in before} == {"celeryflows", ""}, "ours, and the driver's"
        with rolled_back(connection):
            connection.now()
        with connection.transaction():
            connection.execute("SAVEPOINT here")
            connection.back_to("here")
        assert before <= names_prepared(connection)


def names_prepared(connection: Connection) -> set[str]:
    """What the connection has prepared, by name; this is the driver's cursor asking."""
    return {row[0] for row in connection.execute("SELECT name FROM pg_prepared_statements")}


def test_within_a_transaction_the_cursor_runs_them(pg: Store) -> None:
    row = a_step(pg)
    with pg.connection() as connection:
        known = prepared(connection)._known
        with rolled_back(connection):
            connection.execute("SELECT {now}")
            assert connection.steps.record(row) is not None
            assert pg.dialect.compile(steps.RECORD) not in known
        assert connection.steps.memos(row.run) == {}, "the record went with its transaction"


def test_who_waits_cooperatively_keeps_the_drivers_cursor(pg: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "select", SimpleNamespace(__module__="gevent.select"))
    run_id = put_run(pg)
    with pg.connection() as connection:
        connection.now()
        assert connection._prepared is None
        assert connection.runs.claim(run_id, "w1", random.getrandbits(62)) is not None


def test_a_connection_keeps_what_it_prepared_when_it_comes_back_from_the_pool(pg: Store) -> None:
    take_claim(pg, put_run(pg))
    with pg.connection() as connection:
        assert pg.dialect.compile(runs.CLAIM) in prepared(connection)._known


@pytest.fixture
def unprepared(postgres_server: Postgres) -> Iterator[Store]:
    made = Store(f"{postgres_server.url(prepared_database(postgres_server))}&prepare_threshold=none")
    yield made
    made.dispose()


def test_for_a_pooler_that_hands_out_connections_by_transaction_nothing_is_prepared(unprepared: Store) -> None:
    row = a_step(unprepared)
    with unprepared.connection() as connection:
        for _ in range(3):
            connection.steps.record(row)
        assert connection.steps.memos(row.run)["a"].value == "1"
        assert connection.execute("SELECT name FROM pg_prepared_statements") == []


def test_a_statement_that_a_pooler_has_lost_names_the_remedy(pg: Store) -> None:
    with pg.connection() as connection:
        for _ in range(3):
            connection.now()
        connection._raw.pgconn.exec_(b"DEALLOCATE ALL")
        with pytest.raises(StoreError, match="prepare_threshold=none"):
            connection.now()


def test_a_threshold_that_is_no_number_is_refused(postgres_server: Postgres) -> None:
    made = Store(f"{postgres_server.url()}&prepare_threshold=never")
    with pytest.raises(ConfigurationError, match="prepare_threshold=never"):
        made.transact(lambda tx: tx.now())
