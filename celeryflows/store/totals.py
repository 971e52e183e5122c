"""Totals that only grow, by flow and name: what monitors ask for, whoever serves them."""

from collections.abc import Mapping

from celeryflows.store.executor import Verbs

LOST = "lost"


class Totals(Verbs):
    """The verbs of totals."""

    def add(self, flow: str, more: Mapping[str, int]) -> None:
        """So many more; the last rows that a transaction takes."""
        for name, n in sorted(more.items()):
            if n > 0:
                self._execute(
                    "INSERT INTO flows_totals (flow, name, n) VALUES (:flow, :name, :n) "
                    "ON CONFLICT (flow, name) DO UPDATE SET n = flows_totals.n + excluded.n",
                    flow=flow,
                    name=name,
                    n=n,
                )

    def all(self) -> dict[str, dict[str, int]]:
        """Every total, by flow and name; '' is what belongs to no flow."""
        found: dict[str, dict[str, int]] = {}
        for flow, name, n in self._execute("SELECT flow, name, n FROM flows_totals ORDER BY flow, name"):
            found.setdefault(flow, {})[name] = int(n)
        return found
