"""Several real workers of one world, of which a test kills or freezes some."""

from contextlib import ExitStack
from typing import Any

from tests.waiting import eventually
from tests.workers import Worker
from tests.worlds import World


class Crew:
    """The workers that live."""

    def __init__(self, world: World, stack: ExitStack, app_module: str) -> None:
        self.world = world
        self.living: list[Worker] = []
        self._stack = stack
        self._app_module = app_module

    def hire(self, *options: str, **settings: Any) -> Worker:
        """One more worker, which is entered in the store."""
        worker = self._stack.enter_context(self.world.worker(self._app_module, *options, **settings))
        self.living.append(worker)
        eventually(lambda: worker.pid in self.entered())
        return worker

    def hire_many(self, count: int, *options: str, **settings: Any) -> list[Worker]:
        """Several more, which start at once."""
        starting = [self.world.starting(self._app_module, *options, **settings) for _ in range(count)]
        workers = [self._stack.enter_context(one) for one in starting]
        for worker in workers:
            worker.wait_ready()
        self.living += workers
        eventually(lambda: {worker.pid for worker in workers} <= set(self.entered()))
        return workers

    def kill(self, worker: Worker) -> None:
        """kill -9 of all its processes."""
        worker.kill()
        worker.wait_end()
        self.living.remove(worker)

    def at_work_on(self, words: str) -> Worker:
        """The worker whose process told this last."""
        pid = self.world.pids(words)[-1]
        return next(worker for worker in self.living if pid in (worker.pid, *worker.children))

    def entered(self) -> list[int]:
        """The process ids of the workers that the store knows."""
        return [row[0] for row in self.world.rows("SELECT pid FROM flows_workers")]

    def leader(self) -> int | None:
        """The process id of the worker that holds the lease."""
        rows = self.world.rows("SELECT w.pid FROM flows_leader l JOIN flows_workers w ON w.id = l.holder")
        return rows[0][0] if rows else None
