"""The store dies, cuts connections, has none to give, has no room left, and is locked."""

import sqlite3
import time
from contextlib import suppress
from random import Random

from sqlalchemy.engine import make_url

from tests.chaos.arena import Arena
from tests.chaos.faults.shape import SERVERS, NotHere, fault
from tests.chaos.kinds import Load
from tests.chaos.places import full

STORE = "store"
# Longer than the store's patience of 5 s.
LONG = 8.0


@fault("the database killed and restarted", STORE, SERVERS)
def crash(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.3, 1.0))
    arena.place.crash()
    time.sleep(dice.uniform(0.5, LONG))
    arena.place.start()


@fault("connections to the database cut at random", STORE, SERVERS)
def cut(arena: Arena, load: Load, dice: Random) -> None:
    for _ in range(60):
        time.sleep(dice.uniform(0.02, 0.15))
        arena.place.cut_a_link(dice)


@fault("no connection to the database to be had", STORE, SERVERS)
def crowd(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.3, 1.0))
    with arena.place.crowded():
        time.sleep(dice.uniform(2.0, LONG))


@fault("disk full", STORE)
def disk_full(arena: Arena, load: Load, dice: Random) -> None:
    if arena.place.disk is None:
        raise NotHere("no small disk can be mounted here: it takes root")
    time.sleep(dice.uniform(0.3, 1.0))
    with full(arena.place.disk):
        time.sleep(dice.uniform(2.0, LONG))
    arena.place.start()


@fault("the SQLite file locked for eight seconds", STORE, frozenset({"sqlite"}))
def lock(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.3, 1.0))
    path = make_url(arena.place.url).database
    with suppress(sqlite3.Error):
        holder = sqlite3.connect(str(path), isolation_level=None, timeout=20)
        try:
            holder.execute("BEGIN IMMEDIATE")
            time.sleep(LONG)
            holder.execute("ROLLBACK")
        finally:
            holder.close()
