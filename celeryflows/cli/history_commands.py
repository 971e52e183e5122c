"""`flows export` and `flows check-history`."""

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import click

from celeryflows.cli.opening import Refused, binding_of, runtime_of
from celeryflows.cli.output import json_option, plain, print_json
from celeryflows.clock import SystemClock
from celeryflows.console import history as desk
from celeryflows.engine.checking import RunCheck
from celeryflows.engine.runtime import Runtime
from celeryflows.scheduler.inline import InlineDispatcher
from celeryflows.store.database import Store

TELL_EVERY = 1.0
flow_option = click.option("--flow", help="Only runs of this flow.")
status_option = click.option("--status", type=click.Choice(desk.STATUSES), help="Only those; open: all not ended.")


@click.command("export")
@flow_option
@click.option("--after", help="Runs made from then on: ISO text with a zone.")
@click.option("--before", help="Runs made before then.")
@status_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file [stdout].")
@click.pass_context
def export_runs(
    ctx: click.Context,
    flow: str | None,
    after: str | None,
    before: str | None,
    status: str | None,
    output: Path | None,
) -> None:
    """Write runs as lines of JSON, each with its event, steps and waits."""
    lines = desk.export(runtime_of(ctx), flow=flow, after=after, before=before, status=status)
    if output is None:
        _write(lines, sys.stdout)
        return
    # Under its own name it is whole.
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            count = _write(lines, file)
        os.replace(part, output)
    except OSError as error:
        raise Refused(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"{count} runs in {output}")


def _write(lines: Iterable[str], file: TextIO) -> int:
    count, told = 0, time.monotonic()
    for line in lines:
        file.write(line + "\n")
        count += 1
        if sys.stderr.isatty() and time.monotonic() - told > TELL_EVERY:
            told = time.monotonic()
            click.echo(f"{count} runs", err=True)
    return count


@click.command("check-history")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@flow_option
@status_option
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="How many, the newest first.")
@click.option("--strict", is_flag=True, help="Fail for every difference, not only for what would break a run.")
@json_option
@click.pass_context
def check_history(
    ctx: click.Context,
    /,
    file: Path | None,
    flow: str | None,
    status: str | None,
    limit: int,
    *,
    strict: bool,
    as_json: bool,
) -> None:
    """Run today's handlers over recorded runs, of the store or an exported FILE, without doing any step.

    Exits with 1 when a run would break.
    """
    if file is None:
        checks = list(desk.check_store(runtime_of(ctx), flow=flow, status=status, limit=limit))
    else:
        runtime = _runtime_without_store(ctx)
        with file.open(encoding="utf-8") as lines:
            checks = list(desk.check_lines(runtime, lines, flow=flow, status=status, limit=limit))
    failed = [one for one in checks if one.breaks or (strict and one.findings)]
    if as_json:
        print_json({"checked": len(checks), "broken": len(failed), "runs": [one for one in checks if one.findings]})
    else:
        _tell(checks)
    if failed:
        ctx.exit(1)


def _runtime_without_store(ctx: click.Context) -> Runtime:
    """What checks a file: the app's flows, and a store in memory that nothing asks."""
    clock = SystemClock()
    return binding_of(ctx).runtime_on(Store("sqlite://", clock=clock), InlineDispatcher(), clock)


def _tell(checks: list[RunCheck]) -> None:
    for one in checks:
        for finding in one.findings:
            word = "breaks" if finding.breaks else "differs"
            click.echo(f"{word} {one.flow} {one.run_id} ({one.status}) {finding.what}: {plain(finding.text)}")
    broken = sum(one.breaks for one in checks)
    differ = sum(bool(one.findings) and not one.breaks for one in checks)
    click.echo(f"{len(checks)} runs checked: {broken} would break, {differ} differ")
