"""Batch: events gather until they are enough, by number or by bytes."""

from enum import Enum

from celeryflows.model.limits import Batch

BYTES_BOUND = 10 * 1024 * 1024


class Verdict(Enum):
    """What becomes of a batch and of the event that comes to it."""

    JOINS = "joins"
    FILLS = "joins, and the batch starts"
    OVERFLOWS = "the batch starts without it, and it opens the next"


def judge(limit: Batch, count: int, size: int, more: int) -> Verdict:
    """An event of `more` bytes comes to `count` events of `size` bytes; 0 events for a new batch."""
    if count and size + more > BYTES_BOUND:
        return Verdict.OVERFLOWS
    if count + 1 >= limit.max_size or size + more >= BYTES_BOUND:
        return Verdict.FILLS
    return Verdict.JOINS
