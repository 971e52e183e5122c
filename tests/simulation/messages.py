"""What one message brings: a turn of a run, of a branch, or those of several runs that have nothing of their own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celeryflows.model.runs import Delivery

MOST = 5


@dataclass(frozen=True)
class Bundle:
    """Runs of one flow in one message; `redelivered`: an earlier try was left."""

    id: str
    runs: tuple[Delivery, ...]
    redelivered: bool = False

    @property
    def comes_back(self) -> bool:
        """Every other one is redelivered when its child dies."""
        return int(self.id) % 2 == 0


Message = Delivery | Bundle


def packed(
    deliveries: Sequence[Delivery], may_share: Callable[[str], bool], pack: Callable[[Sequence[Delivery]], Bundle]
) -> list[Message]:
    """What is sent by one message each: nothing with others but runs of a flow that have nothing of their own."""
    flows: dict[str, list[Delivery]] = {}
    messages: list[Message] = []
    for one in deliveries:
        if one.message or one.branch or one.alone or not may_share(one.flow):
            messages.append(one)
        else:
            flows.setdefault(one.flow, []).append(one)
    for runs in flows.values():
        for first in range(0, len(runs), MOST):
            some = runs[first : first + MOST]
            messages.append(pack(some) if len(some) > 1 else some[0])
    return messages
