"""Bundles without a worker: several runs of one delivery, whose messages wait in the world's list."""

from collections.abc import Callable, Sequence
from functools import partial

from celeryflows.engine.bundled_runs import BundledRuns
from celeryflows.engine.runtime import Runtime
from celeryflows.engine.turn import TurnEnd, take_turn
from celeryflows.model.runs import Delivery
from celeryflows.scheduler.inline import InlineDispatcher, Kept

CARRIER = "bundle:1"


def bundle_of(runtime: Runtime, runs: Sequence[str]) -> BundledRuns:
    """Runs of the process's only flow, that came by one message."""
    (flow,) = runtime.flows
    dispatcher = runtime.dispatcher
    assert isinstance(dispatcher, InlineDispatcher)
    return BundledRuns(runtime, CARRIER, [Delivery(run, flow) for run in runs], partial(Kept, dispatcher))


def take_bundle(
    runtime: Runtime, runs: Sequence[str], after: Callable[[BundledRuns, str], object] = lambda *_: None
) -> list[TurnEnd]:
    """Take one after the other, as a worker does; `after` is what each run's task does behind its turn."""
    bundled, ends = bundle_of(runtime, runs), []
    try:
        for run in runs:
            if not bundled.begin():
                break
            ends.append(take_turn(runtime, run, bundled=bundled))
            after(bundled, run)
    finally:
        bundled.release()
    return ends
