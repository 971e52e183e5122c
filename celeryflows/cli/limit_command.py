"""`flows limits`."""

import click

from celeryflows.cli.opening import runtime_of
from celeryflows.cli.output import console_for, json_option, local, one_line_json, plain, print_json, table
from celeryflows.console import limits as desk
from celeryflows.console.limits import LimitSummary


@click.command("limits")
@click.option("--flow", help="Only what this flow is limited by.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@json_option
@click.pass_context
def list_limits(ctx: click.Context, *, flow: str | None, limit: int, as_json: bool) -> None:
    """List limits with who is inside and who waits, those where somebody waits longest first."""
    found = desk.limits(runtime_of(ctx), flow=flow, limit=limit)
    if as_json:
        return print_json({"limits": found})
    if not found:
        return click.echo("nobody is inside a limit, nobody waits")
    rows = table("limit", "flow", "key", "value", "use", "waiting", "oldest")
    for one in found:
        rows.add_row(
            one.kind,
            plain(_whose(one), 60),
            plain(one.key or "", 40),
            one_line_json(one.value, 40) if one.key else "",
            _use(one),
            str(one.waiting),
            local(one.oldest),
        )
    return console_for(ctx).print(rows)


def _whose(one: LimitSummary) -> str:
    return f"{one.flow} and others of the app" if one.scope == "app" else one.flow


def _use(one: LimitSummary) -> str:
    if one.kind in ("throttle", "debounce"):
        return f"{one.rate or 'no more declared'}, next {local(one.next_at)}"
    use = f"{one.used} of {one.capacity if one.capacity is not None else 'any'}"
    return use if one.next_at is None else f"{use}, next {local(one.next_at)}"
