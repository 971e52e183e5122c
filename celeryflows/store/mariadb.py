"""The store's statements as MariaDB takes them: they are written once, with PostgreSQL's RETURNING and ON CONFLICT.

An UPDATE that returns rows is a block of statements here, in a transaction of its own where none is open."""

import re
from collections.abc import Iterator

from celeryflows.store.schema import metadata

KEYS = {table.name: tuple(column.name for column in table.primary_key) for table in metadata.tables.values()}
KEYS["flows_locks"] = ("space", "n")
# Columns, and names of rows, that are words of MariaDB's own.
_RESERVED = frozenset(("key", "release", "cursor", "each"))
_TOKEN = re.compile(r"'(?:[^']|'')*'|%\(\w+\)s|@\w+|[A-Za-z_]\w*|[()]|.", re.DOTALL)
# Parameters stand in the text with their types.
_CAST_OF_PARAMETER = re.compile(r"CAST\((%\(\w+\)s) AS \w+(?:\(\d+\))?\)")
_INSERT = re.compile(r"INSERT INTO (\w+) \(([^)]*)\) (.*)")
_CONFLICT = re.compile(r"(?:\(([^)]*)\) )?DO (?:NOTHING|UPDATE SET (.*))")
_UPDATE = re.compile(r"UPDATE (\w+) SET (.*)")
_DELETE = re.compile(r"DELETE FROM (\w+) (.*)")
_SOUGHT = re.compile(r"(\(?[\w`, ]+?\)?) (?:=|IN) \((SELECT .*)")
# What is owed where the statement is no part of a transaction: its own.
_BLOCK = (
    "BEGIN NOT ATOMIC DECLARE own INT DEFAULT @@autocommit AND NOT @@in_transaction; "
    "DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN IF own THEN ROLLBACK; END IF; RESIGNAL; END; "
    "IF own THEN START TRANSACTION; END IF; {} IF own THEN COMMIT; END IF; END"
)
# 0 where the row that was there is left as it is. It has to be known, as a number, before a statement names it.
_WRITTEN = "@celeryflows_written"
DEFINE = f"SET {_WRITTEN} = 1"


class Guarded(str):
    """An insert whose last column tells of each row whether it was written, or left as it was."""


class Rows(str):
    """An insert of one row, which may be one of many: `values` within, the rest around."""

    head: str
    values: str
    tail: str


class Sought(str):
    """A statement about rows that are looked for and locked first: then it is done to them, by their keys."""

    keys: tuple[str, ...]
    look: str
    # With {rows} for the keys; `again` looks once more, `back` reads what came of it.
    again: str | None
    act: str
    back: str | None


def translated(sql: str) -> str:
    """The statement, its parameters in the driver's style, as MariaDB takes it."""
    text = _without_with(_words(" ".join(sql.split())))
    if found := _INSERT.fullmatch(text):
        return _insert(*found.groups())
    if found := _UPDATE.fullmatch(text):
        return _update(*found.groups())
    if found := _DELETE.fullmatch(text):
        return _delete(*found.groups())
    return text


def block(sql: str) -> str:
    """Statements in one round trip, as a part of the transaction that is open or that they begin."""
    return f"BEGIN NOT ATOMIC {sql}; END"


def _words(text: str) -> str:
    text = _CAST_OF_PARAMETER.sub(r"\1", text)
    words = []
    for token in _TOKEN.findall(text):
        words.append(f"`{token}`" if token in _RESERVED else token)
    text = "".join(words)
    text = re.sub(r" AS (?:bigint|integer)\)", " AS SIGNED)", text)
    text = re.sub(r" AS (?:text|varchar)(?:\(\d+\))?\)", " AS CHAR)", text)
    return re.sub(r"(?<![\w_])length\(", "char_length(", text)


def _without_with(text: str) -> str:
    """`WITH x AS (...)` stands within what inserts, and is the subquery of what updates or deletes."""
    if not text.startswith("WITH ") or text.startswith("WITH RECURSIVE"):
        return text
    name, rest = text[5:].split(" AS ", 1)
    inner, rest = _bracketed(rest.strip())
    if rest.startswith("INSERT"):
        head, select = _cut(rest, " SELECT ")
        return f"{head} WITH {name} AS ({inner}) SELECT {select}"
    if rest.startswith(("UPDATE", "DELETE")):
        return re.sub(rf"\(SELECT [\w`, ]+ FROM {name}\)", lambda _: f"({inner})", rest)
    return text


def _insert(table: str, columns: str, rest: str) -> str:
    rest, returned = _cut(rest, " RETURNING ")
    rest, conflict = _cut(rest, " ON CONFLICT ")
    returning = f" RETURNING {returned}" if returned else ""
    head = f"INSERT INTO {table} ({columns}) "
    if not conflict:
        return _rows(head, rest, "") if not returning else head + rest + returning
    target, sets = _CONFLICT.fullmatch(conflict).groups()  # type: ignore[union-attr]
    same = (target or f"`{KEYS[table][0]}`").split(",")[0].strip()
    sets, condition = _cut(sets or "", " WHERE ")
    sets = re.sub(r"excluded\.(`?\w+`?)", r"VALUES(\1)", sets)
    condition = re.sub(r"excluded\.(`?\w+`?)", r"VALUES(\1)", condition or ("" if sets else "false"))
    if not condition:
        return f"{head}{rest} ON DUPLICATE KEY UPDATE {sets}{returning}"
    if not sets and not returning:
        return _rows(head, rest, f" ON DUPLICATE KEY UPDATE {same} = VALUES({same})")
    # Assigned from the left: the condition is asked first, of what was there.
    given = [f"{same} = IF({_WRITTEN} := ({condition}), VALUES({same}), VALUES({same}))"]
    for one in _split(sets):
        column, value = one.split(" = ", 1)
        given.append(f"{column} = IF({_WRITTEN}, {value}, {table}.{column})")
    first, values = _first_value(rest)
    asked = f"{head}{first}IF({_WRITTEN} := 1, {values} ON DUPLICATE KEY UPDATE {', '.join(given)}"
    return Guarded(f"{asked} RETURNING {returned}, {_WRITTEN}") if returned else asked


def _rows(head: str, rest: str, tail: str) -> str:
    text = head + rest + tail
    if not rest.startswith("VALUES "):
        return text
    many = Rows(text)
    many.head, many.values, many.tail = f"{head}VALUES ", rest.removeprefix("VALUES "), tail
    return many


def _first_value(rest: str) -> tuple[str, str]:
    """What stands before the first value that is inserted, and the rest with that value closed."""
    start = re.search(r"^VALUES \(|(?:^|\) )SELECT ", rest)
    assert start is not None, rest
    first, others = next(_split_at(rest[start.end() :], ", "))
    return rest[: start.end()], f"{first}, NULL), {others}"


def _update(table: str, rest: str) -> str:
    rest, returned = _cut(rest, " RETURNING ")
    sets, condition = _cut(rest, " WHERE ")
    if sought := _sought(table, condition):
        look, more = sought
        return _steps(table, look, more, f"UPDATE {table} SET {sets} WHERE {{rows}}", returned)
    if not returned:
        return f"UPDATE {table} SET {rest}"
    by_key = _key_conditions(table, condition)
    if by_key is None:
        keys = ", ".join(f"`{key}`" for key in KEYS[table])
        look = f"SELECT {keys} FROM {table} WHERE {condition} FOR UPDATE"
        return _steps(table, look, None, f"UPDATE {table} SET {sets} WHERE {{rows}}", returned)
    update = f"UPDATE {table} SET {sets} WHERE {condition};"
    select = f"SELECT {returned} FROM {table} WHERE {by_key};"
    return _BLOCK.format(f"{update} IF ROW_COUNT() > 0 THEN {select} END IF;")


def _delete(table: str, rest: str) -> str:
    rest, returned = _cut(rest, " RETURNING ")
    sought = _sought(table, rest.removeprefix("WHERE "))
    returning = f" RETURNING {returned}" if returned else ""
    if sought is None:
        return f"DELETE FROM {table} {rest}{returning}"
    look, more = sought
    return _steps(table, look, more, f"DELETE FROM {table} WHERE {{rows}}{returning}", None)


def _steps(table: str, look: str, more: str | None, act: str, returned: str | None) -> Sought:
    keys = ", ".join(f"`{key}`" for key in KEYS[table])
    sought = Sought(f"{look}; {act}")
    sought.keys, sought.look, sought.act = KEYS[table], look, act
    sought.again = f"SELECT {keys} FROM {table} WHERE {{rows}} AND {more} FOR UPDATE" if more else None
    sought.back = f"SELECT {returned} FROM {table} WHERE {{rows}}" if returned else None
    return sought


def _sought(table: str, condition: str) -> tuple[str, str | None] | None:
    """Of a condition that is `key IN (SELECT key FROM the same table ...) AND more`: the select, and more."""
    found = _SOUGHT.fullmatch(condition)
    if found is None or re.sub(r"[`() ]", "", found[1]).split(",") != list(KEYS[table]):
        return None
    inner, more = _bracketed(f"({found[2]}")
    if f" FROM {table} " not in inner:
        return None
    return inner, more.removeprefix("AND ") or None


def _key_conditions(table: str, condition: str) -> str | None:
    """The part of a condition that names one row by its key, None when it does not."""
    found = {}
    for part in _split(condition, " AND "):
        if named := re.fullmatch(rf"(?:{table}\.)?(`?\w+`?) = (?:%\(\w+\)s|\d+)", part):
            found[named[1].strip("`")] = part
    if not all(key in found for key in KEYS[table]):
        return None
    return " AND ".join(found[key] for key in KEYS[table])


# -- texts with brackets


def _cut(text: str, word: str) -> tuple[str, str]:
    """The text before a word that stands in no brackets and no quotes, and the text after it, '' without it."""
    return next(_split_at(text, word), (text, ""))


def _split(text: str, word: str = ", ") -> list[str]:
    parts: list[str] = []
    while text:
        part, text = _cut(text, word)
        parts.append(part)
    return parts


def _split_at(text: str, word: str) -> Iterator[tuple[str, str]]:
    for at, depth in _places(text):
        if depth == 0 and text.startswith(word, at):
            yield text[:at], text[at + len(word) :]


def _bracketed(text: str) -> tuple[str, str]:
    """What is within the brackets that the text begins with, and what follows."""
    for at, depth in _places(text):
        if at and depth == 0:
            return text[1 : at - 1], text[at:].strip()
    return text[1:-1], ""


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Where tokens begin, and within how many brackets."""
    depth = at = 0
    for token in _TOKEN.findall(text):
        yield at, depth
        depth += (token == "(") - (token == ")")
        at += len(token)
