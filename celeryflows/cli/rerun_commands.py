"""`flows rerun`, `flows replay` and `flows replays`."""

import json
import time
from typing import Any

import click
from rich.console import Console

from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import Refused, runtime_of
from celeryflows.cli.output import console_for, json_option, local, plain, print_json, table
from celeryflows.cli.run_commands import limit_option
from celeryflows.console import actions
from celeryflows.console import replays as desk
from celeryflows.console.replays import ReplaySummary
from celeryflows.console.workers import workers
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import ENDED

LOOK_EVERY = 0.5
OFFLINE = "no worker is alive: nothing goes on until one starts (celery -A <app> worker)"


@click.command("rerun")
@click.argument("run_id", metavar="RUN")
@click.option("--from-step", metavar="ID", help="Keep what was recorded before this step. The first of several: ID:0.")
@click.option("--input", "text", metavar="JSON", help="Other arguments for that step: a list, or an object by keyword.")
@json_option
@click.pass_context
def rerun_run(ctx: click.Context, run_id: str, from_step: str | None, text: str | None, *, as_json: bool) -> None:
    """Start an ended run again with the same event: whole, or from a step."""
    runtime = runtime_of(ctx)
    given = None if text is None else _input(text)
    with written_down(runtime, "rerun_run", run_id, from_step=from_step):
        new = actions.rerun(runtime, run_id, from_step=from_step, input=given)
    if as_json:
        return print_json({"id": new, "origin": run_id})
    click.echo(f"run {new}")
    return warn_offline(runtime)


def _input(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"it is not valid JSON: {error}", param_hint="--input") from None


@click.command("replay")
@click.argument("flow")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(sorted(status.value for status in ENDED)),
    help="How they ended [failed].",
)
@click.option("--after", help="Runs made from then on: ISO text with a zone.")
@click.option("--before", help="Runs made before then.")
@click.option("--if-exp", help="Only runs whose event fits, such as 'event.data.total > 100'.")
@click.option("--pace", default="10", show_default=True, help="Starts a second, or such as 100/m.")
@click.option("--event", "event_id", help="Start FLOW with this one event instead, whatever it started before.")
@click.option("--dry-run", is_flag=True, help="Only tell how many runs would be started.")
@click.option("--no-wait", is_flag=True, help="Do not follow it until all are started.")
@json_option
@click.pass_context
def replay_runs(ctx: click.Context, /, flow: str, **asked: Any) -> None:
    """Start the ended runs of FLOW again, each once; a worker drives it on when this command ends."""
    runtime = runtime_of(ctx)
    if asked["event_id"] is not None:
        return _replay_event(runtime, asked["event_id"], flow, as_json=asked["as_json"])
    chosen = {name: asked[name] for name in ("after", "before", "if_exp")} | {"status": asked["statuses"] or "failed"}
    if asked["dry_run"]:
        count = actions.count_replay(runtime, flow, **chosen)
        return print_json({"total": count}) if asked["as_json"] else click.echo(f"{count} runs would be started")
    with written_down(runtime, "replay_runs", flow, **chosen, pace=asked["pace"]):
        made = desk.replay(runtime, actions.replay(runtime, flow, pace=_pace(asked["pace"]), **chosen))
    if not asked["as_json"]:
        click.echo(f"replay {made.id} of {made.total} runs")
        warn_offline(runtime)
    if not asked["no_wait"]:
        made = _follow(runtime, made, console_for(ctx), quiet=asked["as_json"])
    return print_json(made) if asked["as_json"] else _tell_end(made)


def _pace(text: str) -> float | str:
    return float(text) if text.replace(".", "", 1).isdecimal() else text


def _replay_event(runtime: Runtime, event_id: str, flow: str, *, as_json: bool) -> None:
    with written_down(runtime, "replay_to_flow", flow, event=event_id):
        new = actions.replay_event(runtime, event_id, flow)
    if as_json:
        return print_json({"id": new})
    click.echo(f"run {new}")
    return warn_offline(runtime)


def _follow(runtime: Runtime, made: ReplaySummary, console: Console, *, quiet: bool) -> ReplaySummary:
    """Look until it is over. Ctrl-C ends the look, not the replay."""
    shown = None
    try:
        while made.ended_at is None:
            if made.done != shown and not quiet:
                shown = made.done
                console.print(f"{made.done} of {made.total} started", end="\r" if console.is_terminal else "\n")
            time.sleep(LOOK_EVERY)
            made = desk.replay(runtime, made.id)
    except KeyboardInterrupt:
        click.echo(f"\nit goes on; see `flows replays`, or stop it: flows replays --cancel {made.id}", err=True)
    return made


def _tell_end(made: ReplaySummary) -> None:
    stand = ", ".join(f"{count} {status}" for status, count in sorted(made.runs.items()))
    click.echo(f"{made.standing}: {made.done} of {made.total} started" + (f" ({stand})" if stand else ""))


@click.command("replays")
@click.option("--cancel", "cancelled", metavar="ID", help="Start no more runs of this one.")
@limit_option
@json_option
@click.pass_context
def list_replays(ctx: click.Context, cancelled: str | None, limit: int, *, as_json: bool) -> None:
    """List replays, the newest first; or cancel one."""
    runtime = runtime_of(ctx)
    if cancelled is not None:
        with written_down(runtime, "cancel_replay", cancelled):
            if not actions.cancel_replay(runtime, cancelled, because="cancelled by hand"):
                raise Refused(f"Replay {cancelled} has ended already. Nothing was changed.")
        return click.echo(f"cancelled {cancelled}; what it started goes on")
    found = desk.replays(runtime, limit)
    if as_json:
        return print_json({"replays": found})
    if not found:
        return click.echo("no replays")
    rows = table("id", "flow", "", "started", "created", "runs")
    for one in found:
        stand = ", ".join(f"{count} {status}" for status, count in sorted(one.runs.items()))
        done = f"{one.done} of {one.total}"
        rows.add_row(one.id, plain(one.flow, 60), one.standing, done, local(one.started_at), plain(stand))
    return console_for(ctx).print(rows)


def warn_offline(runtime: Runtime) -> None:
    """Say so when no worker is alive."""
    if not any(worker.alive for worker in workers(runtime)):
        click.echo(OFFLINE, err=True)
