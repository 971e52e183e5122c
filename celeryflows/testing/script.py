"""What a test wants of the steps: stubs, counts, and workers that die at the right moment."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from celeryflows.engine.resume import requeue
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import LostTurn
from celeryflows.model.steps import id_in_branch
from celeryflows.store.runs import Claim, Held
from celeryflows.store.user_transaction import open_here


class Script:
    """Stands between the runs and their steps, which go by their keys: `c`, then `c:1`; `group[0]/c` in a branch,
    where `c` alone will do too."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.Lock()
        self._dying = threading.Lock()
        self._stubs: dict[tuple[str | None, str], Any] = {}
        self._crashes: Counter[tuple[str, str]] = Counter()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._dead: set[tuple[str, str, int]] = set()

    def stub(self, key: str, stub: Any, run_id: str | None = None) -> None:
        """Stub a step, of one run or of all."""
        with self._lock:
            self._stubs[run_id, key] = stub

    def crash(self, when: str, key: str, times: int) -> None:
        """Crash the next so many times."""
        with self._dying:
            self._crashes[when, key] += times

    def calls(self, key: str, run_id: str | None) -> int:
        """How often the step's body was called."""
        with self._lock:
            return sum(n for (run, step), n in self._calls.items() if key in _names(step) and run_id in (None, run))

    def body(self, claim: Claim, key: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The step's body or its stub, counted; a dead worker's turn gets none."""
        if (claim.run_id, claim.path, claim.turn) in self._dead:
            raise LostTurn
        found = self._found(claim, key)
        called = _stand_in(found[0]) if found else fn

        def body(*args: Any, **kwargs: Any) -> Any:
            with self._attempt(claim, key):
                return called(*args, **kwargs)

        async def async_body(*args: Any, **kwargs: Any) -> Any:
            with self._attempt(claim, key):
                raw = called(*args, **kwargs)
                return await raw if isawaitable(raw) else raw

        return async_body if iscoroutinefunction(fn) else body

    def has_stub(self, claim: Claim, key: str) -> bool:
        """True when the step is stubbed."""
        return bool(self._found(claim, key))

    def _found(self, claim: Claim, key: str) -> list[Any]:
        with self._lock:
            places = [(run, name) for run in (claim.run_id, None) for name in _names(key)]
            return [self._stubs[place] for place in places if place in self._stubs]

    def committed(self, claim: Claim, key: str) -> None:
        """The step's commit is done: it may be the moment to die."""
        self._strike("after", claim, key)

    @contextmanager
    def _attempt(self, claim: Claim, key: str) -> Iterator[None]:
        with self._lock:
            self._calls[claim.run_id, key] += 1
        try:
            yield
        finally:
            self._strike("in", claim, key)

    def _strike(self, when: str, claim: Claim, key: str) -> None:
        with self._dying:
            name = next((name for name in _names(key) if self._crashes[when, name]), None)
            if name is None:
                return
            self._crashes[when, name] -= 1
            self._dead.add((claim.run_id, claim.path, claim.turn))
            # From here on the turn is a zombie, fenced like any other, whatever its handler catches.
            held = Held(claim.run_id, claim.turn, claim.worker, claim.token, claim.path)
            requeued = partial(requeue, self._runtime, held)
            within = open_here()
            # In memory one connection serves all: inside a transaction it would be rolled back with it.
            if within is None:
                requeued()
            else:
                within.afterwards.append(requeued)
        raise LostTurn

    def bury(self) -> None:
        """Wait for a worker that dies in another thread: its run is back in the queue then."""
        with self._dying:
            pass


def _names(key: str) -> tuple[str, ...]:
    short = id_in_branch(key)
    return (key,) if short == key else (key, short)


def _stand_in(stub: Any) -> Callable[..., Any]:
    if isinstance(stub, BaseException) or (isinstance(stub, type) and issubclass(stub, BaseException)):

        def fail(*_args: Any, **_kwargs: Any) -> Any:
            raise stub

        return fail
    return stub if callable(stub) else lambda *_args, **_kwargs: stub
