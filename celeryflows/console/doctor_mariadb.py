"""The doctor's look at a MariaDB server: the settings on which the store's promises stand."""

from celeryflows.console.findings import Finding, bad, ok, warn
from celeryflows.store.reports.server import MariadbView

MIB = 1024 * 1024
# A step's value may have 4 MiB, encrypted a third more, and as much again in quotes.
PACKET = 16 * MIB


def check_mariadb(server: MariadbView) -> list[Finding]:
    """Durability, sizes and comparison."""
    return [_flush(server), _packet(server), *_binlog(server), *_columns(server)]


def _flush(server: MariadbView) -> Finding:
    if server.flush == 1:
        return ok("durability", f"MariaDB {server.version} writes each commit to its disk")
    shown = f"innodb_flush_log_at_trx_commit is {server.flush}: a crash of the server forgets up to a second"
    return warn("durability", shown, "Set innodb_flush_log_at_trx_commit = 1, or accept that.")


def _packet(server: MariadbView) -> Finding:
    shown = f"max_allowed_packet is {server.packet / MIB:g} MiB"
    if server.packet >= PACKET:
        return ok("sizes", shown)
    return warn("sizes", f"{shown}: larger values of steps are refused", f"Set it to {PACKET // MIB}M or more.")


def _binlog(server: MariadbView) -> list[Finding]:
    if server.binlog != "STATEMENT":
        return []
    shown = "binlog_format is STATEMENT: the server refuses what is written under READ COMMITTED"
    return [bad("replication", shown, "Set binlog_format = ROW or MIXED.")]


def _columns(server: MariadbView) -> list[Finding]:
    if not server.odd_columns:
        return []
    shown = f"{server.odd_columns} columns of the store were converted: keys that differ in case may count as one"
    remedy = "Convert the flows_ tables back: CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin, gates' names ascii."
    return [bad("collation", shown, remedy)]
