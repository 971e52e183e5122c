"""What racing processes do about turns: a zombie's record against its takeover, a claim against an answer."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from celeryflows.engine.intake import send
from celeryflows.engine.resume import requeue
from celeryflows.engine.turn import take_turn
from celeryflows.model.events import Event
from celeryflows.model.steps import Memo
from celeryflows.store import runs, steps
from celeryflows.store.database import Store
from celeryflows.store.runs import Claim, Held
from tests.store.making import FLOW, a_runtime, a_step, a_wait, put_run, take_claim
from tests.store.team import Racer


@contextmanager
def without_the_fence(store: Store) -> Iterator[None]:
    """On a server only the row's lock is taken out; SQLite has none, there the condition goes."""
    old = ("{share}",) if store.dialect.has_row_locks else ("AND turn = :turn", "AND claim_tok = :token", RUNNING)
    sql = steps.RECORD
    for word in old:
        assert word in sql
        sql = sql.replace(word, "", 1)
    with patch.object(steps, "RECORD", sql):
        yield


RUNNING = "AND status = 'running'"
NEVER = 2**62


def zombies(racer: Racer, url: str, run_ids: list[str], sound: bool) -> list[bool]:
    """Number 0 records under its claim while number 1 takes its runs over. True: recorded; and: seen by the next."""
    ends: list[bool] = []
    with racer.store(url) as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(without_the_fence(store))
        for number, run_id in enumerate(run_ids):
            claim = _claim_all(store, run_id, number + 1) if racer.number == 0 else None
            racer.meet()
            racer.pause(0.004)
            if claim is not None:
                ends.append(_record(store, claim))
            else:
                ends.append(_take_over(store, run_id, number + 1))
            racer.meet()
    return ends


def _claim_all(store: Store, run_id: str, token: int) -> Claim:
    with store.connection() as connection:
        claim = connection.runs.claim(run_id, "w0", token)
    assert claim is not None
    return claim


def _record(store: Store, claim: Claim) -> bool:
    with store.connection() as connection:
        return connection.repeat(lambda: connection.steps.record(a_step(claim))) is not None


def _take_over(store: Store, run_id: str, token: int) -> bool:
    seen: list[bool] = []
    runtime = a_runtime(store, {FLOW: lambda ctx: seen.append("charge" in ctx.step._journal.memos)})
    assert requeue(runtime, Held(run_id, 1, "w0", token))
    take_turn(runtime, run_id)
    return seen[0]


def queued_with_an_open_wait(store: Store, number: int) -> str:
    """A run that one of its two waits woke; the other, for event `shop/b<number>`, is open still."""
    claim = take_claim(store, put_run(store))
    words: dict[str, Any] = {"path": "", "value": ""}
    with store.begin() as tx:
        for key, name in (("a", "shop/a"), ("b", f"shop/b{number}")):
            tx.waits.add_shape(name, "")
            wait = a_wait(claim, key, name=name, **words)
            tx.waits.arm(wait)
            row = a_step(claim, key, None, kind="wait", state="waiting", due=wait.due)
            tx.steps.put([row])
            if key == "a":
                tx.waits.answer(wait.id, claim.event.id)
        assert tx.runs.suspend(claim, None, 0)
        assert tx.runs.queue_answered([claim.run_id])
    return claim.run_id


def stale_memos(racer: Racer, url: str, run_ids: list[str], sound: bool) -> list[tuple[int, bool]]:
    """Number 0 answers an open wait of a queued run, number 1 claims it. When, and (number 1) whether it was seen."""
    ends: list[tuple[int, bool]] = []
    with racer.store(url, "COMMIT", most=0.006) as store, ExitStack() as stack:
        if not sound:
            stack.enter_context(memos_of_the_claims_snapshot(store))
        for number, run_id in enumerate(run_ids):
            racer.meet()
            racer.pause(0.008)
            ends.append(_answer(store, number) if racer.number == 0 else _take(store, run_id))
    return ends


def _answer(store: Store, number: int) -> tuple[int, bool]:
    locked: list[int] = []
    hesitate = store.observer
    assert hesitate is not None

    def watch(sql: str) -> None:
        hesitate(sql)
        # The row of the run is ours by now, until the commit.
        if "SET state = 'answered'" in sql:
            locked.append(time.time_ns() // 1000)

    store.observer = watch
    send(a_runtime(store), [Event(f"shop/b{number}")])
    store.observer = hesitate
    # A run that was claimed first may have ended, and closed the wait, by now.
    return (locked[0] if locked else NEVER), True


def _take(store: Store, run_id: str) -> tuple[int, bool]:
    seen: list[tuple[int, bool]] = []

    def handler(ctx: Any) -> None:
        journal = ctx.step._journal
        seen.append((journal.recorder.claim.at, journal.memos["b"].wait == "answered"))

    take_turn(a_runtime(store, {FLOW: handler}), run_id)
    return seen[0]


@contextmanager
def memos_of_the_claims_snapshot(store: Store) -> Iterator[None]:
    """How the waits stood is read with the claim; where no statement can do both: before it."""
    states: dict[str, str] = {}
    claim, memos = runs.Runs.claim, steps.Steps.memos
    look = "SELECT key, state FROM flows_waits WHERE run_id = :id"

    def claim_with_memos(self: Any, run_id: str, worker: str, token: int, **carried: Any) -> Claim | None:
        states.clear()
        if store.dialect.name != "postgresql":
            states.update(self._execute(look, id=run_id))
            time.sleep(0.003)
            return claim(self, run_id, worker, token, **carried)
        whole = f"WITH look AS MATERIALIZED ({look}), mine AS ({runs.CLAIM.replace('RETURNING', RETURNING)}) " + JOINED
        found = self._execute(whole, id=run_id, worker=worker, token=token, carrier=None)
        states.update(found[0][0] if found else {})
        return self.claimed(run_id, worker, token)

    def memos_then(self: Any, run_id: str, branch: str) -> dict[str, Memo]:
        return {key: replace(memo, wait=states.get(key)) for key, memo in memos(self, run_id, branch).items()}

    with patch.object(runs.Runs, "claim", claim_with_memos), patch.object(steps.Steps, "memos", memos_then):
        yield


RETURNING = "RETURNING flows_runs.id AS mine,"
JOINED = "SELECT (SELECT json_object_agg(key, state) FROM look) FROM mine"
