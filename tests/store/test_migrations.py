"""The migrated schema is the declared one; upgrades run one at a time, whole or not at all."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from celeryflows.errors import SchemaMismatch, StoreUnavailable
from celeryflows.store import mariadb_schema
from celeryflows.store.database import Store
from celeryflows.store.schema import SINCE, metadata
from celeryflows.store.upgrade import MIGRATIONS, downgrade, upgrade
from celeryflows.store.versions import known_versions, newest_version, schema_version
from tests.waiting import eventually

UPGRADE = """
import sys
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
upgrade(store)
"""
KILLED = """
import os, signal, sys
from alembic import op
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
made = []
create = op.create_table
def create_some(*args, **options):
    if len(made) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(create(*args, **options))
op.create_table = create_some
upgrade(Store(sys.argv[1]))
"""

KILLED_AFTER = """
import os, signal, sys
from celeryflows.store import mariadb_schema
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
left = [int(sys.argv[2])]
written = mariadb_schema.ddl
def some(statement):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= statement.strip().startswith(("CREATE", "ALTER", "DROP"))
    return written(statement)
mariadb_schema.ddl = some
upgrade(Store(sys.argv[1]))
"""


@pytest.fixture
def empty(store_url: str) -> Iterator[Store]:
    """A store without a schema."""
    made = Store(store_url)
    yield made
    made.dispose()


def tables(store: Store) -> set[str]:
    return set(inspect(store.engine).get_table_names())


def expected(store: Store) -> set[str]:
    """The tables that an upgrade makes."""
    return {*metadata.tables, "flows_schema"} | ({"flows_locks"} if store.dialect.name == "mariadb" else set())


def definitions(store: Store) -> list[str]:
    """Every column, key and index as the database itself tells them."""
    if store.dialect.name == "mariadb":
        with store.engine.connect() as connection:
            told = [connection.exec_driver_sql(f"SHOW CREATE TABLE {table}").one() for table in metadata.tables]
        return sorted(f"{table} {line.strip().rstrip(',')}" for table, made in told for line in made.splitlines())
    if store.dialect.name == "sqlite":
        found = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'flows_schema'"
    else:
        found = (
            "SELECT concat_ws(' ', table_name, column_name, ordinal_position, data_type, character_maximum_length, "
            "is_nullable, column_default, collation_name) FROM information_schema.columns "
            "WHERE table_schema = 'public' AND table_name <> 'flows_schema' "
            "UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'flows_schema' "
            "UNION ALL SELECT concat_ws(' ', relname, relkind, array_to_string(reloptions, ',')) FROM pg_class "
            "WHERE relname LIKE 'flows_%' AND relname NOT LIKE 'flows_schema%'"
        )
    with store.engine.connect() as connection:
        # Layout of the text and order of the keys' names are no difference.
        return sorted(re.sub(r"[\s\"]+", " ", row[0]) for row in connection.execute(text(found)))


# What MariaDB has for partial indexes Alembic takes for a difference.
@pytest.mark.parametrize("migrated_url", ["sqlite", "postgres"], indirect=True)
def test_alembic_sees_no_difference_between_the_migrated_and_the_declared_schema(store: Store) -> None:
    with store.engine.connect() as connection:
        options = {"version_table": "flows_schema", "compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_the_migrated_schema_is_the_declared_one_word_for_word(
    store: Store, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kind = {"postgresql": "postgres"}.get(store.dialect.name, store.dialect.name)
    is_file = kind == "sqlite"
    declared = Store(f"sqlite:///{tmp_path / 'declared'}" if is_file else request.getfixturevalue(f"{kind}_url"))
    with declared.engine.begin() as connection:
        if kind == "mariadb":
            mariadb_schema.begin(connection)
        metadata.create_all(connection)
    assert definitions(store) == definitions(declared)
    assert len(definitions(store)) > 20
    declared.dispose()


def test_an_empty_store_on_a_server_is_refused_with_the_remedy(postgres_url: str) -> None:
    store = Store(postgres_url)
    with pytest.raises(
        SchemaMismatch, match=rf"has no schema yet; .* wants {newest_version()}. Run: celery -A <app> flows db upgrade"
    ):
        store.prepare()
    assert tables(store) == set()
    upgrade(store)
    store.prepare()
    store.dispose()


def test_a_missing_file_is_made(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    store.prepare()
    assert schema_version(store) == newest_version()
    store.prepare()
    store.dispose()


def test_a_file_that_was_made_is_what_the_migrations_come_to(sqlite_url: str, tmp_path: Path) -> None:
    made, migrated = Store(sqlite_url), Store(f"sqlite:///{tmp_path / 'migrated'}")
    made.prepare()
    upgrade(migrated)
    assert definitions(made) == definitions(migrated)
    assert columns_of_version(made) == columns_of_version(migrated)
    with made.connection() as connection:
        assert len(connection.flows.fact("identity") or "") > 20
    made.dispose()
    migrated.dispose()


def columns_of_version(store: Store) -> list[tuple[object, ...]]:
    with store.connection() as connection:
        return connection.execute("SELECT name, type, pk FROM pragma_table_info('flows_schema')")


def test_an_older_file_is_brought_up_to_date_by_itself(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    upgrade(store)
    downgrade(store, "0001")
    assert "flows_branches" not in tables(store)
    store.prepare()
    assert schema_version(store) == newest_version()
    assert tables(store) == expected(store)
    store.dispose()


def test_the_known_versions_are_those_of_the_migrations() -> None:
    names = sorted(path.name for path in (MIGRATIONS / "versions").glob("v*.py"))
    assert [name[1:5] for name in names] == sorted(known_versions())
    assert newest_version() == max(known_versions())


def set_version(store: Store, version: str, since: str) -> None:
    with store.connection() as connection:
        connection.execute(f"UPDATE flows_schema SET version_num = '{version}'")
        connection.flows.put_fact("schema_since", since)


@pytest.fixture
def newer(store: Store) -> Iterator[Store]:
    """A store whose schema is another celeryflows's; it is ours again at the end."""
    yield store
    set_version(store, newest_version(), since=SINCE)


def test_a_newer_store_from_which_something_was_taken_away_is_refused_with_the_remedy(newer: Store) -> None:
    set_version(newer, "9999", since="9998")
    with pytest.raises(SchemaMismatch, match=r"has schema 9999, made by a newer celeryflows; .* Update celeryflows"):
        newer.prepare()
    with pytest.raises(SchemaMismatch, match="has schema 9999, made by a newer celeryflows"):
        upgrade(newer)


def test_a_newer_store_to_which_something_was_only_added_is_worked_on_by_older_code(newer: Store) -> None:
    set_version(newer, "9999", since=newest_version())
    newer.prepare()
    # An older host that upgrades before it starts leaves it as it is.
    assert upgrade(newer) == "9999"
    assert schema_version(newer) == "9999"


def test_a_newer_store_that_does_not_tell_what_it_took_away_is_refused(newer: Store) -> None:
    set_version(newer, "9999", since="")
    with pytest.raises(SchemaMismatch, match="made by a newer celeryflows"):
        newer.prepare()


def test_a_store_tells_since_when_code_works_on_it_however_it_came_to_be(store: Store, sqlite_url: str) -> None:
    made = Store(f"{sqlite_url}.made")
    made.prepare()
    # Tests share a store that is emptied.
    upgrade(store)
    for one in (store, made):
        with one.connection() as connection:
            assert connection.flows.fact("schema_since") == SINCE
    with store.connection() as connection:
        connection.flows.put_fact("schema_since", "0001")
    upgrade(store)
    with store.connection() as connection:
        assert connection.flows.fact("schema_since") == SINCE
    made.dispose()


def test_a_server_that_is_older_is_refused_with_the_remedy(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(postgres_url)
    upgrade(store)
    have = newest_version()
    monkeypatch.setattr("celeryflows.store.versions.newest_version", lambda: "9999")
    with pytest.raises(
        SchemaMismatch, match=rf"has the older schema {have}; .* wants 9999. Run: celery -A <app> flows db"
    ):
        store.prepare()
    store.dispose()


def test_a_downgrade_takes_everything_away_and_an_upgrade_brings_it_back(empty: Store) -> None:
    upgrade(empty)
    assert tables(empty) == expected(empty)
    downgrade(empty, "base")
    assert tables(empty) == {"flows_schema"}
    upgrade(empty)
    assert tables(empty) == expected(empty)


def test_a_store_keeps_its_identity_through_upgrades(empty: Store) -> None:
    upgrade(empty)
    with empty.connection() as connection:
        identity = connection.flows.fact("identity")
    assert identity
    upgrade(empty)
    with empty.connection() as connection:
        assert connection.flows.fact("identity") == identity


def test_processes_that_upgrade_at_once_upgrade_once(empty: Store) -> None:
    url = empty.url.render_as_string(hide_password=False)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    ends = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        ends.append((child.communicate(timeout=60)[1], child.returncode))
    assert ends == [("", 0)] * 3
    assert schema_version(empty) == newest_version()
    with empty.connection() as connection:
        assert connection.execute("SELECT count(*) FROM flows_meta WHERE key = 'identity'") == [(1,)]


@pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
def test_a_killed_upgrade_leaves_nothing_half_done(empty: Store) -> None:
    url = empty.url.render_as_string(hide_password=False)
    killed = subprocess.run([sys.executable, "-c", KILLED, url], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert tables(empty) == set()
    upgrade(empty)
    assert tables(empty) == expected(empty)


def test_on_mariadb_an_upgrade_that_was_killed_goes_on(mariadb_url: str, migrated_mariadb: str) -> None:
    """Its statements about the schema commit by themselves: what was made stays, and is no error the next time."""
    store, whole = Store(mariadb_url), Store(migrated_mariadb)
    for most in (3, 21, 40, 43, 56):
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_AFTER, mariadb_url, str(most)], capture_output=True, text=True, timeout=60
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert schema_version(store) != newest_version()
    upgrade(store)
    assert tables(store) == expected(store)
    assert definitions(store) == definitions(whole)
    with store.connection() as connection:
        assert connection.execute("SELECT count(*) FROM flows_meta WHERE key = 'identity'") == [(1,)]
    whole.dispose()
    store.dispose()


def test_a_server_that_does_not_answer_is_no_missing_schema(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(f"postgresql://nobody@/none?host={tmp_path_factory.mktemp('socket')}")
    with pytest.raises(StoreUnavailable, match=r"does not answer .* Is its server up"):
        store.prepare()
    store.dispose()


@pytest.mark.parametrize("migrated_url", ["postgres", "mariadb"], indirect=True)
def test_an_upgrade_that_waits_for_somebodys_transaction_holds_nobody_else_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the transaction ends only when others have read and written the table that the upgrade waits for."""
    monkeypatch.setattr("celeryflows.store.upgrade.LOCK_SECONDS", 0.5)
    downgrade(store, "0012")
    with ThreadPoolExecutor(1) as beside:
        with store.begin() as long:
            long.execute("SELECT count(*) FROM flows_figures")
            upgrading = beside.submit(upgrade, store)
            eventually(lambda: waits_for_a_table(store))
            with store.connection() as other:
                for _ in range(3):
                    assert other.execute("SELECT count(*) FROM flows_figures") == [(0,)]
            assert not upgrading.done()
        assert upgrading.result(timeout=60) == newest_version()
    assert schema_version(store) == newest_version()


def waits_for_a_table(store: Store) -> bool:
    if store.dialect.name == "mariadb":
        found = "SELECT 1 FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata lock%'"
    else:
        found = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
    with store.connection() as connection:
        return bool(connection.execute(found))
