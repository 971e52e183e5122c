"""All peers in one run, in turn: A B C, A B C, after one round that does not count, which also finds how many units
of work fill a turn."""

import importlib.metadata
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from benchmarks.bench import Side
from benchmarks.peers import packages
from benchmarks.peers.crew import Crew, PeerFailed
from benchmarks.peers.packages import PeerMissing
from benchmarks.peers.roster import PEERS, Peer
from benchmarks.peers.servers import Servers, employed, running_servers
from tests.servers import ServerMissing


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of work, and the unit of its figure."""

    title: str
    unit: str
    # What is done in the round that does not count.
    first: int
    fewest: int
    most: int

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit == "/s"

    def fill(self, figure: float, seconds: float) -> int:
        """How many units fill the time, by the figure of a round."""
        a_second = figure if self.is_rate else 1000 / max(figure, 1.0)
        return round(min(max(a_second * seconds, self.fewest), self.most))


KINDS = {
    "one": Kind("one step", "/s", 60, 20, 3_000),
    "ten": Kind("ten steps", "/s", 20, 10, 1_000),
    "flight": Kind("ten steps, 64 in flight", "/s", 64, 64, 1_000),
    "parallel": Kind("ten parallel steps", "/s", 10, 10, 1_000),
    "start": Kind("event to start, p50", "ms", 5, 4, 60),
    "wait": Kind("event to resume, p50", "ms", 3, 3, 20),
    "sleep": Kind("lateness of a sleep, p50", "ms", 3, 20, 20),
    "idle": Kind("memory of a sleeping run", "KiB", 0, 0, 0),
}


@dataclass(slots=True)
class Findings:
    """What every peer did, and who could not and why."""

    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    # Milliseconds of CPU for a unit of work: its client, its workers, its own servers, Redis and the database server.
    cpu: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def side(self, kind: str, peer: str) -> Side | None:
        """The rounds of one peer at one kind of work."""
        found = self.figures.get((kind, peer))
        return Side(PEERS[peer].name, found) if found else None


def versions(peer: Peer) -> str:
    """What the peer is made of."""
    if peer.python:
        return packages.versions(peer.python, peer.node)
    names = ("celery",) if peer.workers else ("psycopg",)
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


class Contest:
    """Everybody who can be had, frozen until their turn; who cannot, or fails, is out, and the findings say why."""

    def __init__(self, servers: Servers, findings: Findings) -> None:
        self._servers = servers
        self._findings = findings
        self._crews: dict[str, Crew] = {}

    def hire(self, names: Sequence[str], stack: ExitStack) -> None:
        """Set everybody up, until the stack is closed."""
        for name in names:
            with self._out_when_failing(name, "start"):
                self._crews[name] = stack.enter_context(employed(PEERS[name], self._servers))
                self._findings.versions[name] = versions(PEERS[name])
        for one in self._crews.values():
            one.freeze()

    def take_turns(self, kind: str, rounds: int, seconds: float) -> None:
        """Rounds of one kind of work, each turn so long; the first does not count."""
        counts: dict[str, int] = {}
        for _ in range(rounds + 1):
            for name, one in self._able(kind):
                with self._out_when_failing(name, kind), one.awake():
                    # Who was frozen catches up first: heartbeats, polls, connections.
                    one.ask("one", 1)
                    before, count = self._cpu(one), counts.get(name, KINDS[kind].first)
                    figure = statistics.median(one.ask(kind, count))
                    spent = (self._cpu(one) - before) * 1000 / count
                    progress(f"{KINDS[kind].title}: {PEERS[name].name}: {figure:,.1f} {KINDS[kind].unit}")
                    if name in counts:
                        self._findings.figures.setdefault((kind, name), []).append(figure)
                        self._findings.cpu.setdefault((kind, name), []).append(spent)
                    counts[name] = KINDS[kind].fill(figure, seconds)

    def put_to_sleep(self, sleepers: int) -> None:
        """The memory that so many sleeping runs cost a peer's servers and workers. Once: it hardly differs."""
        for name, one in self._able("idle"):
            with self._out_when_failing(name, "idle"), one.awake():
                one.ask("idle", sleepers // 20)
                before = one.memory()
                one.ask("idle", sleepers)
                grown = one.memory() - before
                self._findings.figures["idle", name] = [grown * 1024 / sleepers]
                progress(f"{sleepers:,} asleep: {PEERS[name].name}: {grown:,.1f} MiB more")

    def _able(self, kind: str) -> list[tuple[str, Crew]]:
        out = self._findings.reasons
        return [(name, one) for name, one in self._crews.items() if kind in one.kinds and name not in out]

    def _cpu(self, one: Crew) -> float:
        return one.cpu() + self._servers.cpu()

    @contextmanager
    def _out_when_failing(self, name: str, at: str) -> Iterator[None]:
        try:
            yield
        except (PeerMissing, PeerFailed, ServerMissing) as error:
            self._findings.reasons[name] = f"{at}: {error}"


def compare(names: Sequence[str], kinds: Sequence[str], rounds: int, seconds: float, sleepers: int) -> Findings:
    """Everybody at every kind of work; at last `sleepers` runs sleep at each. When stopped, what was found so far."""
    findings = Findings()
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        contest = Contest(stack.enter_context(running_servers()), findings)
        contest.hire(names, stack)
        for kind in kinds:
            if kind == "idle":
                contest.put_to_sleep(sleepers)
            else:
                contest.take_turns(kind, rounds, seconds)
    return findings


def progress(line: str) -> None:
    """What a long run does, for who watches it."""
    print(line, file=sys.stderr, flush=True)
