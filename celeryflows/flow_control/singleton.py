"""Singleton: one run at a time for each value of the key."""

from dataclasses import dataclass

from celeryflows.flow_control.keys import Key
from celeryflows.model.limits import Singleton


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a start: it is skipped for a reason, or starts and replaces the run that was there."""

    skipped: str | None = None
    replaces: str | None = None


STARTS = Verdict()


def judge(limit: Singleton, key: Key, holder: str | None) -> Verdict:
    """A run would start; `holder` is the open run of the same key, None when there is none."""
    if holder is None:
        return STARTS
    if limit.mode == "cancel":
        return Verdict(replaces=holder)
    return Verdict(skipped=f"singleton: run {holder} is there{key.shown()}")


def replaced_reason(run_id: str) -> str:
    """Why the run that was there is cancelled."""
    return f"singleton: replaced by run {run_id}"
