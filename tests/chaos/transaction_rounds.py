"""Rounds of kill -9 around a transaction's commit: `python -m tests.chaos.transaction_rounds URL ROUNDS SEED GIVEN`.

One warmed parent forks a worker for each round, kills it at the chosen moment, recovers the run and takes its next
turn. It has one thread, so that forking is safe. GIVEN: whose connection the function gets. It tells what it saw."""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from typing import Any, NoReturn

from celery import Celery
from sqlalchemy import Column, Connection, MetaData, String, Table, create_engine, insert, select

from celeryflows import Flows, Status
from celeryflows.clock import SystemClock
from celeryflows.contrib.django.atomic import DjangoCallers
from celeryflows.contrib.django.step_atomic import AtomicStep
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.resume import requeue
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.starting import Call, call_event, start
from celeryflows.engine.turn import take_turn
from celeryflows.ids import new_id
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from celeryflows.store.user_transaction import Transaction, UserTransaction
from tests.chaos.django_project import live_in_django

# Where the worker dies: behind its statements, behind the commit, or around the commit when its parent strikes.
MOMENTS = ("statements", "committed", "around")
LATEST = 0.001

metadata = MetaData()
witness = Table("witness", metadata, Column("run", String(64)), Column("execution", String(64)))


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Rounds:
    """The engine, its flow, and what was seen."""

    def __init__(self, url: str, seed: int, given: str) -> None:
        self.store = Store(url)
        upgrade(self.store)
        engine = create_engine(self.store.url)
        metadata.create_all(engine)
        engine.dispose()
        self.dice = random.Random(seed)
        self.moment = ""
        self.ready = -1
        self.seen: Counter[str] = Counter()
        self.runtime = self._runtime()
        kind: Any = UserTransaction
        if given == "django":
            live_in_django(url)
            kind, self.runtime.callers = AtomicStep, DjangoCallers("default")
        register_worker(self.runtime)
        self._commit = kind.commit
        kind.commit = lambda transaction: self.commit(transaction)

    def _runtime(self) -> Runtime:
        flows = Flows(Celery("rounds", broker="memory://", set_as_current=False))

        @flows.flow(name="rounds.write", retries=0)
        def write(ctx: Any) -> Any:
            return ctx.step.transaction("write", self.write, ctx.run_id)

        return flows.runtime_on(self.store, InlineDispatcher(), SystemClock())

    # -- in the worker

    def write(self, connection: Any, run_id: str) -> str:
        """The user's function: a line that names this execution."""
        execution = new_id()
        if isinstance(connection, Connection):
            connection.execute(insert(witness).values(run=run_id, execution=execution))
        else:
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO witness (run, execution) VALUES (%s, %s)", [run_id, execution])
        if self.moment == "statements":
            die()
        return execution

    def commit(self, transaction: Transaction) -> None:
        """The commit, and perhaps the end right behind it."""
        if self.moment == "around":
            os.write(self.ready, b".")
            time.sleep(self.dice.uniform(0, LATEST))
        self._commit(transaction)
        if self.moment == "committed":
            die()
        if self.moment == "around":
            # Nothing of what follows the reply is done.
            time.sleep(60)

    # -- in the parent

    def play(self, rounds: int) -> None:
        """Kill a worker in each round, and let another finish its run."""
        for number in range(rounds):
            moment = MOMENTS[number % len(MOMENTS)]
            run_id = start(self.runtime, Call("rounds.write", call_event((), {})))
            self.kill_a_worker(run_id, moment)
            (held,) = self.held(run_id)
            self.seen[f"{moment}: {'written' if self.lines(run_id) else 'nothing written'}"] += 1
            requeue(self.runtime, held)
            end = take_turn(self.runtime, run_id)
            assert end.status is Status.COMPLETED, end
            assert self.lines(run_id) == [end.value], f"{moment}: {self.lines(run_id)} beside the value {end.value}"

    def kill_a_worker(self, run_id: str, moment: str) -> None:
        """Fork it, and wait for its end by SIGKILL."""
        heard, ready = os.pipe()
        worker = os.fork()
        if worker == 0:
            # Its throws are not its parent's.
            self.dice.random()
            self.moment, self.ready = moment, ready
            take_turn(self.runtime, run_id)
            os._exit(3)
        os.close(ready)
        if moment == "around" and os.read(heard, 1):
            time.sleep(self.dice.uniform(0, LATEST))
            os.kill(worker, signal.SIGKILL)
        _, status = os.waitpid(worker, 0)
        os.close(heard)
        assert os.WIFSIGNALED(status), f"{moment}: the worker lived on and ended with {status}"

    def held(self, run_id: str) -> list[Any]:
        """The turn that nobody takes any more."""
        with self.store.connection() as connection:
            return [one for one in connection.runs.of_worker(self.runtime.worker) if one.id == run_id]

    def lines(self, run_id: str) -> list[str]:
        """The executions that the witness knows, once the dead worker's connection is gone too."""
        with self.store.engine.connect() as connection:
            if self.store.dialect.has_row_locks:
                connection.exec_driver_sql("SELECT id FROM flows_runs WHERE id = %(id)s FOR UPDATE", {"id": run_id})
            return list(connection.scalars(select(witness.c.execution).where(witness.c.run == run_id)))


if __name__ == "__main__":
    rounds = Rounds(sys.argv[1], int(sys.argv[3]), sys.argv[4])
    rounds.play(int(sys.argv[2]))
    sys.stdout.write(json.dumps(rounds.seen, sort_keys=True))
