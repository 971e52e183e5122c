"""Redis dies, forgets, refuses, is slow, and is cut off one way."""

import time
from random import Random

from tests.chaos.arena import NODES, Arena
from tests.chaos.faults.shape import fault
from tests.chaos.kinds import Load

BROKER = "broker"


def _pause(dice: Random) -> None:
    time.sleep(dice.uniform(0.3, 1.0))


@fault("Redis killed, restarted with its data", BROKER)
def restart(arena: Arena, load: Load, dice: Random) -> None:
    _pause(dice)
    arena.broker.server.kill()
    time.sleep(dice.uniform(0.5, 3.0))
    arena.broker.start()


@fault("Redis killed, restarted empty", BROKER)
def restart_empty(arena: Arena, load: Load, dice: Random) -> None:
    _pause(dice)
    arena.broker.server.kill()
    arena.broker.forget()
    time.sleep(dice.uniform(0.5, 3.0))
    arena.broker.start()


@fault("FLUSHALL", BROKER)
def flush(arena: Arena, load: Load, dice: Random) -> None:
    for _ in range(3):
        _pause(dice)
        with arena.redis() as client:
            client.flushall()


@fault("Redis out of memory", BROKER)
def out_of_memory(arena: Arena, load: Load, dice: Random) -> None:
    _pause(dice)
    with arena.redis() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        time.sleep(dice.uniform(3.0, 5.0))
        client.config_set("maxmemory", "0")


@fault("Redis read-only", BROKER)
def read_only(arena: Arena, load: Load, dice: Random) -> None:
    _pause(dice)
    with arena.redis() as client:
        # A replica of nobody, as after a failover that went wrong.
        client.replicaof("127.0.0.1", 1)
        time.sleep(dice.uniform(3.0, 5.0))
        client.replicaof("NO", "ONE")


@fault("Redis slow, 200 ms each way", BROKER)
def slow(arena: Arena, load: Load, dice: Random) -> None:
    _pause(dice)
    for node in arena.nodes.values():
        node.to_broker.delay = 0.2
    time.sleep(dice.uniform(4.0, 6.0))
    for node in arena.nodes.values():
        node.to_broker.delay = 0.0


@fault("one node cut off from Redis, one way", BROKER)
def cut_one_way(arena: Arena, load: Load, dice: Random) -> None:
    _pause(dice)
    with arena.nodes[dice.choice(NODES)].to_broker.silent():
        time.sleep(dice.uniform(6.0, 9.0))


@fault("links to Redis cut again and again", BROKER)
def cut_links(arena: Arena, load: Load, dice: Random) -> None:
    for _ in range(6):
        _pause(dice)
        for node in arena.nodes.values():
            node.to_broker.cut()
