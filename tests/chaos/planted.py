"""Faults planted in the engine of the workers, by name: a harness that cannot see them would prove nothing."""

import os
from collections.abc import Callable
from typing import Any

from celeryflows.flow_control.gates import GateBook
from celeryflows.scheduler import tick
from celeryflows.store import meters, steps
from celeryflows.store.gates import Gates

Put = Callable[[Any, str, Any], None]


def no_fence(put: Put) -> None:
    """Whoever records last wins, a worker that has lost its run too."""
    fenced = "AND turn = :turn AND claim_tok = :token AND status = 'running'"
    first_wins = "WHERE flows_steps.state IN ('retrying', 'waiting', 'edited')\nRETURNING"
    for name in ("RECORD", "RECORD_IN_BRANCH"):
        sql = getattr(steps, name)
        assert fenced in sql
        assert first_wins in sql
        put(steps, name, sql.replace(fenced, "").replace(first_wins, "RETURNING"))


def no_resend(put: Put) -> None:
    """A message that is lost stays lost."""
    put(tick, "resend_lost", lambda *_: 0)


def slots_kept(put: Put) -> None:
    """Who leaves keeps its slot, and nobody looks for it."""
    put(Gates, "hand_on", lambda *_: None)
    put(Gates, "vacate", lambda *_: True)
    put(tick, "audit", lambda *_: 0)


def wide_gates(put: Put) -> None:
    """Two more come in than may."""
    number = GateBook.number
    put(GateBook, "number", lambda self, gate: (number(self, gate) or 0) + 2)


def no_rates(put: Put) -> None:
    """Every start passes its meter."""
    passes = "WHERE flows_meters.tat - :tolerance <= {now} RETURNING"
    assert passes in meters.TAKE
    put(meters, "TAKE", meters.TAKE.replace(passes, "WHERE :tolerance >= 0 RETURNING"))


PLANTS: dict[str, Callable[[Put], None]] = {
    plant.__name__: plant for plant in (no_fence, no_resend, slots_kept, wide_gates, no_rates)
}
VARIABLE = "CHAOS_PLANT"


def plant() -> None:
    """Plant what the environment names."""
    if name := os.environ.get(VARIABLE):
        PLANTS[name](setattr)
