"""What a client is told: plain words and the right status. How an error came about is told to the log alone."""

import logging

from werkzeug.exceptions import HTTPException

from celeryflows import (
    BoundExceeded,
    ExpressionError,
    FlowsError,
    InvalidDuration,
    InvalidEvent,
    NotStorable,
    RerunRefused,
    StoreError,
    StoreUnavailable,
    UnknownEvent,
    UnknownFlow,
    UnknownRun,
)
from celeryflows.console.invoking import KeyTaken

logger = logging.getLogger("celeryflows.doors")

MISSING = (UnknownRun, UnknownFlow, UnknownEvent)
WRONG = (InvalidEvent, BoundExceeded, ExpressionError, InvalidDuration, NotStorable)
NO_ANSWER = "The store does not answer. Nothing was accepted; send it again."
NOT_USABLE = "The store cannot be used as it is. Nothing was accepted; the log of the server tells why."
OURS = "Something went wrong here. The log of the server tells what."


def told(error: Exception) -> tuple[int, str]:
    """The status and the words for an error; what is not the client's own mistake goes to the log."""
    if isinstance(error, HTTPException):
        return error.code or 500, error.description or error.name
    if isinstance(error, MISSING):
        # Where the store is, is nothing for a client.
        return 404, str(error).partition(" in the store ")[0]
    if isinstance(error, WRONG):
        return 400, str(error)
    if isinstance(error, RerunRefused | KeyTaken):
        return 409, str(error)
    if isinstance(error, StoreError):
        logger.error("the store: %s", error)
        return 503, NO_ANSWER if isinstance(error, StoreUnavailable) else NOT_USABLE
    if isinstance(error, FlowsError):
        logger.error("%s: %s", type(error).__name__, error)
    else:
        logger.error("an error of our own", exc_info=error)
    return 500, OURS
