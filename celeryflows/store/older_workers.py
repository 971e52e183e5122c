"""Living workers whose code would not know a schema that something was taken away from: an upgrade to it refuses."""

from typing import Any

from sqlalchemy import inspect, text

from celeryflows.errors import SchemaMismatch
from celeryflows.store.schema import workers
from celeryflows.store.versions import Upgradable, is_older, newest_version, since_version, told_since, version_in

# Who has beaten within this is alive.
SILENCE = 60_000_000


def check_workers(store: Upgradable, connection: Any, silence: int) -> None:
    """Raise SchemaMismatch, with what to do, while a worker that has beaten within `silence` may need what is taken
    away. One that entered itself before workers told their schema may be as old as the store has let in."""
    inspector = inspect(connection)
    if not inspector.has_table(workers.name):
        return
    told, since = told_since(connection), since_version()
    if told == since:
        return
    is_told = any(column["name"] == "schema_version" for column in inspector.get_columns(workers.name))
    known = "schema_version" if is_told else "NULL"
    since_then, asked = f"{store.dialect.word('now')} - :silence", {"silence": silence}
    if store.dialect.binds_now:
        since_then, asked = ":since", {"since": store.clock.now() - silence}
    alive = connection.execute(
        text(f"SELECT host, pid, {known} FROM flows_workers WHERE beat_at > {since_then} ORDER BY started_at"), asked
    )
    oldest = told or version_in(connection) or ""
    older = [(host, pid, version) for host, pid, version in alive if is_older(version or oldest, since)]
    if older:
        shown = ", ".join(f"{host} (pid {pid}, {version or 'of an older celeryflows'})" for host, pid, version in older)
        raise SchemaMismatch(
            f"The store {store.shown_url()} has living workers whose code cannot work on schema "
            f"{newest_version()}: {shown}. It is for code that knows schema {since}. Stop them, or deploy a "
            f"release with schema {since} first; one that was killed counts as alive for {silence / 1e6:g} s. If they "
            "may fail, run: celery -A <app> flows db upgrade --force"
        )
