"""Messages are doubled, lost, reordered and held back, on the list that Redis keeps them in."""

import time
from collections.abc import Callable
from contextlib import suppress
from random import Random

import redis

from tests.chaos.arena import QUEUE, Arena
from tests.chaos.faults.shape import fault
from tests.chaos.kinds import Load

# As what kills or cuts Redis: the two in one room never meet.
BROKER = "broker"


def _meddle(arena: Arena, dice: Random, seconds: float, with_one: Callable[[redis.Redis, bytes], None]) -> None:
    """Take messages before the workers do, as many as can be had, and do something with each."""
    until = time.monotonic() + seconds
    with arena.redis() as client:
        while time.monotonic() < until:
            with suppress(redis.RedisError):
                taken = client.rpop(QUEUE)
                if taken is None:
                    time.sleep(0.001)
                else:
                    with_one(client, taken)


@fault("messages doubled", BROKER)
def double(arena: Arena, load: Load, dice: Random) -> None:
    kept: list[bytes] = []

    def twice(client: redis.Redis, message: bytes) -> None:
        client.rpush(QUEUE, message)
        client.lpush(QUEUE, message)
        kept.append(message)
        time.sleep(0.002)

    _meddle(arena, dice, 4.0, twice)
    with arena.redis() as client:
        for message in kept:
            client.lpush(QUEUE, message)


@fault("messages lost, every second one", BROKER)
def lose(arena: Arena, load: Load, dice: Random) -> None:
    def maybe(client: redis.Redis, message: bytes) -> None:
        if dice.random() < 0.5:
            client.rpush(QUEUE, message)
            time.sleep(0.002)

    _meddle(arena, dice, 4.0, maybe)


@fault("messages reordered", BROKER)
def reorder(arena: Arena, load: Load, dice: Random) -> None:
    def anywhere(client: redis.Redis, message: bytes) -> None:
        held.append(message)
        if len(held) >= 6:
            dice.shuffle(held)
            client.rpush(QUEUE, *held)
            held.clear()
            time.sleep(0.01)

    held: list[bytes] = []
    _meddle(arena, dice, 4.0, anywhere)
    if held:
        with arena.redis() as client:
            client.lpush(QUEUE, *held)


@fault("messages held back, delivered after the runs' ends", BROKER)
def hold_back(arena: Arena, load: Load, dice: Random) -> None:
    """What recovery has sent again meanwhile comes a second time when its run has long ended."""
    held: list[bytes] = []
    _meddle(arena, dice, 4.0, lambda client, message: held.append(message))

    def deliver() -> None:
        with arena.redis() as client:
            for message in held:
                client.lpush(QUEUE, message)

    arena.afterwards.append(deliver)
