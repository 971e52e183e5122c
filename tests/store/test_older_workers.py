"""An upgrade that takes something away refuses while a living worker may need it."""

from collections.abc import Callable, Iterator

import pytest

from celeryflows.durations import MINUTE
from celeryflows.errors import SchemaMismatch
from celeryflows.store import upgrade as upgrades
from celeryflows.store import versions
from celeryflows.store.database import Store
from celeryflows.store.upgrade import downgrade, upgrade
from celeryflows.store.versions import newest_version, schema_version
from celeryflows.store.workers import WorkerRow
from tests.chaos import later
from tests.chaos.later import LESS, MORE, TODAY

# As code wrote it that told no schema.
OLD = (
    "INSERT INTO flows_workers (id, app, release, host, pid, pool, queues, started_at, beat_at) "
    "VALUES (:id, 'shop', 'r', :id, 7, 'prefork', 'celery', {now}, {now}) ON CONFLICT (id) DO NOTHING"
)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    made = Store(store_url)
    upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """This process is a later release, which wants this schema."""
    for module, name in ((versions, "VERSIONS"), (versions, "SINCE"), (upgrades, "_config")):
        monkeypatch.setattr(module, name, getattr(module, name))

    def change(version: str) -> None:
        later.become(version)
        later.know_migrations(version)

    return change


def enter_old(store: Store, name: str) -> None:
    with store.connection() as connection:
        connection.execute(OLD, id=name)


def enter(store: Store, name: str) -> None:
    with store.connection() as connection:
        connection.workers.start(WorkerRow(name, "shop", "r", name, 8, "prefork", "celery"))


def test_what_only_adds_goes_on_beside_any_worker_and_what_takes_away_names_those_that_need_it(store, become):
    enter_old(store, "old@here")
    enter(store, "today@here")
    become(MORE)
    assert upgrade(store) == MORE
    enter(store, "more@here")
    become(LESS)
    with pytest.raises(SchemaMismatch) as refused:
        upgrade(store)
    told = str(refused.value)
    assert f"schema {LESS}: old@here (pid 7, of an older celeryflows), today@here (pid 8, {TODAY})." in told
    assert f"for code that knows schema {MORE}" in told
    assert "flows db upgrade --force" in told
    assert schema_version(store) == MORE
    assert upgrade(store, silence=0) == LESS


def test_workers_that_know_what_is_left_or_are_long_silent_do_not_hinder_it(store, become):
    enter_old(store, "silent@here")
    become(MORE)
    upgrade(store)
    with store.connection() as connection:
        connection.execute("UPDATE flows_workers SET beat_at = beat_at - :long", long=MINUTE + 1)
    enter(store, "more@here")
    enter(store, "newest@here")
    with store.connection() as connection:
        connection.execute("UPDATE flows_workers SET schema_version = '9999' WHERE id = 'newest@here'")
    become(LESS)
    assert upgrade(store) == LESS


def test_workers_of_before_they_told_their_schema_do_not_hinder_what_tells_it(store):
    downgrade(store, "0014")
    enter_old(store, "old@here")
    assert upgrade(store) == newest_version()
    with store.connection() as connection:
        assert connection.execute("SELECT id, schema_version FROM flows_workers") == [("old@here", None)]


def test_a_schema_that_told_nobody_since_when_code_works_on_it_has_let_its_own_code_in(store):
    downgrade(store, "0012")
    enter_old(store, "old@here")
    with store.connection() as connection:
        connection.execute("DELETE FROM flows_meta WHERE key = 'schema_since'")
    with pytest.raises(SchemaMismatch, match="old@here"):
        upgrade(store)
    with store.connection() as connection:
        connection.workers.stop("old@here")
    assert upgrade(store) == newest_version()
