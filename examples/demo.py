"""What `./dev demo` runs (python -m examples.demo): examples/quickstart.py on a worker that is killed in the middle.

Broker, worker and store are real, live in a temporary folder and are gone at the end. Status 0: all went as told."""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from celeryflows import Event
from celeryflows.cli.dev.brokers import Place, broker_for, environment
from celeryflows.cli.dev.lines import line_of
from celeryflows.cli.dev.processes import Child
from celeryflows.cli.dev.session import WorkerCommand
from celeryflows.cli.output import console_for
from celeryflows.cli.timeline import draw
from celeryflows.console import runs as desk
from celeryflows.console.activity import Activity
from celeryflows.console.workers import workers
from celeryflows.model.runs import ENDED, Status
from examples.quickstart import app, flows

USERS = {"ann": "u1", "bob": "u2", "cho": "u3"}
MAILS = {"ann": ["welcome"], "bob": ["welcome", "nudge"], "cho": ["welcome", "nudge"]}
# A new worker leads once the lease of the dead one is over: 10 s by default, 4 s here.
SETTINGS = {"flows_beat_every": "1s", "flows_dead_after": "4s", "flows_leader_lease": "4s"}
PATIENCE = 60.0


class Demo:
    """One demonstration: tells what happens while it waits for it."""

    def __init__(self, folder: Path, place: Place, console: Console) -> None:
        self.console = console
        self.log = folder / "worker.log"
        self.activity = Activity(flows.runtime)
        self.activity.news()
        pool = "threads" if place.single else "prefork"
        settings = {**place.settings, **SETTINGS, "flows_store_url": app.conf.flows_store_url}
        options = (
            "--pool",
            pool,
            "--concurrency",
            "2",
            "--loglevel",
            "WARNING",
            "--without-gossip",
            "--without-mingle",
        )
        self.command = WorkerCommand("examples.quickstart", settings, options)
        self.worker: Child | None = None
        # A pool that is killed leaves its own temporary folder behind.
        self.env = {**os.environ, "TMPDIR": str(folder)}

    def say(self, words: str) -> None:
        """A line of the narrator."""
        self.console.print(Text(f"\n-> {words}", style="bold"), soft_wrap=True)

    def start_worker(self) -> None:
        """Start a Celery worker and wait until it has entered itself."""
        with self.log.open("ab") as log:
            worker = self.worker = Child(self.command.words(), env=self.env, output=log)
        self.until(lambda: any(found.pid == worker.pid for found in workers(flows.runtime)), "the worker is up")

    def until(self, reached: Callable[[], bool], what: str) -> None:
        """Tell the news until the fact is there."""
        deadline = time.monotonic() + PATIENCE
        while not reached():
            self.tell()
            if time.monotonic() > deadline or (self.worker is not None and self.worker.exit_code() is not None):
                tail = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
                raise SystemExit(f"the demo waited for {what} and it did not come about\n{tail}")
            time.sleep(0.1)
        self.tell()

    def tell(self) -> None:
        """Print what happened."""
        for news in self.activity.news():
            self.console.print(line_of(news), soft_wrap=True)

    def statuses(self) -> list[Status]:
        """How the runs stand."""
        return [run.status for run in desk.runs(flows.runtime).items]

    def mails(self) -> Counter[str]:
        """What send_email printed, by the log of both workers: the steps' own word, not the store's."""
        lines = self.log.read_text(errors="replace").splitlines()
        return Counter(line[line.index("mail to ") :] for line in lines if "mail to " in line)


def show(demo: Demo) -> bool:
    """The whole story; true when it ended as told."""
    demo.say("a Celery worker starts")
    demo.start_worker()

    demo.say("three users sign up: three runs of examples/quickstart.py")
    flows.send([_signed_up(name) for name in USERS])
    demo.until(lambda: demo.statuses() == [Status.SUSPENDED] * 3, "three sleeping runs")

    assert demo.worker is not None
    demo.say(f"kill -9 {demo.worker.pid}: the worker and its pool are gone in the middle of {len(USERS)} runs")
    demo.worker.kill()
    demo.worker = None

    demo.say("ann orders while no worker is alive: the event is accepted all the same")
    flows.send("order/placed", {"user_id": USERS["ann"]})
    demo.tell()

    demo.say("another worker starts and goes on where the first one was killed")
    demo.start_worker()
    demo.until(lambda: all(status in ENDED for status in demo.statuses()), "the end of all runs")
    return _verdict(demo)


def _verdict(demo: Demo) -> bool:
    wanted = Counter(f"mail to {name}@example.com: {mail}" for name, mails in MAILS.items() for mail in mails)
    found = demo.mails()
    demo.say("every step ran once, by what the mailer printed in both workers:")
    for line in sorted(wanted | found):
        demo.console.print(f"   {found[line]} x {line}")
    runs = desk.runs(flows.runtime).items
    longest = max(runs, key=lambda run: run.turn)
    demo.say(f"one of the runs, as `flows show {longest.id}` draws it:")
    demo.console.print(draw(desk.run(flows.runtime, longest.id), demo.console))
    return found == wanted and all(run.status is Status.COMPLETED for run in runs)


def _signed_up(name: str) -> Event:
    return Event("user/signed.up", {"user_id": USERS[name], "email": f"{name}@example.com"})


@contextmanager
def stage() -> Iterator[Demo]:
    """Broker, store and folder of the demonstration; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="flows-demo-") as folder:
        app.conf.flows_store_url = f"sqlite:///{folder}/store.db"
        console = console_for()
        with broker_for(app, embedded=True) as place, environment(place):
            demo = Demo(Path(folder), place, console)
            console.print(f"broker {place.url}\nstore  {app.conf.flows_store_url}", soft_wrap=True)
            try:
                yield demo
            finally:
                if demo.worker is not None:
                    demo.worker.end(within=10)
                flows.runtime.store.dispose()


GO_ON = """
To keep the dashboard up, at http://127.0.0.1:8288, and edit examples/quickstart.py while this runs (it reloads):

    .venv/bin/celery -A examples.quickstart flows dev

and in another terminal:

    .venv/bin/celery -A examples.quickstart flows send user/signed.up '{"user_id": "u1", "email": "ann@example.com"}'
    .venv/bin/celery -A examples.quickstart flows runs

docs/quickstart.md has the rest."""


def main() -> int:
    """Run it; the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        with stage() as demo:
            went_well = show(demo)
    except KeyboardInterrupt:
        return 130
    print(f"\n{'done' if went_well else 'NOT AS TOLD'} in {time.monotonic() - began:.0f} s")
    if went_well:
        print(GO_ON)
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
