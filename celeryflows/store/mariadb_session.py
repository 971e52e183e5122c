"""How a session on MariaDB begins, and what its errors mean."""

import re
from typing import Any

from celeryflows.errors import ConfigurationError
from celeryflows.store.mariadb import DEFINE

_SETTLED = "celeryflows_settled"
OLDEST = (10, 11)
# Case and blanks at the end count, as on the other databases; ids sort by their bytes.
COLLATION = "utf8mb4_nopad_bin"
_SETTINGS = (
    f"SET SESSION collation_connection = {COLLATION}, time_zone = '+00:00', "
    "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,PIPES_AS_CONCAT,"
    "SIMULTANEOUS_ASSIGNMENT'"
)
# A deadlock, a lock that was waited for too long, a row that a snapshot saw otherwise: all may be tried again.
TRANSIENT = frozenset((1213, 1205, 1020))
# No room on a disk; too many connections, killed or shut down; never reached, or lost. 0 is PyMySQL's for a connection
# that is closed.
_NO_ROOM = (1021, 1114)
_ENDED = (1040, 1053, 1152, 1158, 1159, 1160, 1161, 1203, 1317, 1927, 1969)
_LOST = (0, 2002, 2003, 2006, 2013, 2014, 2055, 4031)
OUTAGES = frozenset((*_NO_ROOM, *_ENDED, *_LOST))


def settle(raw: Any) -> None:
    """Make a new connection of the driver ours. Raises ConfigurationError for a server that is no store."""
    check_version(str(raw.get_server_info()))
    cursor = raw.cursor()
    cursor.execute(_SETTINGS)
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    cursor.execute(DEFINE)
    cursor.close()
    setattr(raw, _SETTLED, True)


def is_settled(cursor: Any) -> bool:
    """True for a cursor of a connection that is ours, not somebody's that we join."""
    return getattr(getattr(cursor, "connection", None), _SETTLED, False)


def check_version(told: str) -> None:
    """Raise ConfigurationError unless the server is a MariaDB that is new enough."""
    version = version_of(told)
    if version is None:
        raise ConfigurationError(
            f"flows_store_url leads to MySQL {told}, on which celeryflows does not run. Use MariaDB 10.11 or newer, "
            "PostgreSQL or SQLite."
        )
    if version < OLDEST:
        raise ConfigurationError(f"flows_store_url leads to MariaDB {told}; celeryflows needs 10.11 or newer.")


def version_of(told: str) -> tuple[int, ...] | None:
    """The version of a MariaDB by what the server tells, None of another."""
    # Older drivers are told "5.5.5-" before the version.
    found = re.search(r"(\d+)\.(\d+)\.\d+-MariaDB", told.removeprefix("5.5.5-"))
    return (int(found[1]), int(found[2])) if found else None


def in_transaction(raw: Any) -> bool:
    """True when the driver's connection is in one."""
    cursor = raw.cursor()
    cursor.execute("SELECT @@in_transaction")
    (answer,) = cursor.fetchone()
    cursor.close()
    return bool(answer)


def code_of(error: BaseException) -> int | None:
    """The number of a driver's error."""
    code = error.args[0] if error.args else None
    return code if isinstance(code, int) else None
