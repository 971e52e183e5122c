"""Existing tasks that are runs: by events, under limits, durable. `celery -A tests.celery.apps.adopted`."""

import os
import signal
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from celery import Task, current_task, signature
from celery.exceptions import Ignore, Reject

from celeryflows import Concurrency, OnCron, RateLimit, Singleton, StepError, Throttle
from tests.celery.apps.sheet import Sheet, first_time, pass_gate, witness

sheet = Sheet("adopted")


class Told(Task):  # type: ignore[type-arg]
    """A base with Celery's hooks."""

    abstract = True

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        witness("before_start", args, sorted(kwargs.items()))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        witness("on_success", retval, args, sorted(kwargs.items()))

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        witness("on_failure", type(exc).__name__, args, sorted(kwargs.items()))

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        witness("on_retry", type(exc).__name__, args, sorted(kwargs.items()))


# -- untouched, started by events


@sheet.on("user/signed.up", kwargs="{'to': event.data.email}")
@sheet.on("user/left", kwargs=lambda event: {"to": event.data["email"], "template": event.name})
@sheet.task(bind=True)
def send_email(self: Any, to: str, template: str = "welcome") -> list[str]:
    """Send one mail."""
    witness("mail", to, template, self.request.id, (self.request.delivery_info or {}).get("routing_key"))
    return [to, template]


@sheet.on("number/came")
@sheet.task()
def take(number: int) -> int:
    return number + 1


@sheet.on(OnCron("0 9 * * *"))
@sheet.task()
def report(day: str = "today") -> str:
    return day


@sheet.on("mail/failed")
@sheet.task(bind=True, autoretry_for=(ConnectionError,), max_retries=3, default_retry_delay=0)
def flaky(self: Any, name: str, times: int = 1) -> int:
    """Fails at first; `autoretry_for` has it tried again."""
    if self.request.retries < times:
        raise ConnectionError(f"try {self.request.retries}")
    return int(self.request.retries)


# -- limited


@sheet.task(concurrency=Concurrency(1, key="kwargs.account"))
def sync(account: Any, gate: str = "") -> Any:
    witness("sync", account, current_task.request.id)
    if gate:
        pass_gate(gate)
    return account


@sheet.task(bind=True, rate_limit=RateLimit(1, "1h", key="kwargs.name"), base=Told)
def once(self: Any, name: str, *more: int, **named: Any) -> list[Any]:
    return [name, list(more), named, self.request.args, self.request.kwargs]


@sheet.task(singleton=Singleton("skip", key="kwargs.name"))
def alone(name: str) -> str:
    pass_gate(f"alone {name}")
    return name


@sheet.task(throttle=Throttle(100, "1s"))
def add(x: Any, y: Any) -> Any:
    return x + y


@sheet.task(concurrency=50)
def kinds(when: datetime, price: Decimal) -> list[str]:
    return [type(when).__name__, type(price).__name__, str(when.astimezone(UTC)), str(price)]


@sheet.task(bind=True, concurrency=50, max_retries=2, base=Told)
def trying(self: Any, until: int, delay: float = 0) -> int:
    """Ask for another try with `self.retry`."""
    witness("try", self.request.retries, self.request.id)
    if self.request.retries < until:
        raise self.retry(exc=ValueError("not yet"), countdown=delay)
    return int(self.request.retries)


@sheet.task(concurrency=50)
def ended(how: str) -> None:
    raise {"ignore": Ignore(), "reject": Reject("no use", requeue=True)}[how]


@sheet.task(concurrency=50, time_limit=1)
def stuck() -> None:
    witness("stuck")
    time.sleep(30)


@sheet.task(concurrency=50, ignore_result=True)
def unanswered() -> object:
    return object()


@sheet.task(concurrency=50)
def killed() -> str:
    if first_time("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@sheet.on("early/killed")
@sheet.task()
def early() -> str:
    """Acked before it runs, as its options say."""
    if first_time("early"):
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


# -- durable


@sheet.task(bind=True, durable=True, max_retries=2, default_retry_delay=0)
def process(self: Any, order: int, fail: int = 0) -> list[Any]:
    charge = self.step.run("charge", lambda: witness("charge", order) or order * 10)
    self.step.sleep("settle", "100ms")
    if self.request.retries < fail:
        self.retry(exc=ValueError("again"))
    return [charge, self.request.id == self.ctx.run_id, self.request.retries]


@sheet.task(bind=True, durable=True)
def replaced(self: Any) -> None:
    self.replace(self.app.signature("adopted.add", args=(1, 2)))


@sheet.task()
def note(value: Any) -> None:
    witness("note", value)


@sheet.task()
def note_error(request: Any, exc: Any, traceback: Any) -> None:
    witness("note_error", request.id, type(exc).__name__)


@sheet.task()
def total(values: list[int]) -> int:
    return sum(values)


@sheet.flow()
def asking(ctx: Any) -> list[Any]:
    """Steps that are limited and durable tasks."""
    added = ctx.step.task("add", signature("adopted.add", args=(1, 2)))
    return [added, ctx.step.task("process", signature("adopted.process", args=(added,)))[0]]


@sheet.flow()
def asking_once(ctx: Any) -> list[Any]:
    """A step that is a task of which a limit skips the second call, and a step after it."""
    try:
        found = ctx.step.task("once", signature("adopted.once", args=(ctx.event.data["name"],)))
        return ["done", found[0]]
    except StepError as error:
        return [error.name, error.message, ctx.step.run("after", lambda: "goes on")]


app = sheet.worker_app()
