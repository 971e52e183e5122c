"""Hypothesis strategies: programs, and what happens to them."""

from typing import Any

from hypothesis import strategies as st

from tests.simulation.activity import Fault
from tests.simulation.programs import Block, Fail, Flaky, Gather, Group, Loop, Op, Program, Send, Sleep, Step, Try, Wait
from tests.simulation.world import Action

IDS = st.sampled_from("abc")
NAMES = st.sampled_from(["news/0", "news/1"])
TIMES = st.sampled_from([3, 30, 3_000])

steps = st.builds(
    Step,
    id=IDS,
    failures=st.sampled_from([0, 0, 0, 1, 2]),
    end=st.sampled_from(["ok", "ok", "ok", "ok", "fatal", "never"]),
    provokes=st.sampled_from([None, None, "news/0", "news/1"]),
    threaded=st.sampled_from([False, False, False, True]),
)
sleeps = st.builds(Sleep, id=IDS, seconds=TIMES)
sends = st.builds(Send, id=IDS, name=NAMES, count=st.integers(1, 2))
waits = st.builds(
    Wait,
    # A wait's id tells what it asks for: laws read it so.
    id=st.just("w"),
    name=NAMES,
    seconds=TIMES,
    only=st.sampled_from(["own", "own", "even", "any"]),
    lookback=st.sampled_from(["step", "step", "run", "wait"]),
).map(lambda wait: Wait(f"w{wait.name[-1]}{wait.only}{wait.lookback}{wait.seconds}", *_words(wait)))
fails = st.just(Fail("own"))


def _words(wait: Wait) -> tuple[Any, ...]:
    return wait.name, wait.seconds, wait.only, wait.lookback


def _blocks(op: st.SearchStrategy[Op], most: int = 3) -> st.SearchStrategy[Block]:
    return st.lists(op, min_size=1, max_size=most).map(tuple)


def _compound(inner: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
    block = _blocks(inner)
    return st.one_of(
        st.builds(
            Try,
            body=block,
            catches=st.sampled_from(["StepError", "Exception", "BaseException", "nothing"]),
            handler=_blocks(inner, 2),
            final=_blocks(inner, 1),
        ),
        st.builds(Loop, times=st.integers(2, 3), body=block),
    )


leaves = st.one_of(steps, steps, waits, sleeps, sends)
simple = st.one_of(leaves, leaves, leaves, fails)
nested = st.one_of(leaves, leaves, leaves, _compound(st.one_of(simple, _compound(simple))))
flakies = st.builds(Flaky, times=st.integers(1, 2))


def _programs(op: st.SearchStrategy[Op], *, is_async: bool) -> st.SearchStrategy[Program]:
    return st.builds(
        Program,
        body=_blocks(op, 6),
        retries=st.integers(0, 2),
        is_async=st.just(is_async),
    )


def _groups(op: st.SearchStrategy[Op]) -> st.SearchStrategy[Op]:
    kinds = st.sampled_from(["parallel", "parallel", "race"])
    return st.builds(Group, kind=kinds, branches=st.lists(_blocks(op, 2), min_size=1, max_size=4).map(tuple))


crowded = _groups(st.one_of(leaves, _groups(st.one_of(leaves, leaves, fails))))
groups = _groups(st.one_of(nested, nested, nested, nested, _groups(leaves)))
gathers = st.builds(Gather, branches=st.lists(_blocks(nested, 3), min_size=2, max_size=3).map(tuple))
grouped = st.builds(
    Program,
    body=st.tuples(st.lists(nested, max_size=1), groups, st.lists(st.one_of(nested, groups), max_size=2)).map(
        lambda parts: (*parts[0], parts[1], *parts[2])
    ),
    retries=st.integers(0, 2),
)
programs = st.one_of(
    _programs(st.one_of(nested, nested, nested, flakies), is_async=False),
    grouped,
    _programs(st.one_of(nested, nested, gathers, flakies), is_async=True),
)

fault = st.builds(
    Fault,
    kind=st.sampled_from(["child dies", "worker dies", "outage", "outage", "stop", "stop", "stop", "yield"]),
    at=st.integers(0, 16),
)
soon = st.builds(Fault, kind=st.sampled_from(["stop", "outage", "worker dies", "child dies"]), at=st.integers(0, 3))
faults = st.one_of(st.just(()), st.just(()), st.tuples(fault), st.tuples(fault), st.tuples(fault, soon))
actions = st.builds(
    Action,
    verb=st.sampled_from(
        ["deliver"] * 10
        + ["send"] * 4
        + ["resume"] * 4
        + ["tick"] * 4
        + ["advance"] * 2
        + ["silence"] * 2
        + ["start", "double", "lose", "flush", "kill", "restart", "cancel"]
    ),
    pick=st.integers(0, 11),
    faults=faults,
)


def _act(verb: str, pick: st.SearchStrategy[int], *faults: st.SearchStrategy[Fault]) -> st.SearchStrategy[Action]:
    return st.builds(Action, verb=st.just(verb), pick=pick, faults=st.tuples(*faults))


def _row(*actions: st.SearchStrategy[Action]) -> st.SearchStrategy[list[Action]]:
    return st.tuples(*actions).map(list)


# What chance alone seldom brings about: two turns of one run at once, and what happens between two words of a worker.
ANY, FIRST, SECOND = st.integers(0, 11), st.just(0), st.just(1)
stop = st.builds(Fault, kind=st.just("stop"), at=st.integers(0, 16))
outage = st.builds(Fault, kind=st.just("outage"), at=st.integers(0, 16))
deaf = _act("silence", FIRST)
time_passes = _row(_act("advance", ANY), _act("tick", ANY), actions)
duel = _row(_act("deliver", FIRST, stop), deaf, _act("deliver", SECOND, stop), _act("resume", ANY), actions)
late_zombie = _row(_act("deliver", FIRST, stop), deaf, _act("deliver", SECOND), _act("resume", FIRST, fault))
between = _row(_act("deliver", FIRST, stop), actions, _act("resume", FIRST))
unheard = _row(_act("deliver", FIRST, outage, soon), actions, _act("resume", FIRST, fault))
slow_timer = _row(_act("advance", ANY), _act("tick", ANY, stop), actions, actions, _act("resume", FIRST))
rows = st.one_of(actions.map(lambda one: [one]), time_passes, duel, late_zombie, between, unheard, slow_timer)
plans = st.lists(rows, min_size=4, max_size=12).map(lambda rows: [action for row in rows for action in row])
worlds = st.tuples(st.lists(programs, min_size=1, max_size=2), plans)
