"""Commands of `flows` on a real store, in this process; and an app whose runs come to stand in every state."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.bin.base import CLIContext
from click.testing import CliRunner, Result

from celeryflows import Event, Flows, NonRetriableError, OnCron, OnEvent
from celeryflows.cli import flows as group
from celeryflows.engine.registrar import register_worker
from celeryflows.engine.turn import take_turn
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from celeryflows.store.workers import WorkerRow

ORDER = Event("order/placed", {"id": 7, "note": "[red]\x1b[31m"})


class Terminal:
    """`terminal("runs", "--json")` is `celery -A app flows runs --json`; `json(...)` gives what it printed, decoded."""

    def __init__(self, app: Celery) -> None:
        self.app = app

    def __call__(self, *words: str, stdin: str | None = None) -> Result:
        context = CLIContext(app=self.app, no_color=True, workdir=None)
        return CliRunner().invoke(group, words, obj=context, input=stdin, catch_exceptions=False)

    def json(self, *words: str) -> Any:
        """The JSON that a command which succeeds prints."""
        done = self(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def refused(self, *words: str, code: int = 1, stdin: str | None = None) -> str:
        """The one line on stderr of a command that fails so."""
        done = self(*words, stdin=stdin)
        assert done.exit_code == code, done.output
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        # Click shows how a command is used before it says what is wrong.
        assert len(lines) == 1 or (code == 2 and lines[0].startswith("Usage: ")), done.stderr
        assert lines[-1].startswith("Error: ")
        return lines[-1].removeprefix("Error: ")


def shop(broker: str, store: str, **settings: Any) -> Celery:
    """An app with a flow for each way in which a run can go."""
    app = Celery("shop", broker=broker, set_as_current=False)
    app.conf.update(flows_store_url=store, **settings)
    flows = Flows(app)

    @flows.flow(name="ship", trigger="order/placed", version="2")
    def ship(ctx: Any) -> Any:
        """Ship an order."""
        ctx.step.run("pack", dict, id=ctx.event.data["id"])
        ctx.step.sleep("settle", "1h")
        return "shipped"

    @flows.flow(name="bill", trigger=OnEvent("order/*", if_exp="event.data.id == 7"), retries=0)
    def bill(ctx: Any) -> Any:
        """Bill an order, which goes wrong."""
        ctx.step.run("charge", _declined)

    @flows.flow(name="ask", trigger="order/placed")
    def ask(ctx: Any) -> Any:
        """Wait for an answer."""
        ctx.step.wait_for_event("answer", event="order/answered", match="data.id", timeout="2h")

    @flows.flow(name="thank", trigger="order/placed")
    def thank(ctx: Any) -> Any:
        """Say thank you."""
        return {"thanked": ctx.step.run("write", str, "thank you")}

    @flows.flow(name="report", trigger=OnCron("0 9 * * 1-5", tz="Europe/Paris", jitter="30s"))
    def report(ctx: Any) -> None:
        """The morning's report."""

    return app


def _declined() -> None:
    raise NonRetriableError("card [bold]declined")


def busy(app: Celery) -> dict[str, str]:
    """Send one order and take every turn that can be taken; the id of each flow's run."""
    runtime = app.flows.runtime
    app.flows.send(ORDER)
    found = {run.flow: run.id for run in app.flows.runs()}
    for run_id in found.values():
        take_turn(runtime, run_id)
    return found


def close(app: Celery) -> None:
    """Drop its connections."""
    app.flows.runtime.store.dispose()
    app.close()


def ready(store_url: str) -> str:
    """The URL of a store, its schema made."""
    store = Store(store_url)
    upgrade(store)
    store.dispose()
    return store_url


@pytest.fixture
def terminal(broker_url: str, store_url: str) -> Iterator[Terminal]:
    """The shop on an empty store of each kind in turn."""
    app = shop(broker_url, ready(store_url))
    yield Terminal(app)
    close(app)


class Report:
    """What the doctor says, by subject."""

    def __init__(self, terminal: Terminal) -> None:
        self.done = terminal("doctor", "--json")
        self.findings = {finding["subject"]: finding for finding in json.loads(self.done.stdout)["findings"]}
        assert (self.done.exit_code == 1) == bool(self.bad)

    def __call__(self, subject: str) -> tuple[str, str]:
        found = self.findings[subject]
        return found["level"], f"{found['text']} {found['remedy']}"

    @property
    def bad(self) -> set[str]:
        """The subjects that have to be mended."""
        return {subject for subject, found in self.findings.items() if found["level"] == "bad"}


def enter_worker(terminal: Terminal, **facts: Any) -> None:
    """A worker that beats, as a living one would have entered itself."""
    runtime = terminal.app.flows.runtime
    row = {"id": "w1", "app": "shop", "release": "r", "host": "celery@one", "pid": 7, "pool": "prefork"}
    with runtime.store.connection() as connection:
        connection.workers.start(WorkerRow(**{**row, "queues": "celery", **facts}))
    register_worker(runtime)
