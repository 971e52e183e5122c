"""The plans that PostgreSQL keeps of prepared statements, made anew now and then.

One that was made while a table was small reads it from end to end, however much it grows, until the server has looked
at its tables by itself: a minute later, or much more. A new one goes by the table's size, which needs no look."""

import time
from typing import Any

_KEY = "celeryflows plans"
# Seconds, and how often the connection was taken from its pool: who asks rarely plans rarely.
AGE, USES = 10.0, 5
DISCARD = "DISCARD PLANS"


def are_old(pooled: Any) -> bool:
    """True when the connection's plans are to be discarded; told when it is taken from the pool."""
    if getattr(pooled.dbapi_connection, "prepare_threshold", None) is None:
        return False
    now = time.monotonic()
    since, uses = pooled.info.get(_KEY, (now, 0))
    old: bool = now - since >= AGE and uses >= USES
    pooled.info[_KEY] = (now, 0) if old else (since, uses + 1)
    return old
