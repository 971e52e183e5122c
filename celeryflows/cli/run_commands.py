"""`flows runs` and `flows show`."""

import click
from rich.text import Text

from celeryflows.cli.opening import Refused, runtime_of
from celeryflows.cli.output import (
    console_for,
    json_option,
    local,
    one_line_json,
    plain,
    print_json,
    span,
    status_text,
    table,
)
from celeryflows.cli.step_view import draw_step
from celeryflows.cli.timeline import draw
from celeryflows.console import runs as desk
from celeryflows.console.run_pages import run_page, step_page
from celeryflows.console.runs import RunSummary
from celeryflows.console.searching import wanted_runs
from celeryflows.model.runs import Status

limit_option = click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many.")
cursor_option = click.option("--cursor", help="Where the page before ended: its `next`.")


@click.command("runs")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those that stand there.")
@click.option("--flow", help="Only those of this flow.")
@click.option("--after", help="Only those created from then on: ISO text with a zone.")
@click.option("--before", help="Only those created before then.")
@click.option("--event", help="Only those that an event of this name started.")
@click.option(
    "--if", "--if-exp", "if_exp", help="Only those for which this CEL condition is true: event, output, error."
)
@limit_option
@cursor_option
@json_option
@click.pass_context
def list_runs(ctx: click.Context, /, limit: int, cursor: str | None, *, as_json: bool, **filters: str | None) -> None:
    """List runs, the newest first."""
    page = desk.runs(runtime_of(ctx), wanted_runs(**filters), limit=limit, cursor=cursor)
    if as_json:
        return print_json({"runs": page.items, "next": page.next})
    if not page.items and page.next is None:
        return click.echo("no runs")
    found = table("id", "flow", "status", "created", "took", "")
    for run in page.items:
        took = span(run.ended_at - run.started_at) if run.started_at and run.ended_at else ""
        found.add_row(run.id, plain(run.flow, 60), status_text(run.status), local(run.created_at), took, _what(run))
    console_for(ctx).print(found)
    if page.next is not None:
        click.echo(f"more: --cursor {page.next}")
    return None


def _what(run: RunSummary) -> Text | str:
    if run.reason is not None:
        return plain(run.reason, 80)
    if run.error is not None:
        return plain(f"{run.error.name}: {run.error.message}", 80)
    return one_line_json(run.output, 80) if run.status is Status.COMPLETED else ""


@click.command("show")
@click.argument("run_id", metavar="RUN")
@click.option("--step", metavar="ID", help="All there is about this step: input, output, errors, attempts.")
@json_option
@click.pass_context
def show_run(ctx: click.Context, run_id: str, *, step: str | None, as_json: bool) -> None:
    """Show one run: its steps on a time axis, sleeps, waits, attempts and errors."""
    if step is not None:
        return _show_step(ctx, run_id, step, as_json=as_json)
    detail = desk.run(runtime_of(ctx), run_id)
    if as_json:
        return print_json(detail)
    console = console_for(ctx)
    return console.print(draw(detail, console))


def _show_step(ctx: click.Context, run_id: str, key: str, *, as_json: bool) -> None:
    page = run_page(runtime_of(ctx), run_id)
    held = step_page(runtime_of(ctx), page, key)
    found = next((step for step in page.steps if step.id == key), None)
    if held is None or found is None:
        known = ", ".join(step.id for step in page.steps[:20])
        raise Refused(f"Run {run_id} has no step {key!r}. It has: {known or 'none'}")
    if as_json:
        return print_json({"step": found, "held": held})
    return console_for(ctx).print(draw_step(found, held))
