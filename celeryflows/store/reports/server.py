"""What a server says of itself and of its database, as far as a store depends on it. A short read."""

from dataclasses import dataclass

from sqlalchemy import text

from celeryflows.store.database import Store
from celeryflows.store.mariadb_session import COLLATION
from celeryflows.store.reports.reading import read


@dataclass(frozen=True, slots=True)
class MariadbView:
    """Its version and settings; `odd_columns`: how many of the store's columns compare otherwise than they were made.
    `flush`: innodb_flush_log_at_trx_commit; `packet` in bytes."""

    version: str
    flush: int
    packet: int
    binlog: str
    odd_columns: int


def mariadb_server(store: Store) -> MariadbView | None:
    """The server of a store, None on other databases."""
    if store.dialect.name != "mariadb":
        return None
    settings = "SELECT VERSION(), @@innodb_flush_log_at_trx_commit, @@max_allowed_packet, "
    ((version, flush, packet, binlog),) = read(store, text(f"{settings}IF(@@log_bin, @@binlog_format, 'off')"))
    odd = (
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = DATABASE() "
        "AND table_name LIKE 'flows\\_%' AND table_name <> 'flows_schema' AND collation_name IS NOT NULL "
        f"AND collation_name NOT IN ('{COLLATION}', 'ascii_nopad_bin')"
    )
    ((odd_columns,),) = read(store, text(odd))
    return MariadbView(str(version), int(flush), int(packet), str(binlog), int(odd_columns))


def encoding(store: Store) -> str | None:
    """The encoding of a PostgreSQL database, None on others."""
    if store.dialect.name != "postgresql":
        return None
    ((found,),) = read(store, text("SHOW server_encoding"))
    return str(found)
