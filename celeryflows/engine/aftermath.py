"""After a commit: what is committed stands, whatever happens to the word of it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from celeryflows.errors import StoreError

logger = logging.getLogger("celeryflows")


@contextmanager
def left_to_recovery() -> Iterator[None]:
    """After a commit an outage is no error of the caller: what it stops, the sweeper does."""
    try:
        yield
    except StoreError as error:
        logger.warning("what is committed is routed later: %s", error)
