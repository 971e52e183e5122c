"""Everything a round of chaos stands on: a broker behind two proxies, a store that can be hurt, four workers on two
nodes, and the outside witness."""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery

from celeryflows.store.upgrade import upgrade
from tests.acceptance.crew import Crew
from tests.celery.apps import mixed
from tests.chaos.ledger import Ledger
from tests.chaos.places import PLACES, Place
from tests.chaos.proxy import Proxy, running_proxy
from tests.servers import Redis, running_redis, temporary_folder
from tests.waiting import eventually
from tests.workers import Worker, WorkerDied
from tests.worlds import BRISK, World

APP = "tests.celery.apps.mixed"
QUEUE = "celery"
# Names of workers; the part behind @ is the node, and each node has its own way to the broker.
NODES = ("north", "south")
POSTS = tuple(f"{number}@{name}" for name in NODES for number in ("first", "second"))
# kombu 5.7 may end a worker that loses its broker while it holds messages: these hold none.
SETTINGS: dict[str, Any] = {
    **BRISK,
    "worker_disable_prefetch": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}
SOON, WITH_PATIENCE = 30.0, 90.0
# As many faults at once.
ROOMS = 3


@dataclass(frozen=True, slots=True)
class Node:
    """A host's ways to the broker and to the store; None where the store is a file."""

    to_broker: Proxy
    to_store: Proxy | None
    store_url: str

    @property
    def settings(self) -> dict[str, str]:
        """Of its workers."""
        broker = f"redis://127.0.0.1:{self.to_broker.port}/0"
        return {"broker_url": broker, "result_backend": broker, "flows_store_url": self.store_url}


@contextmanager
def node(name: str, place: Place, broker: Redis) -> Iterator[Node]:
    """A node with its proxies."""
    with running_proxy(broker.port) as to_broker, place.way(name) as (url, to_store):
        yield Node(to_broker, to_store, url)


class Fleet(Crew):
    """Workers by their post; whoever dies is followed by another, as a service manager would see to."""

    def __init__(self, world: World, stack: ExitStack, nodes: dict[str, "Node"], ledger_url: str) -> None:
        super().__init__(world, stack, APP)
        self.at: dict[str, Worker] = {}
        # The last words of those that ended by themselves.
        self.ended: list[str] = []
        self.env: dict[str, str] = {"LEDGER": ledger_url}
        # Faults of workers and the mending of the fleet take turns.
        self.lock = threading.RLock()
        self._nodes = nodes

    def start(self) -> None:
        """All four, at once."""
        with self.lock:
            for post in POSTS:
                self.at[post] = self._begin(post)
            for worker in self.at.values():
                worker.wait_ready()
            self.living = list(self.at.values())

    def man(self, post: str, env: dict[str, str] | None = None) -> Worker:
        """A new worker at a post, whose former one has ended; again when the store is away and it refuses to start."""
        with self.lock:
            return eventually(lambda: self._manned(post, env), within=WITH_PATIENCE, every=0.5)

    def _manned(self, post: str, env: dict[str, str] | None) -> Worker | None:
        worker = self.at[post] = self._begin(post, env)
        try:
            worker.wait_ready()
        except WorkerDied:
            self.ended.append(last_words(worker))
            return None
        self.living = list(self.at.values())
        return worker

    def strike(self, post: str) -> None:
        """kill -9 of all processes at a post, and another in their place."""
        with self.lock:
            self.at[post].kill()
            self.at[post].wait_end()
            self.man(post)

    def dismiss(self, post: str) -> None:
        """A warm shutdown, as a deploy does it; whoever does not end in time is killed."""
        with self.lock:
            worker = self.at[post]
            worker.signal(signal.SIGTERM)
            try:
                worker.wait_end(SOON)
            except AssertionError:
                worker.kill()
                worker.wait_end()

    def deploy(self, posts: Sequence[str]) -> None:
        """Warm shutdowns at these posts at once, and others in their place."""
        with self.lock:
            for post in posts:
                self.at[post].signal(signal.SIGTERM)
            for post in posts:
                self.dismiss(post)
            for post in posts:
                self.at[post] = self._begin(post)
            for post in posts:
                try:
                    self.at[post].wait_ready()
                except WorkerDied:
                    self.ended.append(last_words(self.at[post]))
                    self.man(post)
            self.living = list(self.at.values())

    def mend(self) -> None:
        """Follow those who ended by themselves."""
        with self.lock:
            for post, worker in list(self.at.items()):
                if worker.exit_code is not None:
                    self.ended.append(last_words(worker))
                    self.man(post)

    def leading_post(self) -> str | None:
        """Where the leader is."""
        pid = self.leader()
        return next((post for post, worker in self.at.items() if worker.pid == pid), None)

    def _begin(self, post: str, env: dict[str, str] | None = None) -> Worker:
        node = self._nodes[post.partition("@")[2]]
        starting = self.world.starting(APP, "-n", post, "-c", "2", env={**self.env, **(env or {})}, **node.settings)
        return self._stack.enter_context(starting)


class Arena:
    """What faults are given."""

    def __init__(
        self,
        place: Place,
        broker: Redis,
        nodes: dict[str, "Node"],
        witness: Redis,
        world: World,
        fleet: Fleet,
        threads: Executor,
    ) -> None:
        self.place, self.broker, self.nodes, self.world, self.fleet = place, broker, nodes, world, fleet
        self.ledger = Ledger(witness.url())
        world.count_as_quick("mixed.one")
        self.app: Celery = world.app(mixed.sheet)
        # A server or worker dies with the thread that started it: those of faults last as long as the arena.
        self.threads = threads
        # What a fault does yet when all runs have ended.
        self.afterwards: list[Callable[[], None]] = []

    @property
    def flows(self) -> Any:
        """The sender's side, which is not behind a proxy."""
        return self.app.flows  # type: ignore[attr-defined]

    def redis(self) -> Any:
        """A client of the broker."""
        return redis.Redis(port=self.broker.port, socket_timeout=5.0, decode_responses=False)

    def rows(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """Look into the store."""
        return self.world.rows(sql, **params)

    def close(self) -> None:
        """Drop the witness's connections."""
        self.ledger.close()


@contextmanager
def arena(kind: str) -> Iterator[Arena]:
    """An arena with its workers ready, on a store of this kind."""
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(ROOMS))
        place: Any = stack.enter_context(PLACES[kind]())
        broker = stack.enter_context(running_redis(appendonly="yes", appendfsync="everysec"))
        witness = stack.enter_context(running_redis())
        nodes = {name: stack.enter_context(node(name, place, broker)) for name in NODES}
        folder = stack.enter_context(temporary_folder("arena"))
        world = World(broker.url(), place.url, folder, **SETTINGS)
        stack.callback(world.close)
        upgrade(world.store)
        world.rows("CREATE TABLE chaos_lines (run varchar(64))")
        fleet = Fleet(world, stack, nodes, witness.url())
        fleet.start()
        made = Arena(place, broker, nodes, witness, world, fleet, threads)
        stack.callback(made.close)
        eventually(lambda: len(fleet.entered()) == len(POSTS) and fleet.leader(), within=SOON)
        yield made


def last_words(worker: Worker) -> str:
    """Why a worker ended, as far as it told."""
    errors = [line for line in worker.log.splitlines() if "Error" in line or "rror:" in line]
    return f"{worker.exit_code}: {errors[-1] if errors else worker.log[-200:]}"


def explained(made: Arena) -> str:
    """What stands open, for who has to find out why."""
    runs = made.rows(
        "SELECT id, flow, status, turn, worker, sends, sent_at, wake_at, lost, held_at FROM flows_runs "
        "WHERE ended_at IS NULL LIMIT 20"
    )
    now = made.rows("SELECT {now}")
    logs = {post: worker.log[-3000:] for post, worker in made.fleet.at.items()}
    found = {"now": now, "runs": runs, "workers": made.rows("SELECT * FROM flows_workers"), "logs": logs}
    return json.dumps(found, indent=1, default=str)
