"""Plays a program as a real handler: sync, or async with gather. Each step it comes to and what it is given is told."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from celeryflows import Event, NonRetriableError, StepError
from tests.simulation.activity import Killed
from tests.simulation.ledger import Ledger, plain_value
from tests.simulation.plain import Seen
from tests.simulation.programs import (
    Again,
    Block,
    Fail,
    Flaky,
    Gather,
    Group,
    Invoke,
    Loop,
    Program,
    Send,
    SignalWait,
    Sleep,
    Step,
    Task,
    Tool,
    Try,
    Wait,
    boom,
)

CATCHES: dict[str, tuple[type[BaseException], ...]] = {
    "StepError": (StepError,),
    "Exception": (Exception,),
    "BaseException": (BaseException,),
    "nothing": (),
}


class Host(Protocol):
    """The process that the handler runs in."""

    ledger: Ledger

    def now(self) -> int: ...
    def touch(self, point: str) -> None: ...
    def send(self, event: Event) -> None: ...
    def signal(self, name: str) -> None: ...


def handler_of(program: Program, host: Host) -> Callable[[Any], Any]:
    """The program as a handler."""

    def play(ctx: Any) -> Any:
        player, out = _Player(ctx, host), list[Any]()
        player.block(program.body, "", out)
        return out

    async def play_async(ctx: Any) -> Any:
        player, out = _AsyncPlayer(ctx, host), list[Any]()
        await player.block(program.body, "", out)
        return out

    return play_async if program.is_async else play


class _Teller:
    """What both kinds of players share: keys, bodies, and telling."""

    def __init__(self, ctx: Any, host: Host) -> None:
        self.ctx, self.host, self.ledger = ctx, host, host.ledger
        self._uses: Counter[str] = Counter()
        self._last: dict[str, tuple[str, ...]] = {}
        self._order: list[str] = []
        self.left = self.is_dead = False
        self.ledger.give(ctx.run_id, [event.data["n"] for event in ctx.events])

    def reach(self, path: str, id: str) -> str:
        """The key of the step that the handler comes to; nothing counts once the turn was left."""
        used = self._uses[path + id]
        key = f"{path}{id}:{used}" if used else path + id
        if not self.left:
            self._uses[path + id] += 1
            before, self._last[path] = self._last.get(path, ()), (key,)
            self._order.append(key)
            self.ledger.reach(self.ctx.run_id, key, before, self.host.now())
        return key

    def given(self, key: str, seen: Seen) -> None:
        if not self.is_dead:
            self.ledger.see(self.ctx.run_id, key, seen, self.host.now())

    def body_of(self, op: Step, key: str, path: str) -> Callable[[], Any]:
        ctx, host, ledger = self.ctx, self.host, self.ledger

        def body() -> Any:
            host.touch("body begins")
            number = ledger.begin(ctx.run_id, key, host.now())
            if op.provokes and op.provokes.startswith("sig/"):
                host.signal(op.provokes)
            elif op.provokes:
                host.send(
                    Event(op.provokes, {"of": ctx.event.data["of"], "n": number, "by": f"body {ctx.run_id} {key}"})
                )
            host.touch("body ends")
            if ctx.attempt < op.failures or op.end == "never":
                raise ValueError(boom(key))
            if op.end == "fatal":
                raise NonRetriableError(boom(key))
            return ["did", key, number]

        async def async_body() -> Any:
            await asyncio.sleep(0)
            return body()

        # Beside other branches a thread would bring chance.
        return async_body if self.is_async and not (op.threaded and path == "") else body

    is_async = False

    def tool(self, op: Tool, path: str) -> tuple[str, Callable[[], Any]]:
        """The step's key, and its call."""
        step = self.ctx.step
        match op:
            case Step():
                key = self.reach(path, op.id)
                return key, lambda: step.run(id_of(path, op), self.body_of(op, key, path))
            case Sleep():
                return self.reach(path, op.id), lambda: step.sleep(id_of(path, op), f"{op.seconds}s")
            case Send():
                key = self.reach(path, op.id)
                events = [Event(op.name, self._data(f"send {self.ctx.run_id} {key}", n)) for n in range(op.count)]
                return key, lambda: step.send_event(id_of(path, op), events)
            case Wait():
                words: dict[str, Any] = {"event": op.name, "timeout": f"{op.seconds}s", "lookback": op.lookback}
                words |= {"own": {"match": "data.of"}, "even": {"if_exp": "async.data.n % 2 == 0"}, "any": {}}[op.only]
                return self.reach(path, op.id), lambda: step.wait_for_event(id_of(path, op), **words)
            case Task():
                return self.reach(path, op.id), lambda: step.task(id_of(path, op), op)
            case Invoke():
                key = self.reach(path, op.id)
                tools = step.using(cancel_with_parent=True) if op.bound else step
                data = self._data(f"invoke {self.ctx.run_id} {key}", 0)
                return key, lambda: tools.invoke(id_of(path, op), flow_name(op.callee), data, f"{op.seconds}s")
            case SignalWait():
                key, on_conflict = self.reach(path, op.id), "replace" if op.replaces else "fail"
                within = f"{op.seconds}s"
                return key, lambda: step.wait_for_signal(
                    id_of(path, op), op.name, timeout=within, on_conflict=on_conflict
                )

    def _data(self, by: str, n: int) -> dict[str, Any]:
        return {"of": self.ctx.event.data["of"], "n": n, "by": by}

    def goes_on(self, op: Again) -> dict[str, Any] | None:
        """The data of the run that goes on, None when enough did."""
        data: dict[str, Any] = self.ctx.event.data
        done = data.get("times", 0)
        return {**data, "times": done + 1} if done < op.times else None

    def outcome(self, op: Tool, key: str, value: Any) -> Any:
        """Tell the value; its part of the run's value."""
        if isinstance(op, Wait):
            value = None if value is None else [value.name, value.data["of"], value.data["n"], value.id]
        elif isinstance(op, SignalWait):
            value = None if value is None else [value.name, value.data["n"]]
        elif isinstance(op, Sleep):
            assert value is None
        self.given(key, ("value", value))
        if isinstance(op, Send):
            return len(value)
        return plain_value(value) if isinstance(op, Step | Task) else value

    def own_error(self, op: Fail | Flaky) -> None:
        if isinstance(op, Fail):
            raise ValueError(op.text)
        if self.ctx.attempt < op.times:
            raise ValueError(f"flaky {op.times}")


def flow_name(number: int) -> str:
    """The flow of a program."""
    return f"flow{number}"


def id_of(path: str, op: Tool) -> str:
    """The id that the handler gives: what stands before a group's branch is the engine's."""
    return (path + op.id).rpartition("]/")[2]


def told(error: BaseException) -> list[str]:
    """An error as the handler keeps it."""
    return [error.name, error.message] if isinstance(error, StepError) else [type(error).__name__, str(error)]


class _Player(_Teller):
    def block(self, block: Block, path: str, out: list[Any]) -> None:
        for op in block:
            match op:
                case Step() | Sleep() | Wait() | Send() | Task() | Invoke() | SignalWait():
                    out.append(self._step(op, path))
                case Again():
                    self._again(op)
                case Fail() | Flaky():
                    self.own_error(op)
                case Loop():
                    for _ in range(op.times):
                        self.block(op.body, path, out)
                case Try():
                    self._try(op, path, out)
                case Group():
                    out.append(self._group(op, path))
                case Gather():
                    raise AssertionError("gather is for async programs")

    def _again(self, op: Again) -> None:
        if (data := self.goes_on(op)) is not None:
            try:
                self.ctx.continue_as_new(data)
            finally:
                self.left = True

    def _step(self, op: Tool, path: str) -> Any:
        key, call = self.tool(op, path)
        try:
            value = call()
        except StepError as error:
            self.given(key, ("error", *told(error)))
            raise
        except BaseException:
            self.left = True
            raise
        return self.outcome(op, key, value)

    def _group(self, op: Group, path: str) -> Any:
        before = self._last.get(path, ())
        key = self.reach(path, "group")
        paths = [f"{key}[{i}]/" for i in range(len(op.branches))]
        self._last |= dict.fromkeys(paths, before)
        branches = [partial(self._branch, *both) for both in zip(op.branches, paths, strict=True)]
        try:
            value = getattr(self.ctx.group, op.kind)(branches)
        except StepError as error:
            if op.kind == "race":
                self.given(key, ("won", int(error.step_id.removeprefix(f"{key}[").partition("]")[0])))
            raise
        except BaseException:
            self.left = True
            raise
        if op.kind == "race":
            self.given(key, ("won", value[0]))
        return value if op.kind == "parallel" else list(value)

    def _branch(self, block: Block, path: str) -> list[Any]:
        out: list[Any] = []
        self.block(block, path, out)
        return out

    def _try(self, op: Try, path: str, out: list[Any]) -> None:
        try:
            self.block(op.body, path, out)
        except CATCHES[op.catches] as error:
            out.append(["caught", *told(error)])
            self.block(op.handler, path, out)
        finally:
            self.block(op.final, path, out)


class _AsyncPlayer(_Teller):
    is_async = True

    async def block(self, block: Block, path: str, out: list[Any]) -> None:
        for op in block:
            match op:
                case Step() | Sleep() | Wait() | Send() | Task() | Invoke() | SignalWait():
                    out.append(await self._step(op, path))
                case Again():
                    await self._again(op)
                case Fail() | Flaky():
                    self.own_error(op)
                case Loop():
                    for _ in range(op.times):
                        await self.block(op.body, path, out)
                case Try():
                    await self._try(op, path, out)
                case Gather():
                    out.append(await self._gather(op, path))
                case Group():
                    raise AssertionError("groups are for sync programs here")

    async def _again(self, op: Again) -> None:
        if (data := self.goes_on(op)) is not None:
            await self.ctx.continue_as_new(data)

    async def _step(self, op: Tool, path: str) -> Any:
        key, call = self.tool(op, path)
        try:
            value = await call()
        except StepError as error:
            self.given(key, ("error", *told(error)))
            raise
        except BaseException as end:
            # What the loop of a process that died does with its other branches, nobody sees.
            self.left, self.is_dead = True, self.is_dead or isinstance(end, Killed)
            raise
        return self.outcome(op, key, value)

    async def _try(self, op: Try, path: str, out: list[Any]) -> None:
        try:
            await self.block(op.body, path, out)
        except CATCHES[op.catches] as error:
            out.append(["caught", *told(error)])
            await self.block(op.handler, path, out)
        finally:
            await self.block(op.final, path, out)

    async def _gather(self, op: Gather, path: str) -> Any:
        outs: list[list[Any]] = [[] for _ in op.branches]
        branches = [self.block(branch, f"{path}{i}.", outs[i]) for i, branch in enumerate(op.branches)]
        before, reached = self._last.get(path, ()), len(self._order)
        self._last |= {f"{path}{i}.": before for i in range(len(branches))}
        ends = await asyncio.gather(*branches, return_exceptions=True)
        self._last[path] = tuple(self._order[reached:]) or before
        return [
            ["failed", *told(end)] if isinstance(end, BaseException) else out
            for end, out in zip(ends, outs, strict=True)
        ]
