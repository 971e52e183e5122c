"""A small language of flows, as frozen values: handlers of the simulation play it, the plain reading evaluates it.

A block is a tuple of operations; each adds what it gave to the handler's list, which is the run's value."""

from dataclasses import dataclass
from typing import Literal

Block = tuple["Op", ...]


@dataclass(frozen=True)
class Step:
    """A step whose first `failures` attempts fail; then it ends well, fatally, or fails on (`never`).

    `provokes`: its body sends an event of that name, which the next wait may look for, or the signal `sig/...`.
    `threaded`: a plain function in an async flow.
    """

    id: str
    failures: int = 0
    end: Literal["ok", "fatal", "never"] = "ok"
    provokes: str | None = None
    threaded: bool = False


@dataclass(frozen=True)
class Sleep:
    """A sleep of so many seconds."""

    id: str
    seconds: int


@dataclass(frozen=True)
class Wait:
    """A wait for an event of the name: of its own run (`match`), of an even number (`if_exp`), or any."""

    id: str
    name: str
    seconds: int
    only: Literal["own", "even", "any"] = "own"
    lookback: str = "step"


@dataclass(frozen=True)
class Send:
    """A step that sends so many events to its own run's channel."""

    id: str
    name: str
    count: int = 1


@dataclass(frozen=True)
class Task:
    """An existing task of elsewhere, or a canvas of them: a line of two, or a chord whose header has two. The last one
    to be sent gives the value; of those that are sent at first the last one fails (`fails`)."""

    id: str
    shape: Literal["one", "line", "chord"] = "one"
    fails: bool = False


@dataclass(frozen=True)
class Invoke:
    """A run of the world's program number `callee`, waited for at most so many seconds; `bound`: it is cancelled with
    this one."""

    id: str
    callee: int
    seconds: int
    bound: bool = False


@dataclass(frozen=True)
class SignalWait:
    """A wait for a signal of the name; `replaces`: in place of who waits already."""

    id: str
    name: str
    seconds: int
    replaces: bool = False


@dataclass(frozen=True)
class Again:
    """The run goes on as another one of its flow, so many times; at the end of a program alone."""

    times: int


@dataclass(frozen=True)
class Fail:
    """The handler's own error, each time."""

    text: str


@dataclass(frozen=True)
class Flaky:
    """The handler's own error in the first so many attempts of its body; at the top of a program alone."""

    times: int


@dataclass(frozen=True)
class Try:
    """A try statement: what it catches, the handler and the `finally`."""

    body: Block
    catches: Literal["StepError", "Exception", "BaseException", "nothing"]
    handler: Block = ()
    final: Block = ()


@dataclass(frozen=True)
class Loop:
    """A block several times."""

    times: int
    body: Block


@dataclass(frozen=True)
class Gather:
    """Blocks at once, in async flows: what each gave or how it failed."""

    branches: tuple[Block, ...]


@dataclass(frozen=True)
class Group:
    """A group of branches, in sync flows: all of their values, or the first one's."""

    kind: Literal["parallel", "race"]
    branches: tuple[Block, ...]


Tool = Step | Sleep | Wait | Send | Task | Invoke | SignalWait
Op = Tool | Again | Fail | Flaky | Try | Loop | Gather | Group


@dataclass(frozen=True)
class Program:
    """A flow: its handler's block, its retries, whether it is async, and the names of its concurrency limits.

    `is_child`: only others start it. `cancel_on`: an event of this name and its own channel cancels its runs; `start`
    and `finish` are the bounds of their time in seconds. `admits`: many events start it, under a limit of this kind;
    `bundled`: several at once, and what becomes ready together travels so.
    """

    body: Block
    retries: int = 1
    is_async: bool = False
    limits: tuple[str, ...] = ()
    is_child: bool = False
    cancel_on: str | None = None
    start: int | None = None
    finish: int | None = None
    admits: str | None = None
    bundled: bool = False


def boom(key: str) -> str:
    """What a failing step says."""
    return f"boom {key}"


LOST = "the worker died each time while this step ran (out of memory, kill, crash)"
