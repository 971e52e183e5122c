"""Flows that write their app's own table beside the store's: `celery -A tests.celery.apps.books`."""

import asyncio
import os
import signal
from typing import Any

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, func, insert, select
from sqlalchemy.orm import Session

from celeryflows import StepError
from tests.celery.apps.sheet import Sheet, first_time, pass_gate

sheet = Sheet("books")
metadata = MetaData()
lines = Table("book_lines", metadata, Column("id", Integer, primary_key=True), Column("line", String(100)))


def write(connection: Connection, line: str, killed: str | None = None) -> str:
    """A line; the first process that comes here may be killed before its commit."""
    connection.execute(insert(lines).values(line=line))
    if killed and first_time(killed):
        os.kill(os.getpid(), signal.SIGKILL)
    return line


def count(session: Session, line: str) -> int | None:
    return session.scalar(select(func.count()).where(lines.c.line == line))


@sheet.flow()
def booked(ctx: Any) -> Any:
    """Two lines with a nap between them; the kill, where one is asked for, strikes in the second."""
    killed = f"killed.{ctx.run_id}" if ctx.event.data.get("killed") else None
    ctx.step.transaction("first", write, f"{ctx.run_id} first")
    ctx.step.sleep("nap", "50 ms")
    ctx.step.transaction("second", write, f"{ctx.run_id} second", killed)
    return ctx.step.using(output_type=int).transaction("count", count, f"{ctx.run_id} second")


@sheet.flow()
async def booked_at_once(ctx: Any) -> list[str]:
    """Two lines at once."""
    both = [ctx.step.transaction(name, write, f"{ctx.run_id} {name}") for name in ("first", "second")]
    return list(await asyncio.gather(*both))


@sheet.flow(soft_time_limit=1, retries=0)
def limited(ctx: Any) -> list[str]:
    """Celery's limit strikes before the step's own."""
    try:
        ctx.step.using(timeout="1h").run("stuck", pass_gate, "never")
    except StepError as error:
        return [type(error).__name__, error.name]
    return []


app = sheet.worker_app()
