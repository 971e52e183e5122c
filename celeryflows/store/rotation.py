"""Sealing what is stored under the newest key, a bounded piece a transaction, while workers go on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Integer

from celeryflows.codec import SEALED, is_sealed
from celeryflows.errors import ConfigurationError, PayloadLocked
from celeryflows.model.waits import match_hash
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.schema import metadata
from celeryflows.store.sealing import PAYLOADS, Sealer

PIECE = 200
# Facts about the store itself, and flows as their code declares them.
NOT_PAYLOADS = ("flows_meta", "flows_flows", "flows_crons")


@dataclass(frozen=True, slots=True)
class Kept:
    """A table that keeps payloads: what names a row, and the columns that are sealed."""

    name: str
    key: tuple[str, ...]
    # What sorts before every row, by the columns' types.
    before: tuple[str | int, ...]
    payloads: tuple[str, ...]


def kept_payloads() -> list[Kept]:
    """Every table with payloads, as the schema has them."""
    found = []
    for table in metadata.sorted_tables:
        payloads = tuple(column.name for column in table.columns if column.name in PAYLOADS)
        if payloads and table.name not in NOT_PAYLOADS:
            key = tuple(column.name for column in table.primary_key)
            before = tuple(-1 if isinstance(column.type, Integer) else "" for column in table.primary_key)
            found.append(Kept(table.name, key, before, payloads))
    return found


def rotate(store: Store, told: Callable[[str, int, int], None], piece: int = PIECE) -> int:
    """Seal every payload under the first key, or open them all when that is "plain"; how many were changed.

    `told` hears of each piece: the table, rows seen and payloads changed so far. Every process must have the new key
    by then. Raises ConfigurationError without keys, PayloadLocked for a payload whose key is not among them.
    """
    sealer = store.sealer
    if sealer is None:
        raise ConfigurationError("Set flows_encryption_keys first: the new key, then the old ones.")
    changed = 0
    for kept in kept_payloads():
        seen = 0
        for rows in _pieces(store, kept, piece):
            seen += len(rows)
            changed += store.transact(partial(_reseal, sealer=sealer, kept=kept, rows=rows))
            told(kept.name, seen, changed)
    changed += _mark_anew(store, sealer, piece)
    store.transact(lambda tx: tx.flows.seal_under_only(sealer.writes_under))
    return changed


def _pieces(store: Store, kept: Kept, piece: int) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in the order of their keys. Under other names the columns come as they are stored."""
    columns = ", ".join([*kept.key, *(f"{name} AS raw{i}" for i, name in enumerate(kept.payloads))])
    order = ", ".join(kept.key)
    after = ", ".join(f":{name}" for name in _names(kept))
    # Said apart, for MariaDB goes along no index by a comparison of several columns.
    first = f"{kept.key[0]} >= :{_names(kept)[0]}"
    at: tuple[Any, ...] = kept.before
    while True:
        asked = dict(zip(_names(kept), at, strict=True))
        sql = f"SELECT {columns} FROM {kept.name} WHERE {first} AND ({order}) > ({after}) ORDER BY {order} LIMIT :most"
        with store.connection() as connection:
            rows = connection.execute(sql, most=piece, **asked)
        if not rows:
            return
        yield rows
        at = rows[-1][: len(kept.key)]


def _reseal(tx: Connection, *, sealer: Sealer, kept: Kept, rows: Sequence[tuple[Any, ...]]) -> int:
    current = f"{SEALED}{sealer.writes_under}:" if sealer.writes_under is not None else None
    where = " AND ".join(f"{column} = :{name}" for column, name in zip(kept.key, _names(kept), strict=True))
    changed = 0
    for row in rows:
        keys = dict(zip(_names(kept), row, strict=False))
        for name, text in zip(kept.payloads, row[len(kept.key) :], strict=True):
            if text is None or (not is_sealed(text) if current is None else text.startswith(current)):
                continue
            opened = sealer.open(text)
            if is_sealed(opened):
                raise PayloadLocked(f"{kept.name}.{name} holds a payload whose key is not in flows_encryption_keys.")
            # Who wrote meanwhile wrote under a key of its own: that is met by the next pass.
            sql = f"UPDATE {kept.name} SET {name} = :fresh WHERE {where} AND {name} = :stale RETURNING 1"
            changed += len(tx.execute(sql, fresh=sealer.seal(opened), stale=text, **keys))
    return changed


def _names(kept: Kept) -> tuple[str, ...]:
    return ("key_a", "key_b", "key_c")[: len(kept.key)]


def _mark_anew(store: Store, sealer: Sealer, piece: int) -> int:
    """Open waits are found by their hash: under the newest key like the rest."""
    changed, after = 0, ""
    while True:
        rows = store.transact(partial(_mark_piece, sealer=sealer, after=after, piece=piece))
        if not rows:
            return changed
        changed += sum(rows.values())
        after = max(rows)


def _mark_piece(tx: Connection, *, sealer: Sealer, after: str, piece: int) -> dict[str, bool]:
    """The waits of a piece, and whether each was changed."""
    found: dict[str, bool] = {}
    for id, name, path, value, old in tx.execute(
        "SELECT id, name, path, value, hash FROM flows_waits WHERE state = 'open' AND id > :after "
        "ORDER BY id LIMIT :most",
        after=after,
        most=piece,
    ):
        plain = match_hash(name, path, value)
        mark = sealer.mark(plain)
        found[id] = old != mark and old in sealer.marks([plain])
        if found[id]:
            tx.execute("UPDATE flows_waits SET hash = :mark WHERE id = :id AND state = 'open'", mark=mark, id=id)
    return found
