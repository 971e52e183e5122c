"""What peers share, and how one is set up: an empty database, its tables, its workers, its client."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path

from benchmarks.peers import processes
from benchmarks.peers.crew import Crew, crew
from benchmarks.peers.packages import NODE_BIN, install
from benchmarks.peers.roster import PROCESSES, Peer
from tests.mariadb import Mariadb, running_mariadb
from tests.servers import Postgres, free_port, running_postgres, running_redis


class Servers:
    """One Redis, with a database for each peer, and one database server of each kind, started when it is wanted."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.redis = stack.enter_context(running_redis())
        self._databases = itertools.count()

    @cached_property
    def postgres(self) -> Postgres:
        """With fsync on."""
        return self._stack.enter_context(running_postgres())

    @cached_property
    def mariadb(self) -> Mariadb:
        """With every commit flushed. Raises ServerMissing."""
        return self._stack.enter_context(running_mariadb())

    def cpu(self) -> float:
        """Seconds of CPU that they have used."""
        started = [self.__dict__[name].server.pid for name in ("redis", "postgres", "mariadb") if name in self.__dict__]
        return processes.cpu(started)

    def broker_url(self) -> str:
        """An empty database of Redis."""
        return self.redis.url(next(self._databases))

    def store_url(self, kind: str, folder: Path) -> str:
        """An empty database on the server that all share, or in a file of the folder."""
        match kind:
            case "postgresql":
                return self.postgres.url(self.postgres.create_database())
            case "mariadb":
                return self.mariadb.url(self.mariadb.create_database())
            case "sqlite":
                return f"sqlite:///{folder}/store.db"
        return ""


@contextmanager
def running_servers() -> Iterator[Servers]:
    """The servers of one run."""
    with ExitStack() as stack:
        yield Servers(stack)


@contextmanager
def employed(peer: Peer, servers: Servers) -> Iterator[Crew]:
    """The peer's processes, ready for work. Raises PeerMissing and PeerFailed."""
    if peer.python:
        install(peer.python, peer.node)
    environment = {
        "BENCH_BROKER": servers.broker_url(),
        "BENCH_WITNESS": str(free_port()),
        "BENCH_PROCESSES": str(PROCESSES),
        **peer.environment,
    }
    with crew(peer.module, environment) as made:
        made.knows(BENCH_STORE=servers.store_url(peer.store, made.folder))
        if peer.store == "restate-server":
            start_restate(made)
        command = [peer.interpreter, "-m", f"benchmarks.peers.{peer.module}"]
        made.run([*command, "prepare"])
        for number in range(peer.workers):
            made.start(f"worker{number}", [*command, "work"])
        made.employ([*command, "ask"])
        made.ask("one", 1)
        yield made


def start_restate(made: Crew) -> None:
    """Its server, on ports and in a folder of its own; it tells nobody of itself."""
    ports = {name: free_port() for name in ("ingress", "admin", "handlers", "node")}
    made.knows(**{f"BENCH_{name.upper()}_PORT": str(port) for name, port in ports.items()})
    made.knows(
        RESTATE_DISABLE_TELEMETRY="true",
        RESTATE_BASE_DIR=str(made.folder / "restate"),
        RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{ports['ingress']}",
        RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{ports['admin']}",
        RESTATE_BIND_ADDRESS=f"127.0.0.1:{ports['node']}",
        RESTATE_ADVERTISED_ADDRESS=f"http://127.0.0.1:{ports['node']}",
    )
    # The binary itself: the script around it would end alone.
    binary = next(NODE_BIN.parent.glob("@restatedev/restate-server-*/bin/restate-server"))
    made.start("restate-server", [str(binary), "--node-name", "bench"])
