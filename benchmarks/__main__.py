"""All benchmarks, one after the other: `python -m benchmarks [sqlite|postgresql]`."""

import sys

from benchmarks import limits, parallel, plain_tasks, sleepers, step_cost, steps

if __name__ == "__main__":
    kinds = sys.argv[1:] or ["sqlite", "postgresql"]
    raise SystemExit(max(module.main(kinds) for module in (step_cost, steps, parallel, sleepers, limits, plain_tasks)))
