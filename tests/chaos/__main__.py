"""`./dev chaos`: the long form. Every fault alone, then mixed ones, on every store; the report at the end."""

import argparse
import os
import random
import sys
from pathlib import Path

from tests.chaos.faults import known
from tests.chaos.findings import table
from tests.chaos.places import PLACES
from tests.chaos.storm import MIXED, NONE, Forecast, say, storm


def main() -> int:
    """The exit code is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--store", action="append", choices=sorted(PLACES), help="this store; may be repeated")
    parser.add_argument("--fault", action="append", help="this fault; may be repeated: part of a name, none or mixed")
    parser.add_argument("--rounds", type=int, default=1, help="of each fault")
    parser.add_argument("--mixed", type=int, default=4, help="rounds of mixed faults, when no fault is named")
    parser.add_argument("--portions", type=int, default=6, help="of the load in a round, at least")
    parser.add_argument("--report", type=Path, help="the file that the report goes to")
    options = parser.parse_args()
    seed = int(os.environ.get("FLOWS_SEED") or random.SystemRandom().randrange(10**6))
    say(f"FLOWS_SEED={seed}")
    names = [NONE, *known, *[MIXED] * options.mixed]
    if options.fault:
        names = [name for word in options.fault for name in dict.fromkeys([NONE, *known, MIXED]) if word in name]
    played = storm(options.store or sorted(PLACES), names, Forecast(seed, options.rounds, options.portions), say)
    if options.report:
        head = f"FLOWS_SEED={seed}, {options.portions + 1} portions a round at least"
        options.report.write_text(f"{head}\n\n{table(played)}\n")
    return int(any(one.findings.all for one in played))


if __name__ == "__main__":
    sys.exit(main())
