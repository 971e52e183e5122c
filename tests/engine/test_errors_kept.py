"""Errors of every kind are kept and travel; what is no Exception is left to recovery."""

import json
import pickle

import pytest

from celeryflows import RunFailed, Status, StepError


class CardDeclined(Exception):
    pass


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def charge(amount):
    raise CardDeclined(f"no {amount} on the card")


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (Mute(), "Mute", "<Mute whose text cannot be made: RuntimeError>"),
        (CardDeclined("nul \0 and \ud800"), "CardDeclined", "nul \\0 and ?"),
        (CardDeclined("x" * 70_000), "CardDeclined", "x" * 64_000 + " ... (cut)"),
        (KeyError("id"), "KeyError", "'id'"),
        (CardDeclined(), "CardDeclined", ""),
    ],
    ids=["mute", "dirty", "long", "key", "empty"],
)
def test_errors_of_every_kind_can_be_kept(flows, flows_tester, error, name, message):
    flows_tester.stub("charge", error)

    @flows.flow(retries=0)
    def flow(ctx):
        ctx.step.run("charge", charge, 100)

    run = flows_tester.start(flow)

    assert (run.error.name, run.error.message) == (name, message)
    json.dumps(run.error.json())


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("where", ["step", "body"])
def test_what_is_no_exception_leaves_the_run_to_recovery(flows, flows_tester, error, where):
    def leave():
        raise error

    @flows.flow
    def flow(ctx):
        if where == "body":
            leave()
        ctx.step.run("leave", leave)

    with pytest.raises(type(error)):
        flows_tester.start(flow)

    (run,) = flows_tester.runs()
    assert run.status == Status.RUNNING
    assert run.steps == []


def test_errors_travel_between_processes(flows):
    for error in (StepError("s", "Boom", "no", "stack"), RunFailed("r", "Boom", "no", "stack", "s")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))
