"""A Redis with a replica, and a Sentinel that promotes the replica when its master is gone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.servers import Redis, Server, free_port, redis_binary, running_redis, temporary_folder
from tests.waiting import eventually

GROUP = "flows"
DOWN_AFTER_MS = 1000


class Watched:
    """Master, replica and Sentinel; `url` and `options` are those of a broker or result backend that follows them."""

    def __init__(self, master: Redis, replica: Redis, port: int) -> None:
        self.master, self.replica, self._port = master, replica, port
        self.url = f"sentinel://127.0.0.1:{port}"
        self.options = {"master_name": GROUP}

    def cut_replication(self) -> None:
        """From now on the replica gets nothing, and its master lives on."""
        with client(self.replica) as replica, client(self.master) as master:
            replica.config_set("masteruser", "nobody")
            replica.config_set("masterauth", "nothing")
            master.client_kill_filter(_type="replica")
            eventually(lambda: master.info("replication")["connected_slaves"] == 0)

    def lose_master(self) -> None:
        """kill -9 of the master; comes back when Sentinel has promoted the replica and tells it."""
        self.master.server.kill()
        with redis.Redis(port=self._port, decode_responses=True) as sentinel:
            eventually(lambda: int(sentinel.sentinel_get_master_addr_by_name(GROUP)[1]) == self.replica.port, within=30)
        with client(self.replica) as promoted:
            eventually(lambda: promoted.info("replication")["role"] == "master")

    def is_level(self) -> bool:
        """All that the master was given the replica has."""
        with client(self.replica) as replica, client(self.master) as master:
            at = [one.info("replication").get("master_repl_offset") for one in (replica, master)]
            return at[0] == at[1]


def client(server: Redis) -> Any:
    """A client of one of them, whatever its part is."""
    return redis.Redis(port=server.port, socket_timeout=5)


@contextmanager
def watched_redis() -> Iterator[Watched]:
    """The three, ready: the replica has what the master has. Raises ServerMissing."""
    with running_redis() as master, running_redis() as replica:
        with client(replica) as one:
            one.replicaof("127.0.0.1", master.port)
            eventually(lambda: one.info("replication")["master_link_status"] == "up", within=30)
        with temporary_folder("sentinel") as folder, _running_sentinel(folder, master) as port:
            yield Watched(master, replica, port)


@contextmanager
def _running_sentinel(folder: Path, master: Redis) -> Iterator[int]:
    port, settings = free_port(), folder / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor {GROUP} 127.0.0.1 {master.port} 1\n"
        f"sentinel down-after-milliseconds {GROUP} {DOWN_AFTER_MS}\nsentinel failover-timeout {GROUP} 5000\n"
    )
    server = Server("sentinel", folder, [redis_binary(), str(settings), "--sentinel"], [signal.SIGTERM, signal.SIGKILL])
    with redis.Redis(port=port, socket_timeout=2) as sentinel:
        try:
            server.start(lambda: _knows_the_replica(sentinel))
            yield port
        finally:
            server.stop()


def _knows_the_replica(sentinel: Any) -> bool:
    try:
        return len(sentinel.sentinel_slaves(GROUP)) == 1
    except redis.RedisError:
        return False
