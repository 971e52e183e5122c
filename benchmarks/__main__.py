"""All benchmarks, one after the other: `python -m benchmarks [sqlite|postgresql]`."""

import sys

from benchmarks import event_api, limits, parallel, plain_tasks, sleepers, step_cost, steps

MODULES = (step_cost, steps, parallel, sleepers, limits, plain_tasks, event_api)

if __name__ == "__main__":
    kinds = sys.argv[1:] or ["sqlite", "postgresql"]
    raise SystemExit(max(module.main(kinds) for module in MODULES))
