"""What gates and throttles hold of the units that come back or come late: noted in the transaction, told after it."""

from collections.abc import Iterable, Mapping

from celeryflows.engine.passage import Passage
from celeryflows.signals import LimitNews, limit_reached, tell
from celeryflows.store.branches import Unit
from celeryflows.store.connection import Connection

METERS = "0"


def note_held(tx: Connection, passage: Passage, flows: Mapping[Unit, str]) -> list[LimitNews]:
    """Those of the units, each with its flow, that the passage leaves in a line; before it is written. None where
    nobody listens."""
    if not limit_reached.receivers:
        return []
    return [
        LimitNews(unit[0], flows[unit], _kind(line), tx.gates.value(line), "held")
        for unit in sorted(flows)
        if unit in passage.moved and (line := passage.moved[unit].held_at) is not None
    ]


def tell_held(held: Iterable[LimitNews]) -> None:
    """After the commit."""
    for news in held:
        tell(limit_reached, news.flow, limit=lambda news=news: news)  # type: ignore[misc]


def _kind(line: str) -> str:
    return "throttle" if line.startswith(METERS) else "concurrency"
