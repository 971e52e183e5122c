"""What every benchmark stands on: servers, a worker process, medians, and the load beside each figure."""

import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from celery.exceptions import DuplicateTaskNameWarning

from benchmarks.table import Bound, Row
from celeryflows.store.database import Store
from celeryflows.store.upgrade import upgrade
from tests.servers import running_postgres, running_redis
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def store_of(kind: str) -> Iterator[str]:
    """The URL of an empty store: "sqlite" in a file (WAL, NORMAL), "postgresql" with fsync on."""
    with ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url = f"sqlite:///{folder}/store.db"
        else:
            server = stack.enter_context(running_postgres())
            url = server.url(server.create_database())
        store = Store(url)
        upgrade(store)
        store.dispose()
        yield url


@contextmanager
def bench_app(store_url: str, *worker_options: str) -> Iterator[ModuleType]:
    """The benchmark's app in this process, and a worker of it: `celery -A benchmarks.app worker` with the options."""
    with running_redis() as server:
        os.environ |= {"BENCH_BROKER": server.url(0), "BENCH_STORE": store_url}
        sys.modules.pop("benchmarks.app", None)
        with warnings.catch_warnings():
            # The app is made anew for each store, under its own names.
            warnings.simplefilter("ignore", DuplicateTaskNameWarning)
            module = importlib.import_module("benchmarks.app")
            module.app.finalize()
        with worker(*worker_options):
            yield module
        module.flows.runtime.store.dispose()


@contextmanager
def worker(*options: str, of: str = "benchmarks.app", beside: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process of the module's app, ready to work `beside` so many others; ended with the block."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"]
    command = [sys.executable, "-m", "celery", "-A", of, "worker", *quiet, *options]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        try:
            module = sys.modules[of]
            eventually(lambda: len(module.app.control.ping(timeout=0.5)) > beside, within=60)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: figures of its rounds."""

    name: str
    figures: Sequence[float]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.figures)

    def __str__(self) -> str:
        return f"{self.name}: {self.median:,.1f} (min {min(self.figures):,.1f}, max {max(self.figures):,.1f})"


def interleaved(rounds: int, **sides: Callable[[], float]) -> dict[str, Side]:
    """Run the sides in turn, A B A B, after one round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            figure = side()
            if number:
                found[name].append(figure)
    return {name: Side(name.replace("_", " "), figures) for name, figures in found.items()}


def ratio(ours: Side, theirs: Side) -> float:
    """The median of the ratios, round by round, as far as both came."""
    return statistics.median(a / b for a, b in zip(ours.figures, theirs.figures, strict=False))


def rate(count: int, start: Callable[[], None], done: Callable[[], bool]) -> float:
    """How many a second, from the first send to the last end."""
    began = time.perf_counter()
    start()
    eventually(done, within=180, every=0.005)
    return count / (time.perf_counter() - began)


def show(title: str, ours: Side, theirs: Side, wanted: float, unit: str, *, at_most: bool = False) -> Row:
    """Print one comparison, and give its row of the table."""
    row = compared(title, ours, theirs, Bound(wanted, at_most), unit)
    print(f"{title}\n  {ours} {unit}\n  {theirs} {unit}")
    print(f"  ratio {row.ratio:.2f}, wanted {row.bound}: {verdict(met=row.met)}")
    return row


def compared(title: str, ours: Side, theirs: Side, bound: Bound | None, unit: str) -> Row:
    """Ours beside theirs as a row of the table."""
    return Row(
        title,
        f"{figure(ours.median)} {unit}",
        f"{theirs.name}: {figure(theirs.median)} {unit}",
        ratio(ours, theirs),
        bound,
    )


def reached(title: str, ours: Side, bound: Bound, unit: str) -> Row:
    """A figure that is wanted by itself, beside nobody's."""
    return Row(title, f"{figure(ours.median)} {unit}", "", ours.median, bound)


def figure(value: float) -> str:
    """With as many digits as tell something."""
    if value < 1:
        return f"{value:.3f}"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def finish(rows: Iterable[Row]) -> int:
    """The exit code of a benchmark: 1 when something that is wanted was not met."""
    return 0 if all(row.met for row in rows) else 1


def verdict(*, met: bool) -> str:
    """How a wanted bound stands."""
    return "met" if met else "NOT MET"


def load() -> str:
    """What else the machine does."""
    one, five, _ = os.getloadavg()
    return f"load {one:.1f} (1 min), {five:.1f} (5 min) on {os.cpu_count()} cores"
