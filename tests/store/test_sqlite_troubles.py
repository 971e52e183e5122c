"""An SQLite file on a full disk, one that cannot be written, and a reader that never lets go: told, survived, and no
commit is half there."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from celeryflows.engine.intake import send
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.turn import take_turn
from celeryflows.errors import StoreError, StoreUnavailable
from celeryflows.model.events import Event
from celeryflows.model.flows import FlowDefinition
from celeryflows.model.triggers import OnEvent
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.upgrade import downgrade, upgrade
from celeryflows.store.versions import newest_version, schema_version
from tests.store.making import FLOW, a_runtime, outcome, put_run, rows_of

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def file(path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{path}", patience=0.5)
    made.prepare()
    yield made
    made.dispose()


class Disk:
    """Full for every connection of the store, or not: SQLite itself says so, as it does of a real one."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store, self._path = store, path
        self.is_full = False
        self._raws: list[Any] = []
        event.listen(store.engine, "checkout", self._bound)

    def fill(self) -> None:
        """From now on, also for the connection that somebody holds."""
        self.is_full = True
        for raw in list(self._raws):
            with suppress(sqlite3.ProgrammingError):
                self._bound(raw)

    def _bound(self, raw: Any, *_: object) -> None:
        self._raws.append(raw)
        raw.execute(f"PRAGMA max_page_count = {os.path.getsize(self._path) // PAGE if self.is_full else 2**30}")


def large(count: int = 20) -> list[Event]:
    return [Event("shop/ordered", {"text": "x" * 60_000, "n": n}) for n in range(count)]


def shop(store: Store) -> Runtime:
    runtime = a_runtime(store, {FLOW: lambda ctx: ctx.step.run("pack", lambda: "y" * 200_000)})
    store.transact(lambda tx: tx.flows.put("shop", [FlowDefinition(FLOW, triggers=(OnEvent("shop/ordered"),))]))
    return runtime


def test_on_a_full_disk_a_send_is_refused_whole_and_the_same_connection_goes_on_when_there_is_room(
    file: Store, path: Path
) -> None:
    runtime, disk = shop(file), Disk(file, path)
    with file.connection() as held:
        assert held.execute("SELECT 1") == [(1,)]
        disk.is_full = True
        with pytest.raises(StoreError, match="full"):
            send(runtime, large())
        assert rows_of(file, "SELECT count(*) FROM flows_events") == [(0,)]
        disk.is_full = False
        assert len(send(runtime, large())) == 20
        assert held.execute("SELECT count(*) FROM flows_runs") == [(20,)]


def test_an_upgrade_on_a_full_disk_says_so_changes_nothing_and_goes_on_when_there_is_room(
    file: Store, path: Path
) -> None:
    downgrade(file, "0005")
    with file.connection() as connection:
        connection.execute("VACUUM")
    disk = Disk(file, path)
    disk.is_full = True
    with pytest.raises(StoreError, match=r"is full\. Run this again when that is over"):
        upgrade(file)
    assert schema_version(file) == "0005"
    disk.is_full = False
    assert upgrade(file) == newest_version()


def test_a_step_that_could_not_be_recorded_for_want_of_room_is_done_again_when_there_is(
    file: Store, path: Path
) -> None:
    runtime, disk = shop(file), Disk(file, path)
    run_id = put_run(file)
    with file.connection() as pooled:
        assert pooled.execute("SELECT 1") == [(1,)]

    def body() -> str:
        disk.fill()
        return "y" * 200_000

    runtime.flows[FLOW] = replace(runtime.flows[FLOW], handler=lambda ctx: ctx.step.run("pack", body))
    with pytest.raises(StoreUnavailable, match="full"):
        take_turn(runtime, run_id)
    assert rows_of(file, "SELECT key FROM flows_steps") == []
    assert rows_of(file, "SELECT status, error FROM flows_runs") == [("running", None)]
    disk.is_full = False
    disk.fill = lambda: None  # type: ignore[method-assign]
    with file.connection() as connection:
        [held] = connection.runs.of_worker(runtime.worker)
        assert connection.runs.requeue(held) is not None
    assert take_turn(runtime, run_id).status == "completed"


def test_a_store_opened_to_read_alone_is_told_and_reads(
    path: Path, file: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_run(file)
    file.dispose()
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    read_only = Store(f"sqlite:///file:{path}?mode=ro&uri=true")
    try:
        with read_only.connection() as connection, pytest.raises(StoreError, match="readonly"):
            connection.execute("DELETE FROM flows_runs")
        assert rows_of(read_only, "SELECT count(*) FROM flows_runs") == [(1,)]
    finally:
        read_only.dispose()
    assert list(here.iterdir()) == [], "the URI is no folder's name"


def test_a_reader_that_never_lets_go_keeps_nobody_from_writing_and_the_log_shrinks_when_it_has_gone(
    path: Path, file: Store
) -> None:
    put_run(file)
    log = Path(f"{path}-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM flows_runs").fetchall()
        for n in range(40):
            file.transact(lambda tx, n=n: _write_much(tx, n))
        grown = log.stat().st_size
        # No checkpoint gets past what the reader still sees.
        assert grown > 1000 * PAGE
        assert reader.execute("SELECT count(*) FROM flows_runs").fetchall() == [(1,)]
        reader.execute("COMMIT")
    for n in range(3):
        file.transact(lambda tx, n=n: _write_much(tx, n))
    assert log.stat().st_size <= grown + 200 * PAGE
    with file.connection() as connection:
        # All that was written can be taken over into the file now.
        busy, frames, taken = connection.execute("PRAGMA wal_checkpoint(PASSIVE)")[0]
    assert (busy, taken) == (0, frames)


def _write_much(tx: Connection, n: int) -> None:
    # A page whose content stays as it was is not written.
    tx.execute("UPDATE flows_runs SET output = :text", text=f"{n:05}" * 40_000)


def test_two_processes_that_write_at_once_both_get_through(path: Path, file: Store) -> None:
    run_id = put_run(file)
    other = Store(f"sqlite:///{path}")
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            # Who only reads waits for nobody.
            assert outcome(other, run_id).status == "queued"
            writer.execute("ROLLBACK")
        other.transact(lambda tx: tx.flows.put_fact("a", "1"))
        file.transact(lambda tx: tx.flows.put_fact("b", "2"))
        assert rows_of(file, "SELECT count(*) FROM flows_meta WHERE key IN ('a', 'b')") == [(2,)]
    finally:
        other.dispose()
