"""`step.transaction`: what a function writes in the store's database and the memo of its step commit together.

The fence is the last statement before the commit: a zombie's statements are rolled back."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from celeryflows.engine.slots import Slot
from celeryflows.engine.tools.run import RunTool, check_callable
from celeryflows.engine.units import lock_units
from celeryflows.errors import LostTurn, TurnCancelled
from celeryflows.model.runs import Status
from celeryflows.model.step_options import StepOptions
from celeryflows.model.steps import Kind, State
from celeryflows.steps import Result
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection
from celeryflows.store.database import Store
from celeryflows.store.steps import ReadBack
from celeryflows.store.user_transaction import Transaction, UserTransaction, user_transaction


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction's value, and the store's clock when it was recorded; None when the fence refused it. `asked`: when
    the store was told of it, by this process's monotonic clock."""

    text: str
    at: int | None
    asked: float


class TransactionTool(RunTool):
    """Steps that are done exactly once."""

    def open_transaction(self, id: str, fn: Callable[..., Any], options: StepOptions) -> Slot:
        """Look a step up, or open it for its attempt: a body that begins, calls, records and commits."""
        check_callable(id, fn)
        if iscoroutinefunction(fn):
            raise TypeError(f"step {id!r}: a transaction's function is a plain one; in async flows it runs in a thread")
        slot = self.open_attempt(self.enter(id, Kind.TRANSACTION, options), fn)
        if slot.result is None:
            slot.body = partial(self._transact, slot, fn, slot.body)
        return slot

    def transacted(self, slot: Slot, done: Committed) -> Result:
        """Go on behind the commit."""
        self.leave(slot)
        row = slot.row(State.DONE, slot.attempts + 1, done.text)
        text: str | None = done.text
        with self.at_the_store():
            if done.at is None:
                text = self.recorder.adopt(row, done.asked)
            else:
                self.recorder.recorded(row, done.at, done.asked)
        self.budget.add(text or "")
        return self.value(slot, text)

    def failed(self, slot: Slot, error: Exception) -> Result:
        """As for any step; but first look whether it was only the reply to the commit that failed."""
        if slot.kind is Kind.TRANSACTION:
            claim = self.recorder.claim
            with self.at_the_store():
                found = self.recorder.connection.transact(partial(_settled, (claim.run_id, claim.path), slot.key))
            is_ours = found is not None and (found.turn, found.token) == (claim.turn, claim.token)
            if found is not None and is_ours and found.state == State.DONE:
                return self.transacted(slot, Committed(found.value or "", found.ended_at, slot.started))
        return super().failed(slot, error)

    def _transact(
        self, slot: Slot, fn: Callable[..., Any], body: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Committed:
        """One attempt, on a connection of its own: in async flows this runs in another thread than the turn."""
        seen: list[ReadBack] = []
        asked = self.runtime.clock.monotonic()
        try:
            with user_transaction(self.runtime.store, partial(self._look, slot, seen), self._begin) as transaction:
                if seen and seen[0].state == State.DONE:
                    # An attempt that the handler itself cancelled went on and committed.
                    return Committed(seen[0].value or "", seen[0].ended_at, asked)
                with transaction.handed_to(fn) as given:
                    raw = body(given, *args, **kwargs)
                    text, _ = self.stored(slot, raw)
                transaction.check_whole(slot.key)
                asked = self.runtime.clock.monotonic()
                at = transaction.record(slot.row(State.DONE, slot.attempts + 1, text))
                if at is not None:
                    transaction.commit()
                return Committed(text, at, asked)
        except (LostTurn, TurnCancelled) as signal:
            self.give_up(signal)
            raise

    def _begin(self, store: Store) -> Transaction:
        """The framework's own transaction where it has the store's database, as the user's other code has it."""
        callers = self.runtime.callers
        theirs = callers.step_transaction(store) if callers is not None else None
        return theirs or UserTransaction(store)

    def _look(self, slot: Slot, seen: list[ReadBack], tx: Connection) -> None:
        """A zombie does not even begin."""
        claim = self.recorder.claim
        found = tx.steps.read_back(claim.run_id, slot.key, claim.path)
        if found is not None and found.status == Status.CANCELLED:
            raise TurnCancelled
        if found is None or (found.turn, found.token, found.status) != (claim.turn, claim.token, Status.RUNNING):
            raise LostTurn
        seen[:] = [found]


def _settled(unit: Unit, key: str, tx: Connection) -> ReadBack | None:
    """How the step stands once a commit that may be under way is through: it holds the unit's row until then."""
    lock_units(tx, [unit])
    return tx.steps.read_back(unit[0], key, unit[1])
