"""What MariaDB does otherwise: how it compares, what it is told in one round trip, what it refuses, and by which URLs
it is reached."""

import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text

from celeryflows.console.doctor_mariadb import check_mariadb
from celeryflows.console.findings import Level
from celeryflows.errors import ConfigurationError, StoreError
from celeryflows.store import mariadb_session
from celeryflows.store.database import Store
from celeryflows.store.joined import Joined
from celeryflows.store.mariadb import Guarded, Sought, translated
from celeryflows.store.reports import reading
from celeryflows.store.reports.server import MariadbView, mariadb_server
from tests.store.making import put_event, put_run, rows_of, running

pytestmark = pytest.mark.mariadb
SOUND = MariadbView("10.11.6-MariaDB", 1, 16 * 1024 * 1024, "MIXED", 0)


@pytest.fixture
def store(migrated_mariadb: str) -> Iterator[Store]:
    made = Store(migrated_mariadb)
    yield made
    made.dispose()


def test_keys_that_differ_in_case_or_in_blanks_are_different_keys(store: Store) -> None:
    keys = ("a", "A", "a ", "ä", "a\u0308")
    with store.connection() as connection:
        assert all(connection.once.take(key, "run", 10**9) for key in keys)
        assert not any(connection.once.take(key, "run", 10**9) for key in keys)
    ids = ["r", "R", "r "]
    for run_id in ids:
        put_run(store, id=run_id)
    assert rows_of(store, "SELECT id FROM flows_runs ORDER BY id") == [("R",), ("r",), ("r ",)]


def test_a_value_that_the_server_would_cut_the_line_for_is_refused_with_the_remedy(store: Store) -> None:
    with pytest.raises(StoreError, match=r"takes 16777216 bytes at once .* raise max_allowed_packet"):
        put_event(store, text='"' + "x" * 17_000_000 + '"')
    put_event(store, text='"' + "x" * 15_000_000 + '"')


def test_a_list_of_long_events_goes_in_pieces_that_the_server_takes(store: Store) -> None:
    with store.begin() as tx:
        tx.many(
            "INSERT INTO flows_once (key, run_id, expires_at) VALUES (:key, :run, 1) ON CONFLICT (key) DO NOTHING",
            [{"key": f"k{number}", "run": "r" * 200} for number in range(20_000)],
        )
    assert rows_of(store, "SELECT count(*) FROM flows_once") == [(20_000,)]


def test_a_row_that_was_there_is_told_from_one_that_was_written_also_in_a_session_of_anothers(
    store: Store, migrated_mariadb: str
) -> None:
    """Its session knows nothing of ours yet: nobody may take its first answer for the other one."""
    engine = create_engine(store.url)
    for expected in (True, False):
        with engine.connect() as connection:
            joined = Joined(store, connection.connection.cursor())
            assert joined.once.take("key", "run", 10**9) is expected
            connection.connection.commit()
        engine.dispose()


def test_what_is_written_in_anothers_transaction_goes_with_it(store: Store) -> None:
    claim = running(store)
    engine = create_engine(store.url)
    with engine.connect() as connection:
        joined = Joined(store, connection.connection.cursor())
        # Nothing has been asked yet: the transaction has not begun, and is the caller's all the same.
        assert joined.runs.suspend(claim, 1, 0)
        connection.connection.rollback()
    engine.dispose()
    assert rows_of(store, "SELECT status FROM flows_runs") == [("running",)]


def test_an_update_of_one_row_is_one_round_trip(store: Store) -> None:
    sql = store.dialect.compile("UPDATE flows_runs SET turn = 1 WHERE id = :id AND status = 'queued' RETURNING turn")
    assert sql.startswith("BEGIN NOT ATOMIC")
    assert not isinstance(sql, Sought)


def test_rows_that_are_not_named_are_sought_first_and_then_written_by_their_keys() -> None:
    sql = translated("UPDATE flows_branches SET turn = 1 WHERE worker = %(worker)s RETURNING run_id, path")
    assert isinstance(sql, Sought)
    assert sql.look.endswith("WHERE worker = %(worker)s FOR UPDATE")
    assert sql.keys == ("run_id", "path")


def test_a_condition_of_a_conflict_is_asked_before_anything_is_assigned() -> None:
    sql = translated(
        "INSERT INTO flows_once (key, run_id, expires_at) VALUES (%(key)s, %(run)s, 1) ON CONFLICT (key) DO UPDATE "
        "SET run_id = excluded.run_id, expires_at = excluded.expires_at WHERE flows_once.expires_at <= 5 RETURNING key"
    )
    assert isinstance(sql, Guarded)
    condition = sql.index("flows_once.expires_at <= 5")
    assert condition < sql.index("expires_at = IF(")
    assert condition < sql.index("run_id = IF(")


@pytest.mark.parametrize(
    "url", ["mysql://u@h/d", "mariadb://u@h/d", "mysql+pymysql://u@h/d", "mariadb+pymysql://u@h/d"]
)
def test_it_is_reached_by_each_name(url: str) -> None:
    assert Store(url).shown_url() == "mariadb+pymysql://u@h/d"


@pytest.mark.parametrize("driver", ["asyncmy", "mariadbconnector", "pyodbc"])
def test_a_driver_that_is_none_is_refused_with_those_that_are(driver: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is none for celeryflows. Use mariadb://"):
        Store(f"mysql+{driver}://u@h/d")


def test_a_driver_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(ConfigurationError, match=r"not installed .* pip install 'celeryflows\[mysql\]'"):
        assert Store("mysql+pymysql://u@h/d").engine


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("8.0.36", "leads to MySQL 8.0.36, on which celeryflows does not run. Use MariaDB 10.11"),
        ("10.6.16-MariaDB-log", "needs 10.11 or newer"),
        ("5.5.5-10.4.1-MariaDB", "needs 10.11 or newer"),
    ],
)
def test_a_server_that_is_no_store_is_refused_with_the_remedy(told: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        mariadb_session.check_version(told)


@pytest.mark.parametrize("told", ["10.11.6-MariaDB", "11.4.2-MariaDB-ubu2404", "5.5.5-12.0.1-MariaDB"])
def test_a_server_that_is_new_enough_is_taken(told: str) -> None:
    mariadb_session.check_version(told)


def test_the_doctor_sees_the_server_as_it_is(store: Store) -> None:
    server = mariadb_server(store)
    assert server is not None
    # That of the tests need not survive its machine.
    assert (server.flush, server.packet, server.binlog, server.odd_columns) == (0, 16 * 1024 * 1024, "off", 0)
    assert [finding.level for finding in check_mariadb(server)] == [Level.WARN, Level.OK]


@pytest.mark.parametrize(
    ("changed", "level", "said"),
    [
        ({"flush": 2}, Level.WARN, "innodb_flush_log_at_trx_commit is 2"),
        ({"packet": 1024 * 1024}, Level.WARN, "max_allowed_packet is 1 MiB"),
        ({"binlog": "STATEMENT"}, Level.BAD, "binlog_format is STATEMENT"),
        ({"odd_columns": 3}, Level.BAD, "3 columns of the store were converted"),
    ],
)
def test_the_doctor_tells_of_settings_that_break_promises(changed: dict[str, object], level: Level, said: str) -> None:
    assert {finding.level for finding in check_mariadb(SOUND)} == {Level.OK}
    odd = MariadbView(**{**{name: getattr(SOUND, name) for name in SOUND.__slots__}, **changed})  # type: ignore[arg-type]
    assert [f.text for f in check_mariadb(odd) if f.level == level and said in f.text]


def test_a_report_that_takes_too_long_is_ended_and_the_session_is_as_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LONGEST", "0.1s")
    with pytest.raises(StoreError, match=r"took longer than 0.1s for a report"):
        reading.read(store, text("SELECT count(*) FROM seq_1_to_100000000 WHERE seq LIKE '%x%'"))
    assert rows_of(store, "SELECT @@max_statement_time") == [(0,)]


def test_the_doctor_counts_columns_that_somebody_converted(store: Store) -> None:
    rows_of(store, "ALTER TABLE flows_shapes CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    try:
        server = mariadb_server(store)
        assert server is not None
        assert server.odd_columns == 2
    finally:
        rows_of(store, "ALTER TABLE flows_shapes CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin")
