"""celeryflows on the broker and the pool that Celery alone has, over a store of its own."""

import itertools
import time
from datetime import UTC, datetime
from functools import partial

from celery import Celery
from celery.signals import worker_process_init

from benchmarks.counted import get_counted
from benchmarks.peers import agent
from benchmarks.peers.sampling import sample
from celeryflows import Event, Flows
from celeryflows.engine.paces import WORTH
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade

LIST, IN_FLIGHT, TOP_UP = 50, 64, 8
# Looks into small indexes alone, so that looking costs the store nothing. A run that waits for its branches is
# suspended, as are the sleepers of "idle".
SUSPENDED = "status = 'suspended' AND status NOT IN ('queued', 'running', 'completed')"
OPEN = (
    "SELECT EXISTS (SELECT 1 FROM flows_runs WHERE status = 'queued' AND sends >= 0) "
    "OR EXISTS (SELECT 1 FROM flows_runs WHERE status = 'running' AND sends >= 0) "
    f"OR EXISTS (SELECT 1 FROM flows_runs WHERE {SUSPENDED} AND flow = :flow)"
)
DONE = "SELECT count(*) FROM flows_runs WHERE flow = :flow AND status = 'completed'"

app = Celery("bench", broker=agent.BROKER)
app.conf.update(flows_store_url=agent.STORE, worker_prefetch_multiplier=4)
flows = Flows(app)
counted: set[str] = set()


def ten_steps(ctx):
    """They do nothing."""
    for i in range(10):
        ctx.step.run(f"step {i}", agent.noop)


@flows.flow(name="bench.one", trigger="bench/one")
def one(ctx):
    """One step that does nothing."""
    ctx.step.run("step", agent.noop)


@flows.flow(name="bench.ten", trigger="bench/ten")
def ten(ctx):
    """Ten steps that do nothing."""
    ten_steps(ctx)


@flows.flow(name="bench.flight", trigger="bench/flight")
def flight(ctx):
    """Ten steps that do nothing, and a word at the end."""
    ten_steps(ctx)
    agent.tell()


@flows.flow(name="bench.parallel", trigger="bench/parallel")
def parallel(ctx):
    """Ten branches, each a step that does nothing."""
    ctx.group.parallel([partial(ctx.step.run, "step", agent.noop)] * 10)


@flows.flow(name="bench.start", trigger="bench/start")
def start(ctx):
    """Tells when it began."""
    agent.tell()


@flows.flow(name="bench.wait", trigger="bench/wait")
def wait(ctx):
    """Tells when it begins to wait, waits for an event, and tells when it went on."""
    ctx.step.run("begun", agent.tell)
    ctx.step.wait_for_event("wake", event="bench/wake", match="data.number", timeout="1h")
    agent.tell()


@flows.flow(name="bench.sleep", trigger="bench/sleep")
def sleep(ctx):
    """Sleeps until the moment in its event, then tells when it woke."""
    ctx.step.sleep_until("until", ctx.event.data["until"])
    agent.tell()


@flows.flow(name="bench.idle", trigger="bench/idle")
def idle(ctx):
    """Sleeps."""
    ctx.step.sleep("idle", "1h")


def ask(query: str, **values: object) -> int:
    """One number from the store."""
    with flows.runtime.store.connection() as connection:
        return int(connection.execute(query, **values)[0][0])


def send(name: str, count: int) -> None:
    """Events in lists."""
    for first in range(0, count, LIST):
        flows.send([Event(f"bench/{name}") for _ in range(min(LIST, count - first))])


def rate(name: str, count: int) -> list[float]:
    """Flows a second, every one of which must have completed."""
    if name not in counted:
        get_counted(flows, f"bench.{name}", [Event(f"bench/{name}")] * 2 * WORTH)
        counted.add(name)
    before = ask(DONE, flow=f"bench.{name}")
    found = agent.rate(count, partial(send, name), lambda: not ask(OPEN, flow=f"bench.{name}"))
    done = ask(DONE, flow=f"bench.{name}") - before
    if done != count:
        raise AssertionError(f"{done} of {count} completed")
    return found


def in_flight(witness: agent.Witness, count: int) -> list[float]:
    """Flows of ten steps a second, of which 64 at most are under way: whenever eight ended, eight are sent."""

    def start(count: int) -> None:
        witness.forget()
        send("flight", min(count, IN_FLIGHT))
        for sent in range(IN_FLIGHT, count, TOP_UP):
            for _ in range(TOP_UP):
                witness.hear()
            send("flight", min(TOP_UP, count - sent))

    return agent.rate(count, start, lambda: not ask(OPEN, flow="bench.flight"))


def put_to_sleep(count: int) -> list[float]:
    """Runs a second that come to sleep."""
    asleep = f"SELECT count(*) FROM flows_runs WHERE {SUSPENDED}"
    began = time.perf_counter()
    send("idle", count)
    agent.until(lambda: ask(asleep) >= count, every=0.05)
    return [count / (time.perf_counter() - began)]


def works() -> dict[str, agent.Work]:
    """What can be asked for."""
    sample("sender")
    witness, numbers = agent.Witness(), itertools.count()

    def begin() -> int:
        number = next(numbers)
        flows.send(Event("bench/wait", {"number": number}))
        return number

    def sleep_until(moment: float) -> None:
        flows.send(Event("bench/sleep", {"until": datetime.fromtimestamp(moment, UTC).isoformat()}))

    return {
        **{kind: partial(rate, kind) for kind in ("one", "ten", "parallel")},
        "flight": partial(in_flight, witness),
        "start": lambda count: agent.start_latencies(witness, count, lambda: flows.send(Event("bench/start"))),
        "wait": lambda count: agent.resume_latencies(
            witness, count, begin, lambda number: flows.send(Event("bench/wake", {"number": number}))
        ),
        "sleep": lambda count: agent.sleep_lateness(witness, count, sleep_until),
        "idle": put_to_sleep,
    }


def sample_pool(**_: object) -> None:
    """A pool process begins."""
    sample("pool")


def prepare() -> None:
    """Its tables."""
    upgrade(Store(agent.STORE))


def work() -> None:
    """A worker of two pool processes."""
    sample("worker")
    worker_process_init.connect(sample_pool)
    app.worker_main(agent.CELERY_WORKER)


if __name__ == "__main__":
    agent.main(prepare, work, works)
