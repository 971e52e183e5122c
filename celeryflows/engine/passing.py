"""Branches that a delivery claimed with their group: given up before they begin, or ended together.

An end that is not written yet costs nothing when its process dies: the branch is repeated over its memos."""

from collections.abc import Sequence
from dataclasses import dataclass

from celeryflows.engine.leaving import send_off
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.units import lock_units, queue_units
from celeryflows.errors import LostTurn
from celeryflows.model.branches import group_of, parent_of
from celeryflows.model.runs import Delivery, Status
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection
from celeryflows.store.groups import DONE
from celeryflows.store.runs import Claim


@dataclass(frozen=True, slots=True)
class End:
    """A branch that completed with a value, as JSON, under a claim that its group's siblings share."""

    claim: Claim
    value: str

    @property
    def unit(self) -> Unit:
        """The branch."""
        return self.claim.unit


def write_ends(tx: Connection, ends: Sequence[End]) -> None:
    """running -> completed, of locked branches of one group that was counted. Raises LostTurn unless all are ours."""
    if ends and tx.passing.end_together(ends[0].claim, [(end.claim.path, end.value) for end in ends]) < len(ends):
        raise LostTurn


def end_by_themselves(runtime: Runtime, ends: Sequence[End]) -> None:
    """Write ends of one group of a delivery that does something else, or nothing more."""
    first = ends[0].claim
    group, parent = group_of(first.path), (first.run_id, parent_of(first.path))

    def work(tx: Connection) -> list[Delivery]:
        state = tx.groups.arrive(first.run_id, group, first.path, count=len(ends))
        lock_units(tx, {parent, *(end.unit for end in ends)} if state == DONE else {end.unit for end in ends})
        try:
            write_ends(tx, ends)
        except LostTurn:
            found = tx.branches.stands(first)
            if found is None or (found.token, found.status) != (first.token, Status.COMPLETED):
                raise
            raise _WrittenBefore from None
        return queue_units(tx, [parent]) if state == DONE else []

    try:
        deliveries = runtime.store.transact(work)
    except _WrittenBefore:
        # Our own commit, whose reply was lost; a message too many claims nothing.
        deliveries = [Delivery(first.run_id, first.flow, first.message, parent[1])]
    except LostTurn:
        return
    send_off(runtime, deliveries)


def give_up(runtime: Runtime, claims: Sequence[Claim]) -> None:
    """running -> queued, of branches of one group whose turn has not begun; their messages follow."""
    runtime.store.transact(lambda tx: tx.passing.give_up(claims[0], [claim.path for claim in claims]))


class _WrittenBefore(Exception):
    """Takes the second try back."""
