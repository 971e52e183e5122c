"""Processes that race one another: started once, they do one piece of work together after the other."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Barrier
from traceback import format_exc
from typing import Any

from sqlalchemy import event

from celeryflows.store.database import Store

PATIENCE = 60.0
_CONTEXT = get_context("spawn")


@dataclass
class Racer:
    """One process at one piece of work: its number, how many there are, and where they meet."""

    number: int
    count: int
    barrier: Barrier
    dice: random.Random = field(default_factory=random.Random)

    def meet(self) -> None:
        """Go on when all are here."""
        self.barrier.wait(PATIENCE)

    def pause(self, most: float) -> None:
        """For up to so many seconds, so that every order comes about."""
        time.sleep(self.dice.random() * most)

    @contextmanager
    def store(self, url: str, *delayed: str, most: float = 0.003) -> Iterator[Store]:
        """The store, which hesitates before statements that hold one of these words."""
        store = Store(url)
        if store.dialect.name == "sqlite":
            event.listen(store.engine, "connect", self._give_pause)

        def hesitate(sql: str) -> None:
            if any(word in sql for word in delayed):
                self.pause(most)

        store.observer = hesitate
        try:
            yield store
        finally:
            store.dispose()

    def _give_pause(self, raw: Any, _record: object) -> None:
        raw.create_function("pause", 0, lambda: self.pause(PAUSE))


# How long a statement that writes a step may take between its fence and its insert.
PAUSE = 0.008


def slow_steps(store: Store) -> None:
    """Make that pause happen, inside the database."""
    if store.dialect.name == "sqlite":
        sql = ["CREATE TRIGGER slow BEFORE INSERT ON flows_steps BEGIN SELECT pause(); END"]
    elif store.dialect.name == "mariadb":
        sql = [f"CREATE TRIGGER slow BEFORE INSERT ON flows_steps FOR EACH ROW DO SLEEP(RAND() * {PAUSE})"]
    else:
        sql = [
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_sleep(random() * {PAUSE}); RETURN NEW; END $$",
            "CREATE TRIGGER slow BEFORE INSERT ON flows_steps FOR EACH ROW EXECUTE FUNCTION slow()",
        ]
    with store.engine.connect() as connection:
        for line in sql:
            connection.exec_driver_sql(line)


class Team:
    """Some processes; `run` has the first few of them do the same work at once."""

    def __init__(self, *counts: int) -> None:
        # Kept here too: who makes them must outlive those who are still starting.
        self._barriers = {count: _CONTEXT.Barrier(count) for count in counts}
        self._members: list[tuple[Any, Pipe]] = []
        for number in range(max(counts)):
            ours, theirs = _CONTEXT.Pipe()
            process = _CONTEXT.Process(target=_serve, args=(number, theirs, self._barriers), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def run(self, count: int, work: Callable[..., Any], *args: Any) -> list[Any]:
        """What `work(racer, *args)` gives in each of `count` processes. An error of one is raised here."""
        members = self._members[:count]
        for _, pipe in members:
            pipe.send((work, count, args))
        answers = [pipe.recv() for _, pipe in members]
        errors = [error for error, _ in answers if error]
        if errors:
            self._barriers[count].reset()
            raise AssertionError("\n".join([e for e in errors if "BrokenBarrier" not in e] or errors))
        return [result for _, result in answers]

    def stop(self) -> None:
        """Send them home."""
        for process, pipe in self._members:
            pipe.close()
            process.join(10)
            if process.is_alive():
                process.kill()


def _serve(number: int, pipe: Pipe, barriers: dict[int, Barrier]) -> None:
    while True:
        try:
            work, count, args = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[str, Any] = "", work(Racer(number, count, barriers[count]), *args)
        except BaseException:
            barriers[count].abort()
            answer = format_exc(), None
        pipe.send(answer)


def flat(lists: Sequence[Sequence[Any]]) -> list[Any]:
    """What all gave, in one list."""
    return [one for found in lists for one in found]
