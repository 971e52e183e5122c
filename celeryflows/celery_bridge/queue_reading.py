"""Whether a queue in Redis holds the message of a task, or one that answers it: other brokers only count them."""

import re
import time
from typing import Any

# A longer queue is only counted, and asked again after a rest.
MOST, CHUNK = 20_000, 500
REST = 20.0

# Of its headers alone: the body is in base64, and quotes within a text are escaped.
NAMED = re.compile(rb'"(?:id|parent_id)": ?"([^"\\]+)"')


class QueueReader:
    """Keeps which tasks the messages of a queue name, and when it was read."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[float, frozenset[bytes] | None]] = {}

    def holds(self, channel: Any, queue: str, task_id: str, since: float) -> bool | None:
        """True when a message there is the task's or its callback's, by a reading not older than `since` (of the
        monotonic clock); None when nobody can tell."""
        read_at, named = self._read.get(queue, (float("-inf"), frozenset()))
        if read_at < (since if named is not None else time.monotonic() - REST):
            read_at, named = time.monotonic(), _named(channel, queue)
            self._read[queue] = read_at, named
        return None if named is None else task_id.encode() in named


def _named(channel: Any, queue: str) -> frozenset[bytes] | None:
    """From the newest on: what is taken or added meanwhile hides no message. None: too many, or one names no task."""
    client: Any = getattr(channel, "client", None)
    steps = getattr(channel, "priority_steps", None)
    if not hasattr(client, "lrange") or steps is None:
        return None
    found, count = set[bytes](), 0
    for step in steps:
        key, start = f"{channel.global_keyprefix or ''}{channel._q_for_pri(queue, step)}", 0
        while messages := client.lrange(key, start, start + CHUNK - 1):
            named = [NAMED.findall(message) for message in messages]
            start, count = start + CHUNK, count + len(messages)
            if count > MOST or not all(named):
                return None
            found.update(*named)
    return frozenset(found)
