"""Rate limits: what comes too early is skipped."""

from collections.abc import Sequence

from celeryflows.engine.starts import Start, told_key
from celeryflows.flow_control.rates import skip_reason
from celeryflows.store.connection import Connection
from celeryflows.store.meters import Meter

KIND = "rate_limit"


def rate_limit(tx: Connection, starts: Sequence[Start]) -> list[Start]:
    """Ask each start's meter, in the order of their names; of one meter in the order of the list."""
    asked = [
        (start.key(KIND, start.limits.rate_limit.key), i)
        for i, start in enumerate(starts)
        if start.limits.rate_limit is not None and start.is_under_way
    ]
    judged = list(starts)
    for key, i in sorted(asked, key=lambda one: (one[0].name, one[1])):
        limit = starts[i].limits.rate_limit
        assert limit is not None
        meter = Meter(key.name, key.flow, KIND, key.value)
        if not tx.meters.take(meter, limit.interval, limit.tolerance):
            reason = skip_reason(limit, told_key(tx, key), tx.meters.tat(key.name) or 0)
            judged[i] = starts[i].skipped(reason, key)
    return judged
