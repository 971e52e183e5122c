"""The beat schedule, entry by entry, as triggers of the same tasks."""

import ast
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from textwrap import dedent
from typing import Any

from celery.schedules import crontab, schedule

from celeryflows.cli.adopting.gains import Change, Gain
from celeryflows.cli.adopting.sources import Source
from celeryflows.cli.adopting.written_tasks import last_word
from celeryflows.errors import DeclarationError
from celeryflows.model.cron import from_crontab

MINUTE, HOUR, DAY = 60, 3600, 86400
WHY = (
    "beat is one process: while it is down nothing fires, a second one fires twice. Cron triggers live in every worker."
)
DAYS = {DAY: "0 0 * * *", 7 * DAY: "0 0 * * 0"}


def beat_gains(app: Any, sources: Sequence[Source]) -> Iterator[Gain]:
    """What the entries of the schedule would gain."""
    for name, entry in sorted((app.conf.beat_schedule or {}).items()):
        source, node = _written(sources, name, entry)
        file, line, before = "", 0, name
        if source is not None and node is not None:
            file, line, before = source.shown, node.lineno, dedent(" " * node.col_offset + source.of(node))
        cron = _cron(entry["schedule"])
        if cron is None:
            why = f"{WHY} {entry['schedule']!r} is no cron: a flow that loops over ctx.step.sleep, or another interval."
            yield Gain("beat", file, line, before.splitlines()[0], entry["task"], why)
            continue
        options = f" Its options {entry['options']!r} go to the task." if entry.get("options") else ""
        yield Gain(
            "beat",
            file,
            line,
            before.splitlines()[0],
            entry["task"],
            WHY + options,
            Change(file, line, before, _trigger(app, entry, cron)),
            ("OnCron",),
        )


def _trigger(app: Any, entry: Mapping[str, Any], cron: str) -> str:
    zone = str(app.timezone)
    when = f'OnCron("{cron}")' if zone == "UTC" else f'OnCron("{cron}", tz="{zone}")'
    given = _kwargs(app, entry)
    kwargs = f", kwargs={_mapping(given)}" if given else ""
    return f'flows.on({when}, "{entry["task"]}"{kwargs})'


def _mapping(given: Mapping[str, Any]) -> str:
    """JSON is an expression too; what is none is made in the worker."""
    try:
        return repr(json.dumps(given))
    except (TypeError, ValueError):
        return f"lambda event: {given!r}"


def _kwargs(app: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry's arguments under the names of the task's parameters."""
    args, kwargs = tuple(entry.get("args") or ()), dict(entry.get("kwargs") or {})
    task = app.tasks.get(entry["task"])
    if args and task is not None:
        try:
            return dict(inspect.signature(task.run).bind(*args, **kwargs).arguments)
        except TypeError:
            return kwargs
    return kwargs


def _cron(when: Any) -> str | None:
    if isinstance(when, crontab):
        try:
            return from_crontab(when)
        except DeclarationError:
            return None
    every = when.run_every.total_seconds() if type(when) is schedule else _seconds(when)
    return None if every is None else _interval(every)


def _seconds(when: Any) -> float | None:
    if hasattr(when, "total_seconds"):
        return float(when.total_seconds())
    return float(when) if isinstance(when, int | float) else None


def _interval(seconds: float) -> str | None:
    """Five fields that come round at this interval, where there are any."""
    if seconds % MINUTE == 0 and seconds < HOUR and HOUR % seconds == 0:
        minutes = int(seconds // MINUTE)
        return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *"
    if seconds % HOUR == 0 and seconds < DAY and DAY % seconds == 0:
        hours = int(seconds // HOUR)
        return "0 * * * *" if hours == 1 else f"0 */{hours} * * *"
    return DAYS.get(int(seconds)) if seconds % DAY == 0 else None


def _written(sources: Sequence[Source], name: str, entry: Mapping[str, Any]) -> tuple[Source | None, Any]:
    """Where the entry stands: in a dictionary under its name, or in a call of add_periodic_task."""
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Dict) and (value := _entry(node, name)) is not None:
                return source, value
            if (
                isinstance(node, ast.Call)
                and last_word(node) == "add_periodic_task"
                and _adds(source, node, name, entry)
            ):
                return source, node
    return None, None


def _entry(node: ast.Dict, name: str) -> ast.expr | None:
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == name and isinstance(value, ast.Dict):
            words = [one.value for one in value.keys if isinstance(one, ast.Constant)]
            return value if {"task", "schedule"} <= set(words) else None
    return None


def _adds(source: Source, call: ast.Call, name: str, entry: Mapping[str, Any]) -> bool:
    named = next((word.value for word in call.keywords if word.arg == "name"), None)
    if isinstance(named, ast.Constant):
        return bool(named.value == name)
    return len(call.args) > 1 and str(entry["task"]).rpartition(".")[2] in source.of(call.args[1])
