"""Runs and branches side by side: locked in one order, queued each in its own table."""

from collections.abc import Iterable

from celeryflows.model.runs import Delivery
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection


def lock_units(tx: Connection, units: Iterable[Unit], *, whole: Iterable[str] = ()) -> None:
    """Take the rows (lock class 4): the runs by id, then the branches; of `whole` runs all that are open."""
    runs, branches = _parted(units)
    tx.runs.lock(runs)
    if whole:
        tx.branches.lock_all(whole, branches)
    elif branches:
        tx.branches.lock(branches)


def queue_units(tx: Connection, units: Iterable[Unit]) -> list[Delivery]:
    """suspended -> queued, of locked units for which something came that they wait for."""
    runs, branches = _parted(units)
    queued = tx.runs.queue_answered(runs) if runs else []
    return queued + (tx.branches.queue_answered(branches) if branches else [])


def _parted(units: Iterable[Unit]) -> tuple[list[str], list[Unit]]:
    ordered = sorted(units)
    return [run for run, branch in ordered if not branch], [unit for unit in ordered if unit[1]]
