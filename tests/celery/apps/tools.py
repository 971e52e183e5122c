"""Flows that drive each tool once, with hooks: `celery -A tests.celery.apps.tools`."""

import os
from functools import partial
from typing import Any

from celery import chain, signature
from pydantic import BaseModel
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert

from celeryflows import Backoff, CancelOn, Event, Middleware, StepError, current_flows, signals
from tests.celery.apps.sheet import Sheet, first_time, gate, witness

metadata = MetaData()
lines = Table("tool_lines", metadata, Column("id", Integer, primary_key=True), Column("line", String(100)))


class Marks(Middleware):
    """Marks what a run gives back."""

    def run_output(self, run: Any, value: Any) -> Any:
        """One word more."""
        return {**value, "marked": run.flow} if isinstance(value, dict) else None


class Receipt(BaseModel):
    """What a step gives under `output_type`."""

    card: str
    total: int


sheet = Sheet("tools", middleware=[Marks()])


def charge(run_id: str, card: str) -> dict[str, Any]:
    """Fails the first time."""
    witness("charge", run_id)
    if first_time(f"charged.{run_id}"):
        raise ValueError(f"no line for {card}")
    return {"card": card, "total": 3}


def refuse(card: str) -> None:
    raise ValueError(f"refused {card}")


def book(connection: Connection, run_id: str) -> str:
    connection.execute(insert(lines).values(line=run_id))
    return "booked"


@sheet.task()
def pack(card: str) -> dict[str, str]:
    """An existing task."""
    return {"packed": card}


@sheet.task()
def seal(parcel: dict[str, str]) -> dict[str, str]:
    """Another."""
    return {**parcel, "sealed": "yes"}


def provoke(id: str, card: str) -> str:
    """What the next step waits for, before it does."""
    current_flows.send(Event("tools/provoked", {"id": id, "card": card}))
    return "provoked"


@sheet.flow()
def child(ctx: Any) -> Any:
    """A nap, and back what came."""
    ctx.step.sleep("nap", "100ms")
    return ctx.event.data["card"]


@sheet.flow(retries=2, backoff=Backoff("100ms"))
def everything(ctx: Any) -> Any:
    """Each tool once."""
    step, data, found = ctx.step, ctx.event.data, {}
    card = data["card"]
    charging = step.using(retries=1, timeout="10s", output_type=Receipt)
    found["charged"] = charging.run("charge", charge, ctx.run_id, card).total
    found["booked"] = step.transaction("book", book, ctx.run_id)
    step.run("provoke", provoke, ctx.run_id, card)
    step.run("witness", witness, "provoked", ctx.run_id)
    found["late"] = step.wait_for_event(
        "late", event="tools/provoked", if_exp=f"async.data.id == '{ctx.run_id}'", timeout="1s"
    )
    step.run("again", provoke, f"{ctx.run_id} again", card)
    came = step.wait_for_event(
        "soon", event="tools/provoked", if_exp=f"async.data.id == '{ctx.run_id} again'", timeout="1m"
    )
    found["soon"] = came.data["card"]
    branches = [partial(step.invoke, "call", "tools.child", {"card": card}), partial(step.run, "look", dict, card=card)]
    found["branches"] = ctx.group.parallel(branches)
    try:
        ctx.group.parallel([partial(step.using(retries=0).run, "refuse", refuse, card)])
    except StepError as error:
        found["refused"] = error.message
    found["packed"] = step.task("pack", chain(signature("tools.pack", args=[card]), signature("tools.seal")))
    asked = partial(step.wait_for_signal, "asked", f"tools/{data['id']}", timeout="1h")
    index, answer = ctx.group.race(partial(step.sleep, "long", "1h"), asked)
    found["race"] = [index, answer.data]
    return found


@sheet.flow(retries=2, backoff=Backoff("100ms"))
async def aeverything(ctx: Any) -> Any:
    """The same, awaited."""
    step, data, found = ctx.step, ctx.event.data, {}
    card = data["card"]
    charging = step.using(retries=1, timeout="10s", output_type=Receipt)
    found["charged"] = (await charging.run("charge", charge, ctx.run_id, card)).total
    found["booked"] = await step.transaction("book", book, ctx.run_id)
    await step.run("provoke", provoke, ctx.run_id, card)
    await step.run("witness", witness, "provoked", ctx.run_id)
    found["late"] = await step.wait_for_event(
        "late", event="tools/provoked", if_exp=f"async.data.id == '{ctx.run_id}'", timeout="1s"
    )
    await step.run("again", provoke, f"{ctx.run_id} again", card)
    came = await step.wait_for_event(
        "soon", event="tools/provoked", if_exp=f"async.data.id == '{ctx.run_id} again'", timeout="1m"
    )
    found["soon"] = came.data["card"]
    branches = [partial(step.invoke, "call", "tools.child", {"card": card}), partial(step.run, "look", dict, card=card)]
    found["branches"] = await ctx.group.parallel(branches)
    try:
        await ctx.group.parallel([partial(step.using(retries=0).run, "refuse", refuse, card)])
    except StepError as error:
        found["refused"] = error.message
    found["packed"] = await step.task("pack", chain(signature("tools.pack", args=[card]), signature("tools.seal")))
    asked = partial(step.wait_for_signal, "asked", f"tools/{data['id']}", timeout="1h")
    index, answer = await ctx.group.race(partial(step.sleep, "long", "1h"), asked)
    found["race"] = [index, answer.data]
    return found


@sheet.flow(trigger="tools/started", cancel_on=CancelOn("tools/stopped", match="data.card"))
def stoppable(ctx: Any) -> None:
    """Sleeps until it is cancelled."""
    ctx.step.sleep("long", "1h")


@sheet.flow()
def line(ctx: Any) -> Any:
    """Two runs, one value."""
    if ctx.event.data.get("round") is None:
        ctx.continue_as_new({**ctx.event.data, "round": 2})
    return ctx.event.data["card"]


@sheet.flow(retries=0)
def mended(ctx: Any) -> Any:
    """Fails until it is mended, or until its step is given something else."""
    ctx.step.run("before", witness, "before", ctx.event.data["card"])
    return ctx.step.run("work", work, ctx.event.data["card"])


def work(card: str) -> str:
    if not card.endswith("mended") and not gate("mended").exists():
        raise ValueError(f"broken {card}")
    return card


def tell_run(sender: str, run: Any) -> None:
    witness("completed", sender, run.run_id)


def tell_step(sender: str, step: Any) -> None:
    witness("step", step.run_id, step.step_id)


if "WITNESS" in os.environ:
    signals.run_completed.connect(tell_run)
    signals.step_completed.connect(tell_step)

app = sheet.worker_app()
