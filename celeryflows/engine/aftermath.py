"""After a commit: what is committed stands, whatever happens to the word of it."""

import logging
from collections.abc import Callable, Iterator
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


def after_the_callers(call: Callable[[], object]) -> Callable[[], None]:
    """What is done after a commit of the caller's own: no error of it is the caller's any more."""

    def quietly() -> None:
        try:
            call()
        except Exception:
            logger.warning("what was sent in a committed transaction is left to the workers to route", exc_info=True)

    return quietly
