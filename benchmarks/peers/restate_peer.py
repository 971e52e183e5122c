"""Restate: a server of its own that calls handlers over HTTP/2, and a client of its ingress with 64 calls in flight.

The server and the handlers' processes are parts of the peer; fsync of its log is on, as it is by default."""

import asyncio
import itertools
import json
import os
import sys
import time
import urllib.request
from datetime import timedelta

import restate

from benchmarks.peers import agent

INGRESS, ADMIN, HANDLERS = (int(os.environ[f"BENCH_{name}_PORT"]) for name in ("INGRESS", "ADMIN", "HANDLERS"))
IN_FLIGHT = 64

bench = restate.Service("bench")


@bench.handler()
async def one(ctx: restate.Context, _: dict) -> None:
    """One step that does nothing."""
    await ctx.run_typed("step", agent.noop)


@bench.handler()
async def ten(ctx: restate.Context, _: dict) -> None:
    """Ten steps that do nothing."""
    for i in range(10):
        await ctx.run_typed(f"step {i}", agent.noop)


@bench.handler()
async def parallel(ctx: restate.Context, _: dict) -> None:
    """Ten steps at once."""
    await restate.gather(*[ctx.run_typed(f"step {i}", agent.noop) for i in range(10)])


@bench.handler()
async def start(ctx: restate.Context, _: dict) -> None:
    """Tells when it began."""
    agent.tell()


@bench.handler()
async def sleep(ctx: restate.Context, data: dict) -> None:
    """Sleeps until the moment, then tells when it woke."""
    now = await ctx.time()
    await ctx.sleep(timedelta(seconds=max(data["until"] - now, 0)))
    agent.tell()


@bench.handler()
async def idle(ctx: restate.Context, _: dict) -> None:
    """Sleeps."""
    agent.tell()
    await ctx.sleep(timedelta(hours=1))


waiter = restate.Workflow("waiter")


@waiter.main()
async def run(ctx: restate.WorkflowContext, _: dict) -> None:
    """Tells when it begins to wait, waits for a promise, and tells when it went on."""
    agent.tell()
    await ctx.promise("wake").value()
    agent.tell()


@waiter.handler()
async def wake(ctx: restate.WorkflowSharedContext, _: dict) -> None:
    """What the waiting one waits for."""
    await ctx.promise("wake").resolve(1)


app = restate.app([bench, waiter])


def prepare() -> None:
    """It has no tables; its server makes its files."""


def work() -> None:
    """The handlers' processes, served as its documentation serves them."""
    words = ["hypercorn", "--bind", f"127.0.0.1:{HANDLERS}", "--workers", str(agent.PROCESSES), "--log-level", "error"]
    os.execv(sys.executable, [sys.executable, "-m", *words, "benchmarks.peers.restate_peer:app"])


def register() -> None:
    """Tell the server where the handlers are, as soon as both answer."""
    body = json.dumps({"uri": f"http://127.0.0.1:{HANDLERS}", "force": True}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{ADMIN}/deployments", body, {"content-type": "application/json"}, method="POST"
    )

    def answered() -> bool:
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status < 300
        except OSError:
            return False

    agent.until(answered, every=0.2)


class Connection:
    """One kept connection to the ingress."""

    async def post(self, path: str, data: object) -> bytes:
        """The body of the answer, which must be a success."""
        if not hasattr(self, "_reader"):
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", INGRESS)
        body = json.dumps(data).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        self._writer.write(head.encode() + b"\r\n" + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next((int(line[15:]) for line in answer if line.startswith("content-length:")), 0)
        found = await self._reader.readexactly(length)
        if not answer[0].startswith("http/1.1 2"):
            raise RuntimeError(f"{answer[0]}: {found!r}")
        return found


class Client:
    """Calls the ingress, and waits for each call's end."""

    def __init__(self) -> None:
        register()
        self._loop = asyncio.new_event_loop()
        self._connections = [Connection() for _ in range(IN_FLIGHT)]
        self._witness = agent.Witness()
        # Workflows are remembered by their name: never the same twice.
        self._names = (f"{time.time_ns()}-{number}" for number in itertools.count())

    def works(self) -> dict[str, agent.Work]:
        """What can be asked for."""
        return {
            **{kind: lambda count, kind=kind: self._rate(kind, count) for kind in ("one", "ten", "parallel")},
            "flight": lambda count: self._rate("ten", count),
            "start": lambda count: agent.start_latencies(self._witness, count, lambda: self._post("/bench/start/send")),
            "wait": lambda count: agent.resume_latencies(
                self._witness, count, self._begin, lambda name: self._post(f"/waiter/{name}/wake/send")
            ),
            "sleep": lambda count: agent.sleep_lateness(
                self._witness, count, lambda moment: self._post("/bench/sleep/send", {"until": moment})
            ),
            "idle": self._idle,
        }

    def _post(self, path: str, data: object = None) -> None:
        self._loop.run_until_complete(self._connections[0].post(path, data or {}))

    def _begin(self) -> str:
        name = next(self._names)
        self._post(f"/waiter/{name}/run/send")
        return name

    def _rate(self, kind: str, count: int, *, way: str = "") -> list[float]:
        began = time.perf_counter()
        self._loop.run_until_complete(self._all(f"/bench/{kind}{way}", count))
        return [count / (time.perf_counter() - began)]

    async def _all(self, path: str, count: int) -> None:
        left = iter(range(count))

        async def one_after_the_other(connection: Connection) -> None:
            for _ in left:
                await connection.post(path, {})

        await asyncio.gather(*(one_after_the_other(connection) for connection in self._connections))

    def _idle(self, count: int) -> list[float]:
        self._witness.forget()
        began = time.perf_counter()
        self._rate("idle", count, way="/send")
        for _ in range(count):
            self._witness.hear()
        return [count / (time.perf_counter() - began)]


if __name__ == "__main__":
    agent.main(prepare, work, lambda: Client().works())
