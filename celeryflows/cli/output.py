"""What commands print: JSON for scripts, text and tables for people. What users wrote never steers the terminal."""

import json
import sys
from datetime import datetime, timedelta

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from celeryflows.console.plain import json_form
from celeryflows.durations import SECOND, format_duration
from celeryflows.model.runs import Status

PIPE_WIDTH = 200
WHOLE = ("id", "status", "created", "stored", "next", "took")
STYLES = {
    Status.SCHEDULED: "blue",
    Status.QUEUED: "blue",
    Status.RUNNING: "cyan",
    Status.SUSPENDED: "yellow",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "magenta",
    Status.SKIPPED: "magenta",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def console_for(ctx: click.Context | None = None) -> Console:
    """The terminal, or a wide page for a pipe."""
    no_color = getattr(ctx.obj, "no_color", None) if ctx is not None else None
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, no_color=no_color or None, width=width, emoji=False, markup=False)


def print_json(value: object) -> None:
    """A view as JSON: moments as ISO text in UTC, durations in seconds."""
    click.echo(json.dumps(json_form(value), ensure_ascii=False, indent=2))


def one_line_json(value: object, most: int = 100) -> Text:
    """A value for a table's cell, cut."""
    return plain(json.dumps(json_form(value), ensure_ascii=False), most)


def plain(text: str, most: int = 400, style: str = "") -> Text:
    """A user's text in one line: cut, and without anything that a terminal would obey."""
    line = " ".join(text[: most + 1].split()) if "\n" in text[: most + 1] else text[: most + 1]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    cut = safe if len(text) <= most else f"{safe[: most - 3]}..."
    return Text(cut, style=style, no_wrap=True, overflow="ellipsis")


def status_text(status: Status) -> Text:
    """A status in its colour."""
    return Text(status.value, style=STYLES[status])


def local(moment: datetime | None) -> str:
    """A moment on this host's clock."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span(length: timedelta) -> str:
    """A length of time."""
    return format_duration(int(length.total_seconds() * SECOND))


def table(*columns: str) -> Table:
    """A table without lines."""
    found = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        # What is copied and compared stays whole, however narrow the terminal; free text gives way.
        found.add_column(column, no_wrap=column in WHOLE)
    return found
