"""How the engine's speed stands against what its store holds: `python -m benchmarks.scale [AXIS ...] [sqlite] [SIZE]`.

An engine without broker acts on a store of each size in turn; SIZE is the most of each axis. Where it bends, the
statements that take longer are shown with their plans."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles

from benchmarks import scaling
from benchmarks.bench import load, verdict
from benchmarks.scaling import Desk, desk_of
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.servers import running_postgres, temporary_folder
from tests.store.plans import plan

ROUNDS, ASKED, WANTED = 5, 40, 0.9
SHOWN = 3
Act = Callable[[Desk], None]


@dataclass(frozen=True, slots=True)
class Axis:
    """Something that grows. `fill` makes it; the `acts` are timed, `before` each of them something is made ready.

    `each`: an act is as long as the size, so that its share of each is compared. `declares`: what is declared of it,
    "listeners" of one event or "others". `bends`: it is meant to cost more, so nothing is wanted.
    """

    name: str
    sizes: Sequence[int]
    acts: Mapping[str, Act]
    fill: Act | None = None
    before: Act | None = None
    each: bool = False
    declares: str = ""
    bends: bool = False
    asked: int = ASKED


AXES = (
    Axis(
        "runs kept",
        (1_000, 100_000, 1_000_000, 10_000_000),
        {
            "one step": scaling.one_step,
            "wait and answer": scaling.wait_and_answer,
            "sleep and wake": scaling.sleep_and_wake,
        },
        fill=scaling.keep,
    ),
    Axis(
        "waiters of one name",
        (10, 1_000, 100_000),
        {"event for nobody": scaling.unanswered, "wait and answer": scaling.wait_and_answer},
        fill=scaling.let_wait,
    ),
    Axis(
        "sleepers",
        (10, 1_000, 100_000),
        {"sleep and wake": scaling.sleep_and_wake, "one step": scaling.one_step},
        fill=scaling.let_sleep,
    ),
    Axis("keys of a limit", (10, 1_000, 100_000), {"one step": scaling.keyed}, fill=scaling.know_keys),
    Axis("ids of senders", (10, 1_000, 100_000), {"one step": scaling.with_id}, fill=scaling.know_ids),
    Axis(
        "flows declared",
        (10, 100, 1_000),
        {"one step": scaling.one_step},
        declares="others",
    ),
    Axis(
        "flows that a worker looks after",
        (10, 100, 1_000),
        {"each flow": scaling.registered},
        each=True,
        declares="others",
    ),
    Axis(
        "flows that one event starts",
        (10, 100, 1_000, 10_000),
        {"each run": scaling.started_by_one},
        each=True,
        declares="listeners",
        asked=2,
    ),
    Axis(
        "waits that one event answers",
        (10, 100, 1_000, 10_000),
        {"each wait": scaling.answered_by_one},
        before=scaling.before_answer,
        each=True,
        asked=2,
    ),
    Axis(
        "bytes of event and step",
        (1_000, 10_000, 100_000, 1_000_000),
        {"one step": scaling.carried},
        fill=scaling.hold_text,
        bends=True,
    ),
)


@dataclass
class Times:
    """What an act took on one desk, in microseconds: each time, and the median of each round."""

    each: list[float] = field(default_factory=list)
    rounds: list[float] = field(default_factory=list)


def asked(axis: Axis, act: Act, desk: Desk, times: Times) -> None:
    """One round of an act on a desk."""
    found = []
    for _ in range(axis.asked):
        if axis.before is not None:
            axis.before(desk)
        began = time.perf_counter()
        act(desk)
        found.append((time.perf_counter() - began) * 1e6 / (desk.size if axis.each else 1))
    times.each += found
    times.rounds.append(median(found))


def measured(axis: Axis, desks: Sequence[Desk]) -> bool:
    """All acts of an axis over desks of all sizes, in turn; True when none bends."""
    met = True
    for name, act in axis.acts.items():
        times = [Times() for _ in desks]
        for number in range(ROUNDS + 1):
            for desk, found in zip(desks, times, strict=True):
                asked(axis, act, desk, found if number else Times())
        ratios = [median(a / b for a, b in zip(times[0].rounds, one.rounds, strict=True)) for one in times]
        print(f"  {name}")
        for desk, found, ratio in zip(desks, times, ratios, strict=True):
            p99 = quantiles(found.each, n=100)[98]
            print(f"    {desk.size:>12,}{median(found.each):>12,.0f} us (p99 {p99:,.0f}){ratio:>8.2f} of the speed")
        fine = axis.bends or min(ratios) >= WANTED
        met &= fine
        if not axis.bends:
            print(f"    wanted at least {WANTED}: {verdict(met=fine)}")
        if not fine:
            explain(axis, act, desks[0], desks[-1])
    return met


def explain(axis: Axis, act: Act, small: Desk, big: Desk) -> None:
    """Which statements take longer on the big store, with their plans."""
    few, many = statements(axis, act, small), statements(axis, act, big)
    longer = sorted(many, key=lambda sql: many[sql] - few.get(sql, 0.0), reverse=True)
    for sql in longer[:SHOWN]:
        print(f"    {few.get(sql, 0.0):,.0f} -> {many[sql]:,.0f} us  {' '.join(sql.split())[:150]}")
        for line in plan(big.store, sql, big.store.seen[sql]) if sql in big.store.seen else ():
            print(f"        {line}")


def statements(axis: Axis, act: Act, desk: Desk) -> dict[str, float]:
    """Microseconds by statement that an act takes from each to the next, the median of some acts."""
    found: dict[str, list[float]] = {}
    for _ in range(axis.asked):
        if axis.before is not None:
            axis.before(desk)
        marks: list[tuple[str, float]] = []
        desk.store.observer = lambda sql, marks=marks: marks.append((sql, time.perf_counter()))  # type: ignore[misc]
        act(desk)
        desk.store.observer = None
        marks.append(("", time.perf_counter()))
        once: dict[str, float] = {}
        for (sql, at), (_, until) in itertools.pairwise(marks):
            once[sql] = once.get(sql, 0.0) + (until - at) * 1e6 / (desk.size if axis.each else 1)
        for sql, took in once.items():
            found.setdefault(sql, []).append(took)
    return {sql: median(took) for sql, took in found.items()}


@contextmanager
def stores(kind: str, count: int) -> Iterator[list[str]]:
    """The URLs of so many empty stores."""
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(temporary_folder("scale"))
            urls = [f"sqlite:///{folder}/store{n}.db" for n in range(count)]
        else:
            server = stack.enter_context(running_postgres(max_wal_size="4GB"))
            urls = [server.url(server.create_database()) for _ in range(count)]
        for url in urls:
            store = Store(url)
            upgrade(store)
            store.dispose()
        yield urls


def compare(axis: Axis, urls: Mapping[int, str]) -> bool:
    """One axis over stores that are there, by their sizes; those of an axis that is kept are filled already."""
    with ExitStack() as stack:
        desks = []
        for size, url in urls.items():
            declares = {axis.declares: size} if axis.declares else {}
            desk = stack.enter_context(desk_of(url, size, **declares))
            desks.append(desk)
            if axis.fill is not None and not is_filled(desk):
                axis.fill(desk)
        kind = desks[0].store.dialect.name
        print(f"== {axis.name}, {kind}, {load()}", flush=True)
        return measured(axis, desks)


def is_filled(desk: Desk) -> bool:
    """True of a store that another run of this benchmark has filled."""
    with desk.store.connection() as connection:
        return bool(connection.execute("SELECT 1 FROM flows_runs LIMIT 1"))


def main(words: list[str]) -> int:
    """Print each axis; 1 when one bends that should not."""
    most = next((int(word) for word in words if word.isdigit()), 1_000_000)
    kinds = [word for word in words if word in ("sqlite", "postgresql")] or ["sqlite", "postgresql"]
    chosen = [axis for axis in AXES if any(word in axis.name for word in words)] or list(AXES)
    met = True
    for kind in kinds:
        for axis in chosen:
            sizes = [size for size in axis.sizes if size <= most]
            with stores(kind, len(sizes)) as urls:
                met &= compare(axis, dict(zip(sizes, urls, strict=True)))
    print(load())
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
