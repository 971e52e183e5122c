"""The store dies, cuts connections, has none to give, has no room left, and is locked."""

import sqlite3
import time
from contextlib import suppress
from random import Random

import psycopg
from sqlalchemy.engine import make_url

from tests.chaos.arena import NODES, Arena
from tests.chaos.disks import full
from tests.chaos.faults.shape import SERVERS, NotHere, fault
from tests.chaos.kinds import Load

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


# MariaDB is one process.
@fault("a process of the database killed", STORE, frozenset({"postgres"}))
def kill_process(arena: Arena, load: Load, dice: Random) -> None:
    for _ in range(2):
        time.sleep(dice.uniform(0.3, 2.0))
        with suppress(psycopg.OperationalError):
            arena.place.kill_a_process(dice)
    arena.place.start()


@fault("one node cut off from the database, one way", STORE, SERVERS)
def cut_one_way(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.3, 1.0))
    with arena.nodes[dice.choice(NODES)].to_store.silent():
        time.sleep(dice.uniform(6.0, 9.0))


@fault("the database slow, 30 ms each way", STORE, SERVERS)
def slow(arena: Arena, load: Load, dice: Random) -> None:
    time.sleep(dice.uniform(0.3, 1.0))
    for node in arena.nodes.values():
        node.to_store.delay = 0.03
    time.sleep(dice.uniform(4.0, 6.0))
    for node in arena.nodes.values():
        node.to_store.delay = 0.0


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
