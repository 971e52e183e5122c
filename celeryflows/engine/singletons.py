"""Singletons: one run at a time; what comes while one is there is skipped, or takes its place."""

from collections.abc import Sequence
from dataclasses import replace

from celeryflows.engine.starts import Start, told_key
from celeryflows.flow_control.singleton import judge
from celeryflows.store.connection import Connection

KIND = "singleton"


def singleton(tx: Connection, starts: Sequence[Start]) -> list[Start]:
    """Take each start's key, in the order of their names; of one key in the order of the list."""
    asked = [
        (key, i)
        for i, start in enumerate(starts)
        if start.limits.singleton is not None
        and start.may_start
        and not (key := start.key(KIND, start.limits.singleton.key)).is_null
    ]
    judged = list(starts)
    # Those of this transaction are not written yet.
    new: set[str] = set()
    for key, i in sorted(asked, key=lambda one: (one[0].name, one[1])):
        start, limit = starts[i], starts[i].limits.singleton
        assert limit is not None
        had = tx.singletons.take(key.name, start.run.id)
        holder = had if had in new else (None if had == start.run.id else tx.singletons.open_holder(had))
        verdict = judge(limit, told_key(tx, key), holder)
        if verdict.skipped is not None:
            judged[i] = start.skipped(verdict.skipped, key)
            continue
        new.add(start.run.id)
        judged[i] = replace(start, replaces=verdict.replaces)
        if had != start.run.id:
            tx.singletons.give(key.name, start.run.id)
    return judged
