"""The kinds of columns, and what several tables have alike."""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Text, text

metadata = MetaData()

# Ids sort by their bytes everywhere: the order of locks and pages, and cheaper than a language's order.
ID = String(256).with_variant(String(256, collation="C"), "postgresql")
NAME = String(512)
# What a limit counts under: derived from the limit and its key's value.
GATE = (
    String(64)
    .with_variant(String(64, collation="C"), "postgresql")
    .with_variant(String(64, collation="ascii_nopad_bin"), "mariadb")
)
# A step's id, its count, and the path of the branch that it belongs to. MariaDB's indexes take 3,072 bytes.
KEY = String(512).with_variant(String(512, collation="C"), "postgresql").with_variant(String(490), "mariadb")


def long(name: str, **options: object) -> Column[str]:
    """A column for what users give."""
    return Column(name, Text(), **options)  # type: ignore[arg-type]


def limited() -> tuple[Column[object], ...]:
    """What a unit has of limits: all null without any. Its gates, its slots' numbers there, where it waits and its
    place in that line, and its head start in microseconds."""
    return (
        Column("g1", GATE),
        Column("g2", GATE),
        Column("n1", Integer),
        Column("n2", Integer),
        Column("held_at", GATE),
        Column("rank", BigInteger),
        Column("priority", BigInteger),
    )


# Said by an index of what is queued, at work, due, open or unrouted, and only by who reads along it: true of all rows.
# Else PostgreSQL takes an index that is empty by its statistics, where it has any, for cheaper than the primary key,
# and goes through all that is queued to claim one run.
ALONG = "sends >= 0"
ALONG_WAITS = "name > ''"
ALONG_EVENTS = "stored_at >= 0"


def cut_off(memos: str) -> str:
    """What is written where a unit is lost, or cut off with its worker: since when the step at hand may have begun. Not
    before the first turn that came to so many memos was sent did it."""
    return f"lost_since = COALESCE(CASE WHEN lost_at = {memos} THEN lost_since END, sent_at, started_at)"


def partial_index(name: str, columns: list[Column[object]], condition: str) -> None:
    """An index of the rows for which the condition is true."""
    where = text(condition)
    Index(name, *columns, postgresql_where=where, sqlite_where=where)
