"""Crons for tests: declare one on a running worker, and write moments as people do."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from celeryflows import OnCron
from celeryflows.durations import from_datetime, to_datetime
from tests.engine.world import Process


def cron(process: Process, line: str, *, name: str = "report", **options: Any) -> list[int]:
    """Declare a cron flow on a running worker; the moments that its runs were started for."""
    fired: list[int] = []

    @process.flow(name=name, trigger=OnCron(line, **options))
    def handler(ctx: Any) -> None:
        fired.append(from_datetime(ctx.event.ts))

    process.start_worker()
    return fired


def at(text: str, tz: str = "UTC", fold: int = 0) -> int:
    """A local time in microseconds."""
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=fold))


def local(moments: list[int], tz: str = "UTC") -> list[str]:
    """Days and local times of moments."""
    return [f"{to_datetime(moment).astimezone(ZoneInfo(tz)):%d %H:%M}" for moment in moments]
