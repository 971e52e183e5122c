"""A flow of every kind, each step's value the name of its one execution: `celery -A tests.celery.apps.mixed`.

CHAOS_RELEASE=2 is the next release of the same code: it has a step more, and its runs go on with those of the first.
CHAOS_SCHEMA is the schema of a later celeryflows."""

import os
import signal
import time
import uuid
from functools import partial
from typing import Any

from celery import signals as celery_signals
from celery import signature
from sqlalchemy import Connection, text

from celeryflows import (
    Backoff,
    Batch,
    CancelOn,
    Concurrency,
    Debounce,
    Event,
    OnCron,
    Priority,
    RateLimit,
    Singleton,
    StepError,
    Throttle,
    current_flows,
)
from tests.celery.apps.sheet import Sheet, first_time
from tests.chaos import later
from tests.chaos.ledger import Ledger, Teller
from tests.chaos.planted import plant

later.become(os.environ.get("CHAOS_SCHEMA"))
sheet = Sheet("mixed")
RELEASE = int(os.environ.get("CHAOS_RELEASE", "1"))
# What a lost worker or an outage costs an attempt must not end a run here.
STEADY: dict[str, Any] = {"retries": 20, "backoff": Backoff(first="200ms", factor=1.5, max="2s")}
USER, VALUE, ID = "event.data.user", "event.data.value", "event.data.id"
WIDE, OF_USER, RANKED, RATE, BURST, ALLOWED, BATCH = 2, 1, 2, 12, 2, 3, 4
MEGABYTE = 1 << 20


def act(*_given: Any) -> str:
    """Takes a moment; its value names this execution."""
    time.sleep(0.005)
    return uuid.uuid4().hex


def flow(name: str, **options: Any) -> Any:
    """A flow that the event `load/<name>` starts."""
    return sheet.flow(**{"trigger": f"load/{name}", "name": f"mixed.{name}", **STEADY, **options})


@flow("one")
def one(ctx: Any) -> Any:
    return [ctx.step.run("only", act)]


@flow("ten", version=str(RELEASE))
def ten(ctx: Any) -> Any:
    """Each step is given the value of the one before."""
    found = [ctx.step.run("step 0", act)]
    for number in range(1, 10):
        found.append(ctx.step.run(f"step {number}", act, found[-1]))
    if RELEASE > 1:
        found.append(ctx.step.run("new", act, found[-1]))
    return found


@flow("nap")
def nap(ctx: Any) -> Any:
    before = ctx.step.run("before", act)
    ctx.step.sleep("nap", "300ms")
    return [before, ctx.step.run("after", act, before)]


def dwell(*given: Any) -> str:
    """Long enough to meet others inside a limit."""
    time.sleep(0.08)
    return act(*given)


def linger(*_given: Any) -> str:
    """Long enough to be struck in the middle."""
    time.sleep(1.0)
    return act()


@flow("lingers")
def lingers(ctx: Any) -> Any:
    before = ctx.step.run("long", linger)
    return [before, ctx.step.run("longer", linger, before), ctx.step.run("after", act, before)]


@flow("answered")
def answered(ctx: Any) -> Any:
    """Answered once, from outside."""
    before = ctx.step.run("before", act)
    answer = ctx.step.wait_for_event("answer", event="load/answer", match="data.id", timeout="20m", lookback="run")
    return [before, ctx.step.run("after", act, before), answer and answer.data["word"]]


def provoke(id: str) -> str:
    current_flows.send(Event("load/provoked", {"id": id}))
    return "provoked"


@flow("provokes")
def provokes(ctx: Any) -> Any:
    """The step before the wait brings what it waits for."""
    id = ctx.event.data["id"]
    ctx.step.run("provoke", provoke, id)
    return [ctx.step.wait_for_event("own", event="load/provoked", match="data.id", timeout="20m").data["id"]]


@flow("unanswered")
def unanswered(ctx: Any) -> Any:
    return [ctx.step.wait_for_event("nobody", event="load/never", match="data.id", timeout="1s")]


@flow("signalled")
def signalled(ctx: Any) -> Any:
    got = ctx.step.wait_for_signal("asked", f"load/{ctx.event.data['id']}", timeout="20m")
    return [got and got.data, ctx.step.run("after", act)]


@flow("parallel")
def parallel(ctx: Any) -> Any:
    before = ctx.step.run("before", act)
    found = ctx.group.parallel(partial(ctx.step.run, "work", act, before) for _ in range(3))
    return [before, *found, ctx.step.run("after", act, *found)]


@flow("races")
def races(ctx: Any) -> Any:
    """The sleeper never wins."""
    index, value = ctx.group.race(partial(ctx.step.sleep, "long", "1h"), partial(ctx.step.run, "quick", act))
    return [index, value]


@flow("awaits")
async def awaits(ctx: Any) -> Any:
    before = await ctx.step.run("before", act)
    found = await ctx.group.parallel([partial(ctx.step.run, "work", act, before) for _ in range(2)])
    return [before, *found]


@flow("child", trigger=None)
def child(ctx: Any) -> Any:
    ctx.step.sleep("nap", "100ms")
    return ctx.step.run("work", act)


@flow("invokes")
def invokes(ctx: Any) -> Any:
    return [ctx.step.invoke("call", "mixed.child", {"id": ctx.event.data["id"]})]


@flow("sends")
def sends(ctx: Any) -> Any:
    """Starts one run of `heard`."""
    ctx.step.send_event("send", Event("load/heard", {"id": ctx.event.data["id"]}))
    return [ctx.step.run("after", act)]


@flow("heard")
def heard(ctx: Any) -> Any:
    return [ctx.step.run("hear", act)]


# Else Celery ends it as failed when its process is killed, and so the step and its run.
@sheet.task(acks_late=True, reject_on_worker_lost=True)
def pack(order: str) -> str:
    """An existing task."""
    return f"packed {order}"


@flow("tasks")
def tasks(ctx: Any) -> Any:
    return [ctx.step.task("pack", signature("mixed.pack", args=[ctx.event.data["id"]]))]


def book(connection: Connection, run: str) -> str:
    connection.execute(text("INSERT INTO chaos_lines (run) VALUES (:run)"), {"run": run})
    return "booked"


@flow("books")
def books(ctx: Any) -> Any:
    return [ctx.step.transaction("book", book, ctx.run_id)]


def stumble(id: str) -> str:
    """Fails twice."""
    if first_time(f"first.{id}") or first_time(f"second.{id}"):
        raise ConnectionError("not yet")
    return act()


@flow("retries")
def retries(ctx: Any) -> Any:
    return [ctx.step.run("stumble", stumble, ctx.event.data["id"])]


def refuse() -> None:
    raise ValueError("refused")


def mourn(ctx: Any) -> Any:
    return [ctx.step.run("mourn", act)]


@flow("fails", on_failure=mourn)
def fails(ctx: Any) -> Any:
    before = ctx.step.run("before", act)
    ctx.step.using(retries=1, backoff=Backoff(first="100ms")).run("refuse", refuse)
    return before


@flow("catches")
def catches(ctx: Any) -> Any:
    try:
        ctx.step.using(retries=0).run("refuse", refuse)
    except StepError:
        return [ctx.step.run("instead", act)]


@flow("stopped", cancel_on=CancelOn("load/stop", match="data.id"))
def stopped(ctx: Any) -> Any:
    ctx.step.run("before", act)
    ctx.step.sleep("long", "1h")


@flow("goes_on")
def goes_on(ctx: Any) -> Any:
    """Two runs, one value."""
    if ctx.event.data.get("round") is None:
        ctx.step.run("first", act)
        ctx.continue_as_new({**ctx.event.data, "round": 2})
    return [ctx.step.run("last", act)]


@flow("called", trigger=None)
def called(ctx: Any) -> Any:
    """A call, not an event."""
    return [ctx.step.run("only", act)]


@flow("keyed", concurrency=[Concurrency(WIDE), Concurrency(OF_USER, key=USER)])
def keyed(ctx: Any) -> Any:
    before = ctx.step.run("first", dwell)
    ctx.step.sleep("nap", "50ms")
    return [before, ctx.step.run("last", dwell, before)]


@flow("ranked", concurrency=Concurrency(RANKED), priority=Priority("event.data.no * 10"))
def ranked(ctx: Any) -> Any:
    return [ctx.step.run("only", dwell)]


@flow("throttled", throttle=Throttle(RATE, "1s", burst=BURST))
def throttled(ctx: Any) -> Any:
    return [ctx.step.run("only", act)]


@flow("rated", rate_limit=RateLimit(ALLOWED, "1s", key=USER))
def rated(ctx: Any) -> Any:
    return [ctx.step.run("only", act)]


@flow("single", singleton=Singleton("skip", key=USER))
def single(ctx: Any) -> Any:
    before = ctx.step.run("first", act)
    ctx.step.sleep("nap", "100ms")
    return [before, ctx.step.run("last", act, before)]


@flow("once", idempotency=VALUE)
def once(ctx: Any) -> Any:
    return [ctx.step.run("only", act)]


@flow("bounced", debounce=Debounce("1s", key=VALUE))
def bounced(ctx: Any) -> Any:
    return [ctx.step.run("only", act, ctx.event.data["id"])]


@flow("batched", batch=Batch(BATCH, "1s"))
def batched(ctx: Any) -> Any:
    return [ctx.step.run("only", act, [event.data["id"] for event in ctx.events])]


@flow("ticks", trigger=OnCron("* * * * *"))
def ticks(ctx: Any) -> Any:
    return [ctx.step.run("only", act)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@flow("poison", retries=2)
def poison(ctx: Any) -> Any:
    """Kills its process each time."""
    ctx.step.run("die", die)


def swell(number: int) -> str:
    return str(number) * MEGABYTE


@flow("bulky")
def bulky(ctx: Any) -> Any:
    """Ten megabytes in ten values."""
    return [len(ctx.step.run(f"step {number}", swell, number)) for number in range(10)]


@flow("too_big")
def too_big(ctx: Any) -> Any:
    """Ten megabytes in one value."""
    ctx.step.run("swell", lambda: "x" * 10 * MEGABYTE)


app: Any = sheet.worker_app()
if app is not None:
    plant()


@celery_signals.worker_process_init.connect
def _tell(**_: Any) -> None:
    if app is not None:
        app.flows.runtime.interceptor = Teller(Ledger(os.environ["LEDGER"]))
