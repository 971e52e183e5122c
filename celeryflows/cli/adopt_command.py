"""`flows adopt`: what the tasks of an app would gain, and the lines to change. It asks no server."""

from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from celeryflows.cli.adopting.gains import Gain
from celeryflows.cli.adopting.reading import gains_of
from celeryflows.cli.opening import any_app_of
from celeryflows.cli.output import console_for, json_option, plain, print_json


@click.command("adopt")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path), metavar="[PATH]...")
@json_option
@click.pass_context
def adopt(ctx: click.Context, paths: tuple[Path, ...], *, as_json: bool) -> None:
    """List what the app's tasks would gain: ETA calls, retries, canvases, beat entries, rate limits, locks.

    The modules that the app loads are read, and each PATH, a file or a folder. The app needs no Flows yet.
    """
    app = any_app_of(ctx)
    gains, unread = gains_of(app, paths)
    imports = sorted({name for gain in gains for name in gain.imports})
    if as_json:
        return print_json({"gains": gains, "imports": imports, "unread": unread})
    console = console_for(ctx)
    for file in unread:
        console.print(Text("not read: ").append_text(plain(file, 400)), soft_wrap=True)
    said = set[str]()
    for gain in gains:
        _print(gain, console, why=gain.why not in said)
        said.add(gain.why)
    return _sum_up(gains, imports, console, has_flows=hasattr(app, "flows"))


def _print(gain: Gain, console: Console, *, why: bool) -> None:
    head = Text(f"{gain.file}:{gain.line}" if gain.file else "in the settings", style="bold")
    head.append(f" {gain.kind}", style="cyan").append(f" {gain.task or ''}", style="default")
    console.print(head, soft_wrap=True)
    console.print(Text("  ").append_text(plain(gain.code, 200)), soft_wrap=True)
    if why:
        console.print(Text("  ").append_text(plain(gain.why, 600)), soft_wrap=True)
    change = gain.change
    if change is not None:
        if (change.file, change.line) != (gain.file, gain.line):
            console.print(f"  {change.file}:{change.line}", soft_wrap=True)
        for sign, lines, style in (("-", change.before, "red"), ("+", change.after, "green")):
            for line in lines.splitlines():
                console.print(Text(f"  {sign} ", style=style).append_text(plain(line, 400, style)), soft_wrap=True)
    console.print()


def _sum_up(gains: list[Gain], imports: list[str], console: Console, *, has_flows: bool) -> None:
    if not gains:
        console.print("nothing found that would gain")
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(gain.kind for gain in gains).items()))
    console.print(f"{len(gains)} places would gain: {kinds}", soft_wrap=True)
    names = imports if has_flows else sorted([*imports, "Flows"])
    if names:
        console.print(f"from celeryflows import {', '.join(names)}", soft_wrap=True)
    if not has_flows:
        console.print("flows = Flows(app)")
