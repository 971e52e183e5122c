"""A counter in Redis, beside the broker: a witness of who is inside a limit. Its database keeps nothing else."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.acceptance.crew import Crew
from tests.worlds import World

DATABASE = 13


def counter_url(world: World) -> str:
    """Where it is."""
    return f"{world.broker.rpartition('/')[0]}/{DATABASE}"


@pytest.fixture
def counter(world: World) -> Iterator[Redis]:
    """A client of it, empty at first."""
    with Redis.from_url(counter_url(world), decode_responses=True) as client:
        client.flushdb()
        yield client


def kill(crew: Crew, counter: Redis) -> None:
    """kill -9 of a worker in the midst of it; its dead are not counted as inside any more."""
    worker = crew.living[0]
    pids = {worker.pid, *worker.children}
    crew.kill(worker)
    for name in counter.scan_iter("*", _type="zset"):
        for member in counter.zrange(name, 0, -1):
            if member.partition(":")[0] in {str(pid) for pid in pids}:
                counter.zrem(name, member)
