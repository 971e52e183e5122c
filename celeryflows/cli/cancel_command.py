"""`flows cancel`: one run by its id, or many of a flow by time, state and condition."""

from typing import Any

import click

from celeryflows.cli.acting import written_down
from celeryflows.cli.opening import Refused, WrongUsage, runtime_of
from celeryflows.cli.output import json_option, print_json
from celeryflows.console import actions
from celeryflows.console import runs as desk
from celeryflows.engine.runtime import Runtime
from celeryflows.model.runs import OPEN

MANY = ("flow", "after", "before", "if_exp", "status", "yes", "dry_run")


@click.command("cancel")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--flow", help="Many runs: those of this flow that have not ended.")
@click.option("--after", help="Of those, the ones created from then on: ISO text with a zone.")
@click.option("--before", help="The ones created before then.")
@click.option("--if", "--if-exp", "if_exp", help="The ones for which this CEL condition over event and error is true.")
@click.option("--status", type=click.Choice(sorted(status.value for status in OPEN)), help="The ones that stand there.")
@click.option("--dry-run", is_flag=True, help="Only tell how many there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--terminate", is_flag=True, help="End the process at work on RUN too, by SIGTERM (prefork alone).")
@click.option("--because", default="cancelled by hand", show_default=True, help="The reason that the runs will show.")
@json_option
@click.pass_context
def cancel_runs(ctx: click.Context, /, run_id: str | None, **options: Any) -> None:
    """Cancel a run, or with --flow many: at once, or at the next step boundary of one that is at work."""
    if (run_id is None) == (options["flow"] is None):
        raise WrongUsage("Give the id of a run, or --flow for many.")
    if run_id is None:
        if options["terminate"]:
            raise WrongUsage("--terminate goes with the id of a run.")
        return _cancel_many(ctx, options)
    if any(options[name] for name in MANY):
        raise WrongUsage("--after, --before, --if, --status, --dry-run and --yes go with --flow.")
    return _cancel_one(runtime_of(ctx), run_id, options)


def _cancel_one(runtime: Runtime, run_id: str, options: dict[str, Any]) -> None:
    because, terminate = options["because"], options["terminate"]
    with written_down(runtime, "cancel_run", run_id, because=because, terminate=terminate):
        if not actions.cancel(runtime, run_id, because=because, terminate=terminate):
            status = desk.run(runtime, run_id).run.status
            raise Refused(f"Run {run_id} has ended already: {status}. Nothing was changed.")
    if options["as_json"]:
        return print_json({"cancelled": 1, "run": run_id})
    return click.echo(f"cancelled {run_id}")


def _cancel_many(ctx: click.Context, options: dict[str, Any]) -> None:
    runtime, flow = runtime_of(ctx), options["flow"]
    asked = {name: options[name] for name in ("after", "before", "if_exp", "status")}
    chosen = actions.select_open(runtime, flow, **asked)
    if options["dry_run"] or not options["yes"]:
        found = actions.count_open(runtime, chosen)
        if options["dry_run"]:
            return print_json({"found": found}) if options["as_json"] else click.echo(f"{found} runs of {flow}")
        click.confirm(f"Cancel {found} runs of {flow}?", abort=True, err=True)
    with written_down(runtime, "cancel_runs", flow, **asked, because=options["because"]):
        cancelled = actions.cancel_many(runtime, chosen, because=options["because"])
    if options["as_json"]:
        return print_json({"cancelled": cancelled})
    return click.echo(f"cancelled {cancelled} runs of {flow}")
