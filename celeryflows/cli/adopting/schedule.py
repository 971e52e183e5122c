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

Place = tuple[Source, ast.expr]
MINUTE, HOUR, DAY = 60, 3600, 86400
WHY = (
    "beat is one process: while it is down nothing fires, a second one fires twice. Cron triggers live in every worker."
)
DAYS = {DAY: "0 0 * * *", 7 * DAY: "0 0 * * 0"}


def beat_gains(app: Any, sources: Sequence[Source]) -> Iterator[Gain]:
    """What the entries of the schedule would gain."""
    entries = Entries(sources)
    for name, entry in sorted((app.conf.beat_schedule or {}).items()):
        file, line, before = "", 0, name
        if (place := entries.find(name, entry)) is not None:
            source, node = place
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
    # A local time without a name is none that a trigger could say.
    zone = getattr(app.timezone, "key", "UTC")
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


class Entries:
    """Where entries of the schedule are written: in dictionaries under their names, and in add_periodic_task(...)."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._named: dict[object, Place] = {}
        self._added: list[Place] = []
        for source in sources:
            for node in ast.walk(source.tree):
                if isinstance(node, ast.Dict):
                    self._named |= {name: (source, value) for name, value in _entries(node)}
                elif isinstance(node, ast.Call) and last_word(node) == "add_periodic_task":
                    self._added.append((source, node))

    def find(self, name: str, entry: Mapping[str, Any]) -> Place | None:
        """The place of one entry, None for one that was made in another way."""
        task = str(entry["task"]).rpartition(".")[2]
        return self._named.get(name) or next((place for place in self._added if _adds(*place, name, task)), None)


def _entries(node: ast.Dict) -> Iterator[tuple[object, ast.Dict]]:
    for key, value in zip(node.keys, node.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Dict):
            words = {one.value for one in value.keys if isinstance(one, ast.Constant)}
            if {"task", "schedule"} <= words:
                yield key.value, value


def _adds(source: Source, call: ast.expr, name: str, task: str) -> bool:
    if not isinstance(call, ast.Call):
        return False
    named = next((word.value for word in call.keywords if word.arg == "name"), None)
    if isinstance(named, ast.Constant):
        return bool(named.value == name)
    return len(call.args) > 1 and task in source.of(call.args[1])
