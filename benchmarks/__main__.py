"""All benchmarks and one table at the end: `python -m benchmarks [--quick] [sqlite|postgresql]`.

`--quick` takes one short round beside the peers, for every figure, and leaves the longer ones out."""

import sys

from benchmarks import event_api, limits, plain_tasks, sleepers, step_cost
from benchmarks.bench import finish, load
from benchmarks.peers import __main__ as peers
from benchmarks.table import table

LONGER = (sleepers, limits, plain_tasks, event_api)


def main(words: list[str]) -> int:
    """Print the table; 1 when something that is wanted was not met."""
    quick = "--quick" in words
    kinds = [word for word in words if word != "--quick"] or ["sqlite", "postgresql"]
    rows = peers.measure(["--quick"] if quick else [])
    rows += step_cost.measure(kinds, rounds=1 if quick else step_cost.ROUNDS)
    for module in () if quick else LONGER:
        rows += module.measure(kinds)
    print(f"\n{table(rows)}\n\n{load()}")
    return finish(rows)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
