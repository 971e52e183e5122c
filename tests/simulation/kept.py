"""Messages that wait for what their delivery takes on itself, and are sent when that takes its time."""

from collections.abc import Sequence
from typing import Protocol

from celeryflows.engine.runtime import LetGo
from celeryflows.model.runs import Delivery


class Host(Protocol):
    """The process that sends."""

    def now(self) -> int: ...
    def send_runs(self, deliveries: Sequence[Delivery]) -> None: ...


class Kept:
    """Messages that wait for what their sender may do in passing; sent when that takes too long."""

    def __init__(self, process: Host, let_go: LetGo, patience: int) -> None:
        self._process = process
        self._let_go = let_go
        self._patience = patience
        self._waiting: dict[str, Delivery] = {}
        self._is_over = True
        self._until = 0

    @property
    def is_due(self) -> bool:
        """They have waited for long enough."""
        return not self._is_over and self._process.now() >= self._until

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """They wait."""
        self._waiting |= {delivery.branch or delivery.run_id: delivery for delivery in deliveries}
        self._is_over = False
        self._until = self._process.now() + self._patience

    def begin(self, path: str) -> bool:
        """It is done in passing."""
        self._until = self._process.now() + self._patience
        return self._waiting.pop(path, None) is not None

    def take(self) -> list[Delivery]:
        """What is left, which nobody does in passing any more."""
        left, self._waiting, self._is_over = list(self._waiting.values()), {}, True
        self._let_go(left)
        return left

    def release(self) -> None:
        """Send what is left."""
        self._process.send_runs(self.take())
