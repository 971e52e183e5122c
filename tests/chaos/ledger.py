"""The outside witness: a stream in a Redis that no fault touches. Step bodies tell it when they begin and end.

Its order and its clock are that server's alone, so neither a process's clock nor a kill can bend what it says."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isawaitable, iscoroutinefunction
from typing import Any

import redis

from celeryflows.store.runs import Claim

STREAM = "told"
BEGAN, ENDED, RAISED, RECORDED = "began", "ended", "raised", "recorded"


@dataclass(frozen=True, slots=True)
class Line:
    """What was told: `at` in seconds by the witness's clock, `turn` by whose claim, `said` a body's value, `given` its
    arguments."""

    at: float
    what: str
    run: str
    key: str
    turn: int
    flow: str
    pid: int
    given: Any
    said: Any


class Ledger:
    """Reads and writes the stream."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True)
        self._last = "-"

    def tell(self, what: str, claim: Claim, key: str, given: Any = None, said: Any = None) -> None:
        """One line more."""
        line = [what, claim.run_id, key, claim.turn, claim.flow, os.getpid(), given, said]
        self._client.xadd(STREAM, {"line": json.dumps(line, default=str)})

    def news(self) -> list[Line]:
        """What was told since the last look, in order."""
        told = self._client.xrange(STREAM, min=self._last)
        if told:
            self._last = f"({told[-1][0]}"
        return [_line(id, fields["line"]) for id, fields in told]

    def newest(self, count: int) -> list[Line]:
        """The last lines, for who strikes by what goes on."""
        return [_line(id, fields["line"]) for id, fields in self._client.xrevrange(STREAM, count=count)]

    def now(self) -> float:
        """The witness's clock."""
        seconds, micros = self._client.time()
        return float(seconds + micros / 1e6)

    def close(self) -> None:
        """Drop the connections."""
        self._client.close()


def _line(id: str, text: str) -> Line:
    what, run, key, turn, flow, pid, given, said = json.loads(text)
    return Line(int(id.partition("-")[0]) / 1e3, what, run, key, turn, flow, pid, given, said)


class Teller:
    """Stands in a worker between runs and their steps, and changes nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def body(self, claim: Claim, key: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The same body, which tells when it begins and how it ends."""

        def body(*args: Any, **kwargs: Any) -> Any:
            with self._telling(claim, key, args) as said:
                said.append(fn(*args, **kwargs))
            return said[0]

        async def async_body(*args: Any, **kwargs: Any) -> Any:
            with self._telling(claim, key, args) as said:
                raw = fn(*args, **kwargs)
                said.append(await raw if isawaitable(raw) else raw)
            return said[0]

        return async_body if iscoroutinefunction(fn) else body

    def has_stub(self, claim: Claim, key: str) -> bool:
        """Never."""
        return False

    def committed(self, claim: Claim, key: str) -> None:
        """The store has it."""
        self._ledger.tell(RECORDED, claim, key)

    @contextmanager
    def _telling(self, claim: Claim, key: str, args: tuple[Any, ...]) -> Iterator[list[Any]]:
        self._ledger.tell(BEGAN, claim, key, given=[arg for arg in args if isinstance(arg, str | list | int)])
        said: list[Any] = []
        try:
            yield said
        except BaseException:
            self._ledger.tell(RAISED, claim, key)
            raise
        # Of a large value its size is enough.
        value = said[0]
        self._ledger.tell(ENDED, claim, key, said=value if len(str(value)) < 1000 else len(str(value)))
