"""celeryflows beside its peers in one run: `python -m benchmarks.peers [--quick] [--only peer,...] [kind ...]`.

Kinds: one ten flight parallel start wait sleep idle. Peers are installed into an environment of their own."""

import argparse

from benchmarks.bench import load
from benchmarks.peers.compare import KINDS, compare
from benchmarks.peers.report import details, rows
from benchmarks.peers.roster import PEERS
from benchmarks.table import table


def main(words: list[str] | None = None) -> int:
    """Print the table; 1 when something wanted was not met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(KINDS)}; all when none is named")
    parser.add_argument("--only", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a turn takes, about")
    parser.add_argument("--sleepers", type=int, default=10_000)
    chosen = parser.parse_args(words)
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.sleepers = 1, 0.3, 200
    names = chosen.only.split(",")
    before = load()
    findings = compare(names, chosen.kinds or list(KINDS), chosen.rounds, chosen.seconds, chosen.sleepers)
    print(details(findings, names))
    compared = rows(findings)
    print(f"\n{table(compared)}\n\n{before} before, {load()} after; medians of {chosen.rounds} interleaved rounds")
    return 0 if all(row.met for row in compared) else 1


if __name__ == "__main__":
    raise SystemExit(main())
