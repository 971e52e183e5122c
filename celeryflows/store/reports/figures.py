"""Figures over time as pages show them: the buckets that the leader counted, put together to as many as are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Integer, bindparam, cast, func, select

from celeryflows.store.database import Store
from celeryflows.store.figure_tables import CLASSES, COUNTS, backlogs, figures
from celeryflows.store.reports.reading import read

SUMS = (*COUNTS, "waited", *CLASSES)


@dataclass(frozen=True, slots=True)
class FigureView:
    """What happened to the runs that were made in one piece of time: the number of the piece, its sums by name."""

    flow: str
    no: int
    sums: dict[str, int]


@dataclass(frozen=True, slots=True)
class BacklogView:
    """The most that waited, and worked, at one moment within a piece of time; `oldest` in microseconds."""

    no: int
    queued: int
    running: int
    oldest: int | None


def figures_of(store: Store, flow: str, start: int, step: int, end: int) -> list[FigureView]:
    """A flow's figures ('' for all) from `start` on, in pieces of `step`; pieces without any are left out."""
    no = piece_of(figures.c.at, start, step)
    query = (
        select(figures.c.flow, no, *(func.sum(figures.c[name]) for name in SUMS))
        .where(figures.c.flow == flow, figures.c.at >= start, figures.c.at < end)
        .group_by(figures.c.flow, no)
        .order_by(no)
    )
    return [_figure(row, SUMS) for row in read(store, query)]


def volumes(store: Store, start: int, step: int, end: int) -> list[FigureView]:
    """How many runs each flow had, and how many failed, from `start` on in pieces of `step`."""
    names = ("made", "completed", "failed")
    no = piece_of(figures.c.at, start, step)
    query = (
        select(figures.c.flow, no, *(func.sum(figures.c[name]) for name in names))
        .where(figures.c.flow != "", figures.c.at >= start, figures.c.at < end)
        .group_by(figures.c.flow, no)
    )
    return [_figure(row, names) for row in read(store, query)]


def totals(store: Store, start: int, end: int) -> list[FigureView]:
    """What each flow's figures come to from `start` on."""
    query = (
        select(figures.c.flow, *(func.sum(figures.c[name]) for name in SUMS))
        .where(figures.c.flow != "", figures.c.at >= start, figures.c.at < end)
        .group_by(figures.c.flow)
        .order_by(figures.c.flow)
    )
    return [_figure((row[0], 0, *row[1:]), SUMS) for row in read(store, query)]


def backlog_of(store: Store, flow: str, start: int, step: int, end: int) -> list[BacklogView]:
    """A flow's backlog ('' for all) from `start` on, in pieces of `step`."""
    no = piece_of(backlogs.c.at, start, step)
    query = (
        select(no, func.max(backlogs.c.queued), func.max(backlogs.c.running), func.max(backlogs.c.oldest))
        .where(backlogs.c.flow == flow, backlogs.c.at >= start, backlogs.c.at < end)
        .group_by(no)
        .order_by(no)
    )
    return [BacklogView(*row) for row in read(store, query)]


def piece_of(at: ColumnElement[int], start: int, step: int) -> ColumnElement[int]:
    """The number of the piece of time that a moment lies in."""
    # As literals: one and the same expression in what is selected and what is grouped by.
    first: BindParameter[int] = bindparam(None, start, literal_execute=True)
    length: BindParameter[int] = bindparam(None, step, literal_execute=True)
    return cast((at - first) // length, Integer)


def _figure(row: Sequence[Any], names: Sequence[str]) -> FigureView:
    return FigureView(row[0], int(row[1]), {name: int(value) for name, value in zip(names, row[2:], strict=True)})
