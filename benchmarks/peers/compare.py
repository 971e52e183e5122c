"""All peers in one run, in turn: A B C, A B C, after one round that does not count, which also finds how many units
of work fill a turn."""

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.bench import Side
from benchmarks.peers.crew import Crew, PeerFailed
from benchmarks.peers.packages import PeerMissing
from benchmarks.peers.roster import PEERS
from benchmarks.peers.servers import employed, running_servers


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
    # Milliseconds of CPU of the peer's servers and workers for a unit of work, PostgreSQL and Redis apart.
    cpu: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def side(self, kind: str, peer: str) -> Side | None:
        """The rounds of one peer at one kind of work."""
        found = self.figures.get((kind, peer))
        return Side(PEERS[peer].name, found) if found else None


@contextmanager
def crews(names: Sequence[str], findings: Findings) -> Iterator[dict[str, Crew]]:
    """Everybody who can be had, frozen until their turn; who cannot is named in the findings."""
    with ExitStack() as stack:
        servers = stack.enter_context(running_servers())
        found: dict[str, Crew] = {}
        for name in names:
            try:
                found[name] = stack.enter_context(employed(PEERS[name], servers))
            except (PeerMissing, PeerFailed) as error:
                findings.reasons[name] = str(error)
        for one in found.values():
            one.freeze()
        yield found


def compare(names: Sequence[str], kinds: Sequence[str], rounds: int, seconds: float, sleepers: int) -> Findings:
    """Everybody at every kind of work, `seconds` a turn; at last `sleepers` runs sleep at each."""
    findings = Findings()
    with crews(names, findings) as found:
        for kind in kinds:
            able = {name: one for name, one in found.items() if kind in one.kinds}
            if kind == "idle":
                put_to_sleep(able, sleepers, findings)
            else:
                take_turns(able, kind, rounds, seconds, findings)
    return findings


def progress(line: str) -> None:
    """What a long run does, for who watches it."""
    print(line, file=sys.stderr, flush=True)


def take_turns(crews: Mapping[str, Crew], kind: str, rounds: int, seconds: float, findings: Findings) -> None:
    """Rounds of one kind of work. Who fails is out, with the reason."""
    counts: dict[str, int] = {}
    for _ in range(rounds + 1):
        for name, one in crews.items():
            if name in findings.reasons:
                continue
            try:
                with one.awake():
                    # Who was frozen catches up first: heartbeats, polls, connections.
                    one.ask("one", 1)
                    before, count = one.cpu(), counts.get(name, KINDS[kind].first)
                    figure = statistics.median(one.ask(kind, count))
                    spent = one.cpu() - before
            except PeerFailed as failed:
                findings.reasons[name] = f"{kind}: {failed}"
                continue
            progress(f"{KINDS[kind].title}: {PEERS[name].name}: {figure:,.1f} {KINDS[kind].unit}")
            if name in counts:
                findings.figures.setdefault((kind, name), []).append(figure)
                findings.cpu.setdefault((kind, name), []).append(spent * 1000 / count)
            counts[name] = KINDS[kind].fill(figure, seconds)


def put_to_sleep(crews: Mapping[str, Crew], sleepers: int, findings: Findings) -> None:
    """The memory that so many sleeping runs cost the peer's servers and workers. Once: it hardly differs."""
    for name, one in crews.items():
        if name in findings.reasons:
            continue
        try:
            with one.awake():
                one.ask("idle", sleepers // 20)
                before = one.memory()
                one.ask("idle", sleepers)
                grown = one.memory() - before
        except PeerFailed as failed:
            findings.reasons[name] = f"idle: {failed}"
            continue
        findings.figures["idle", name] = [grown * 1024 / sleepers]
        progress(f"{sleepers:,} asleep: {PEERS[name].name}: {grown:,.1f} MiB")
