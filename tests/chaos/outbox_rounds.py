"""Senders that die at random: `python -m tests.chaos.outbox_rounds FRAMEWORK SETTINGS SENDS SEED`.

One warmed parent of one thread forks a sender, which does one transaction after another, every second one rolled back;
it dies by kill -9 at known points, and whenever the parent strikes, and the next one goes on behind what it began."""

import json
import os
import random
import signal
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any, NoReturn, Protocol

from django.db import connection as django_connection
from django.db import transaction
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, event, insert
from sqlalchemy.orm import Session

from celeryflows import Flows
from tests.celery.apps.outbox import sheet
from tests.chaos.django_project import live_in_django

NUMBER = struct.Struct("i")
# Where it dies by itself in every sixth transaction that is to be committed, in turn: before its commit, or between
# that and what follows it. In every sixth that is to be rolled back it dies before that.
POINTS = ("before the commit", "behind the commit")
# The parent strikes so many seconds after so many transactions were begun, at most.
STRUCK_BEHIND, STRUCK_WITHIN = 8, 0.02


class TakeBack(Exception):
    """The transaction is rolled back."""


class Sender(Protocol):
    """A framework's way to write a row and send."""

    def make_table(self) -> None: ...
    def send(self, n: int, dies: str, committed: bool) -> None: ...


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class ByDjango:
    """Views with `atomic()`: events, and calls of a flow."""

    def __init__(self, url: str, app: Any) -> None:
        live_in_django(url)
        app.conf.flows_store_url = "django:default"
        self.flows: Flows = app.flows
        self.pack = app.tasks["outbox.pack"]

    def make_table(self) -> None:
        """Its own."""
        with django_connection.cursor() as cursor:
            cursor.execute("CREATE TABLE sent_by_django (n integer PRIMARY KEY)")
        django_connection.close()

    def send(self, n: int, dies: str, committed: bool) -> None:
        """A row and what is sent with it."""
        with suppress(TakeBack), transaction.atomic():
            if dies == POINTS[1]:
                transaction.on_commit(die)
            with django_connection.cursor() as cursor:
                cursor.execute("INSERT INTO sent_by_django (n) VALUES (%s)", [n])
            if n % 4 < 2:
                self.flows.send("outbox/sent", {"by": "django", "n": n})
            else:
                self.pack.delay(by="django", n=n)
            if dies == POINTS[0]:
                die()
            if not committed:
                raise TakeBack


class BySqlalchemy:
    """A Session, or a Connection of its own."""

    table = Table("sent_by_sqlalchemy", MetaData(), Column("n", Integer, primary_key=True))

    def __init__(self, url: str, app: Any) -> None:
        is_file = url.startswith("sqlite")
        self.engine = create_engine(url, connect_args={"timeout": 60} if is_file else {})
        if is_file:
            event.listen(self.engine, "connect", lambda raw, record: setattr(raw, "isolation_level", None))
            event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        self.flows: Flows = app.flows

    def make_table(self) -> None:
        """Its own."""
        self.table.create(self.engine)
        self.engine.dispose()

    def send(self, n: int, dies: str, committed: bool) -> None:
        """A row and what is sent with it."""
        with Session(self.engine) as session:
            if dies == POINTS[1]:
                event.listen(session, "after_commit", die)
            session.execute(insert(self.table).values(n=n))
            within = session if n % 4 < 2 else session.connection()
            self.flows.send("outbox/sent", {"by": "sqlalchemy", "n": n}, transaction=within)
            if dies == POINTS[0]:
                die()
            if committed:
                session.commit()


class Rounds:
    """The parent, and what it saw."""

    def __init__(self, sender: Sender, seed: int) -> None:
        self.sender = sender
        self.dice = random.Random(seed)
        self.seen: Counter[str] = Counter()

    def play(self, sends: int) -> None:
        """All transactions, whoever dies on the way."""
        next_one = 0
        while next_one < sends:
            next_one = self.send_from(next_one, sends)

    def send_from(self, first: int, sends: int) -> int:
        """One sender until its end; the transaction behind the last one that it began."""
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            self.be_sender(first, sends, told)
        os.close(told)
        begun = self.strike(child, heard)
        while more := os.read(heard, 4096):
            begun += more
        os.close(heard)
        _, status = os.waitpid(child, 0)
        self.seen["killed" if os.WIFSIGNALED(status) else f"ended with {os.waitstatus_to_exitcode(status)}"] += 1
        return first + len(begun) // NUMBER.size

    def strike(self, child: int, heard: int) -> bytes:
        """Kill it in one of its transactions, if it is not dead by then; what it has told."""
        begun, enough = b"", self.dice.randint(1, STRUCK_BEHIND) * NUMBER.size
        while len(begun) < enough and (more := os.read(heard, enough - len(begun))):
            begun += more
        time.sleep(self.dice.uniform(0, STRUCK_WITHIN))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        return begun

    def be_sender(self, first: int, sends: int, told: int) -> NoReturn:
        """Never comes back."""
        for n in range(first, sends):
            os.write(told, NUMBER.pack(n))
            dies = {4: POINTS[n // 6 % 2], 1: POINTS[0]}.get(n % 6, "")
            self.sender.send(n, dies, n % 2 == 0)
        os._exit(0)


def main(framework: str, given: str, sends: int, seed: int) -> Counter[str]:
    """Play; what was seen."""
    chosen: dict[str, Any] = json.loads(given)
    app = sheet.make(chosen)
    makers: dict[str, Any] = {"django": ByDjango, "sqlalchemy": BySqlalchemy}
    sender = makers[framework](chosen["flows_store_url"], app)
    sender.make_table()
    rounds = Rounds(sender, seed)
    rounds.play(sends)
    return rounds.seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
