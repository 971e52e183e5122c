"""celeryflows beside its peers in one run: `python -m benchmarks.peers [--quick] [--only peer,...] [kind ...]`.

Kinds: one ten flight parallel start wait sleep idle. Peers are installed into an environment of their own."""

import argparse
import signal
import sys

from benchmarks.bench import finish, load
from benchmarks.peers.compare import KINDS, compare
from benchmarks.peers.report import details, rows
from benchmarks.peers.roster import PEERS
from benchmarks.table import Row, columns, markdown, table

# Each peer once, by its quicker setting.
FEW = ("celery", "postgresql", "sqlite", "bare", "bare-sqlite", "dbos-quick", "dbos-sqlite", "absurd-quick", "restate")


def measure(words: list[str]) -> list[Row]:
    """Print every figure and the table, and give its rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(KINDS)}; all when none is named")
    parser.add_argument("--only", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--quick", action="store_true", help=f"one short round of {', '.join(FEW)}")
    parser.add_argument("--markdown", action="store_true", help="tables as docs/benchmarks.md has them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a turn takes, about")
    parser.add_argument("--sleepers", type=int, default=10_000)
    chosen = parser.parse_args(words)
    if chosen.quick:
        chosen.rounds, chosen.seconds, chosen.sleepers = 1, 0.3, 200
    names = chosen.only.split(",") if chosen.only else list(FEW if chosen.quick else PEERS)
    # Ended by others, it prints what it has found so far as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    before = load()
    findings = compare(names, chosen.kinds or list(KINDS), chosen.rounds, chosen.seconds, chosen.sleepers)
    found = rows(findings)
    shown = markdown if chosen.markdown else columns
    print(f"{details(findings, names, shown)}\n\n{table(found, shown)}\n")
    print(f"{before} before, {load()} after; medians of {chosen.rounds} interleaved rounds")
    return found


if __name__ == "__main__":
    raise SystemExit(finish(measure(sys.argv[1:])))
