"""`flows dev`: one command for all that a flow needs while it is written."""

import os
from pathlib import Path

import click
from celery import Celery
from rich.console import Console
from rich.text import Text

from celeryflows.celery_bridge.settings import store_word
from celeryflows.cli.dev.brokers import Place, broker_for, environment
from celeryflows.cli.dev.nudge import Nudge
from celeryflows.cli.dev.pages import Pages
from celeryflows.cli.dev.reload import CodeWatch
from celeryflows.cli.dev.session import Session, WorkerCommand
from celeryflows.cli.opening import WrongUsage, app_of
from celeryflows.cli.output import console_for
from celeryflows.console.activity import Activity
from celeryflows.engine.runtime import Runtime

QUIET = ("--without-gossip", "--without-mingle")
POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")


@click.command("dev", context_settings={"ignore_unknown_options": False})
@click.option("--embedded", is_flag=True, help="An embedded Redis even when the app's own broker answers.")
@click.option("--pool", type=click.Choice(POOLS), help="The worker's pool [default: prefork].")
@click.option("--concurrency", type=click.IntRange(1), help="Slots of the pool [default: as many as cores, at most 4].")
@click.option("--loglevel", default="WARNING", show_default=True, help="The worker's log level.")
@click.option(
    "--reload/--no-reload", default=True, help="Restart the worker when a .py file below this folder changes."
)
@click.option(
    "--dashboard/--no-dashboard", default=True, help="Serve the pages [default: at http://127.0.0.1:8288, if free]."
)
@click.option("--port", type=click.IntRange(1, 65535), help="The port of the pages.")
@click.argument("worker_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- WORKER OPTIONS]")
@click.pass_context
def develop(
    ctx: click.Context,
    *,
    embedded: bool,
    pool: str | None,
    concurrency: int | None,
    loglevel: str,
    reload: bool,
    dashboard: bool,
    port: int | None,
    worker_options: tuple[str, ...],
) -> None:
    """Broker, worker, reload and a line for all that happens, in one command. Ctrl-C ends it."""
    app, name = app_of(ctx), ctx.find_root().params.get("app")
    if not isinstance(name, str):
        raise WrongUsage("flows dev starts a worker of its own and needs the app by name: celery -A <module> flows dev")
    # Named by the app's own broker, so that other commands and processes of the app find the same store.
    app.conf.flows_store_url = url = store_word(app)
    console = console_for(ctx)
    with broker_for(app, embedded=embedded) as place, environment(place):
        options = [*_pool(place, pool), "--concurrency", str(concurrency or min(4, os.cpu_count() or 1))]
        options += ["--loglevel", loglevel, "--hostname", f"dev-{os.getpid()}@%h", *QUIET, *worker_options]
        command = WorkerCommand(name, {**place.settings, "flows_store_url": url}, options)
        pages = Pages(name, command.settings, port) if dashboard else None
        _run(app, place, command, console, CodeWatch(Path.cwd()) if reload else None, pages)


def _pool(place: Place, asked: str | None) -> list[str]:
    if place.single and asked not in (None, "threads"):
        raise WrongUsage(f"--pool {asked} needs a broker: {place.words}. Leave --pool out for threads.")
    return ["--pool", "threads" if place.single else asked or "prefork"]


def _run(
    app: Celery, place: Place, command: WorkerCommand, console: Console, watch: CodeWatch | None, pages: Pages | None
) -> None:
    runtime: Runtime = app.flows_binding.runtime
    session = Session(command, Activity(runtime), watch, console, pages)
    if not place.shared and not place.single:
        session.nudge = Nudge(app, runtime)
    if watch is not None:
        watch.start()
    _greet(runtime, place, command, console, watch, pages)
    try:
        session.run()
    finally:
        if watch is not None:
            watch.stop()
        if session.nudge is not None:
            session.nudge.close()
        runtime.store.dispose()


def _greet(
    runtime: Runtime,
    place: Place,
    command: WorkerCommand,
    console: Console,
    watch: CodeWatch | None,
    pages: Pages | None,
) -> None:
    lines = {
        "broker": f"{place.url}, {place.words}",
        "store": runtime.store.shown_url(),
        "worker": f"{command.options[1]}, {command.options[3]} at once; {_reload(watch)}",
        **({"pages": pages.where} if pages is not None else {}),
        "send": f"celery -A {command.app} flows send NAME '{{...}}', in another terminal",
        "stop": "Ctrl-C",
    }
    if not place.shared:
        lines["others"] = f"processes that do not know this broker reach it through the store; {_tell(place)}"
    for word, text in lines.items():
        console.print(Text.assemble((f"{word:<7}", "bold"), text), soft_wrap=True)


def _reload(watch: CodeWatch | None) -> str:
    if watch is None:
        return "no reload"
    return watch.why_not or f"restarted when a .py file below {watch.folder} changes"


def _tell(place: Place) -> str:
    return "their runs start within seconds" if place.single else "their runs start within a second"
