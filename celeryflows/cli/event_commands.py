"""`flows send`, `flows signal` and `flows events`."""

import sys
from datetime import datetime
from typing import Any

import click

from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import Refused, runtime_of
from celeryflows.cli.output import console_for, json_option, local, one_line_json, plain, print_json, table
from celeryflows.cli.run_commands import cursor_option, limit_option
from celeryflows.codec import parse_wire
from celeryflows.console import actions
from celeryflows.console import events as desk
from celeryflows.console.actions import Sent
from celeryflows.console.workers import workers
from celeryflows.engine.runtime import Runtime
from celeryflows.errors import InvalidEvent
from celeryflows.model.events import Event, check_ts


@click.command("send")
@click.argument("name")
@click.argument("data", metavar="[JSON]", default="{}")
@click.option("--id", "event_id", help="Your own id: each flow starts once for it within flows_dedupe.")
@click.option("--ts", help="When it happened: ISO text with a zone, or milliseconds since 1970. Later delays the run.")
@json_option
@click.pass_context
def send_event(
    ctx: click.Context, name: str, data: str, event_id: str | None, ts: str | None, *, as_json: bool
) -> None:
    """Send the event NAME with a JSON object as its data; - reads it from stdin."""
    event = Event(name, read_object(data), id=event_id, ts=_moment(ts))
    runtime = runtime_of(ctx)
    with written_down(runtime, "send_event", name, id=event_id):
        sent = actions.send(runtime, event)
    if as_json:
        return print_json(sent)
    return _tell(runtime, name, sent)


@click.command("signal")
@click.argument("name")
@click.argument("data", metavar="[JSON]", default="null")
@json_option
@click.pass_context
def send_signal(ctx: click.Context, name: str, data: str, *, as_json: bool) -> None:
    """Wake the run that waits for the signal NAME, with any JSON as its data; - reads it from stdin."""
    value, runtime = _read(data), runtime_of(ctx)
    with written_down(runtime, "send_signal", name):
        run_id = actions.signal(runtime, name, value)
        if run_id is None:
            raise Refused(f"No run waits for the signal {name!r}. Signals are not kept: send it when one does.")
    return print_json({"run_id": run_id}) if as_json else click.echo(f"woke {run_id}")


def read_object(text: str) -> Any:
    """A JSON object given as a word, or on stdin for `-`."""
    data = _read(text)
    if not isinstance(data, dict):
        raise click.BadParameter(f"an object is wanted, such as '{{\"id\": 1}}', got {text[:40]}", param_hint="JSON")
    return data


def _read(text: str) -> Any:
    try:
        return parse_wire(sys.stdin.read() if text == "-" else text)
    except InvalidEvent as error:
        raise click.BadParameter(str(error).replace("The body", "It"), param_hint="JSON") from None


def _moment(text: str | None) -> datetime | None:
    try:
        return check_ts(int(text) if text is not None and text.isdecimal() else text)
    except InvalidEvent as error:
        raise click.BadParameter(str(error), param_hint="--ts") from None


def _tell(runtime: Runtime, name: str, sent: Sent) -> None:
    click.echo(f"event {sent.id} {plain(name)}")
    for run in sent.runs:
        click.echo(f"run   {run.run_id} {run.flow} {run.status}")
    if not sent.runs:
        click.echo("it starts no flow; `flows list` shows which events do")
    elif not any(worker.alive for worker in workers(runtime)):
        click.echo("no worker is alive: the run waits until one starts (celery -A <app> worker)", err=True)


@click.command("events")
@click.option("--name", help="Only events of this name.")
@click.option("--own", is_flag=True, help="Our own events (flows/...) too.")
@limit_option
@cursor_option
@json_option
@click.pass_context
def list_events(
    ctx: click.Context, name: str | None, limit: int, cursor: str | None, *, own: bool, as_json: bool
) -> None:
    """List events, the newest first, with the runs that each started."""
    page = desk.events(runtime_of(ctx), name=name, own=own, limit=limit, cursor=cursor)
    if as_json:
        return print_json({"events": page.items, "next": page.next})
    if not page.items:
        return click.echo("no events")
    found = table("id", "name", "stored", "data", "runs")
    for event in page.items:
        runs = ", ".join(f"{run.flow} {run.run_id} {run.status}" for run in event.runs)
        shown = f"{runs} ({event.problem})" if event.problem else runs
        found.add_row(
            event.id, plain(event.name, 60), local(event.stored_at), one_line_json(event.data, 60), plain(shown)
        )
    console_for(ctx).print(found)
    if page.next is not None:
        click.echo(f"more: --cursor {page.next}")
    return None
