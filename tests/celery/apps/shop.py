"""Flows and tasks for what is called and composed: `celery -A tests.celery.apps.shop`."""

from typing import Any

from celery import current_app, current_task

from celeryflows import CancelOn, NonRetriableError, Timeouts
from tests.celery.apps.sheet import Sheet, pass_gate, witness

sheet = Sheet("shop")


@sheet.task()
def add(x: int, y: int) -> int:
    return x + y


@sheet.task()
def total(values: list[int]) -> int:
    return sum(values)


@sheet.task()
def note(value: Any) -> None:
    witness("note", value)


@sheet.task()
def note_error(request: Any, exc: Any, traceback: Any) -> None:
    witness("note_error", request.id, type(exc).__name__)


def times_two(value: int) -> int:
    witness("times_two", value)
    return value * 2


@sheet.flow()
def double(ctx: Any) -> int:
    """Double a value in a step."""
    return ctx.step.run("double", times_two, ctx.event.data["value"])


@sheet.flow()
def slow_double(ctx: Any) -> int:
    """Sleep before it doubles."""
    ctx.step.sleep("first", "300ms")
    return ctx.step.run("double", times_two, ctx.event.data["value"])


@sheet.flow()
def echo(ctx: Any) -> Any:
    """The event's data."""
    return ctx.event.data


@sheet.flow()
def gated(ctx: Any) -> str:
    """Stay in a step until the test lets it go on."""

    def stay() -> str:
        witness("gated", ctx.run_id)
        pass_gate(ctx.event.data["gate"])
        return "passed"

    return ctx.step.run("stay", stay)


def run_out() -> None:
    raise NonRetriableError("no stock")


@sheet.flow()
def failing(ctx: Any) -> None:
    """A step that fails for good."""
    ctx.step.run("reserve", run_out)


@sheet.flow()
def patient(ctx: Any) -> Any:
    """Wait for the event that names the same key."""
    event = ctx.step.wait_for_event("go", event="shop/go", match="data.key", timeout="1h")
    return event.data["answer"] if event else None


@sheet.flow(trigger="shop/booked", cancel_on=CancelOn("shop/left", match="data.key"))
def booked(ctx: Any) -> str:
    """Stay in a step until the test lets it go on, or sleep; then another step. An event cancels it."""

    def stay() -> None:
        witness("booked", ctx.run_id)
        pass_gate(ctx.event.data["gate"])

    if "gate" in ctx.event.data:
        ctx.step.run("stay", stay)
    else:
        ctx.step.sleep("nap", "1h")
    return ctx.step.run("confirm", lambda: witness("confirmed", ctx.run_id) or "confirmed")


@sheet.flow(timeouts=Timeouts(finish="1s"))
def hasty(ctx: Any) -> None:
    """Sleep for longer than it may."""
    ctx.step.sleep("nap", "1h")


@sheet.flow(trigger="shop/ordered")
def ordered(ctx: Any) -> str:
    """Started by an event."""
    return ctx.step.run("thank", lambda name: f"thanks, {name}", ctx.event.data["name"])


@sheet.flow()
def headers(ctx: Any) -> list[Any]:
    """A header of the caller's, as each of two turns sees it."""
    first = ctx.step.run("first", lambda: current_task.request.get("tenant"))
    ctx.step.sleep("between", "300ms")
    return [first, current_task.request.get("tenant")]


def queue_of_message() -> str:
    return str(current_task.request.delivery_info["routing_key"])


@sheet.flow()
def routes(ctx: Any) -> list[Any]:
    """The queues by which two turns came."""
    first = ctx.step.run("first", queue_of_message)
    ctx.step.sleep("between", "300ms")
    return [first, ctx.step.run("second", queue_of_message)]


@sheet.task()
def call_flow(value: int) -> str:
    called = current_app.tasks["shop.slow_double"].delay(value=value)
    return str(called.id)


app = sheet.worker_app()
