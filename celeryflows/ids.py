"""Ids: 26 characters of Crockford's base32, ordered by time (ULID), or derived from what they name.

Ordered ids cost less WAL and smaller indexes than random ones."""

import os
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b, sha256
from itertools import count

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# The time and 15 bits of chance: what follows has room for all siblings of an id.
SHARED = 13
_TIME_LETTERS = 10

_PAIRS = tuple(first + second for first in ALPHABET for second in ALPHABET)
_RANDOM_BITS = 80
_NOISE = 10
_TIME_BITS = 48
_LOW_40 = (1 << 40) - 1


class _Ulids:
    """The source of `new_id`: the next id is a fresh one, or the last one plus one within the same millisecond."""

    def __init__(self, last: int = 0) -> None:
        self._lock = threading.Lock()
        self._last = last
        self._chance = b""

    def next(self) -> int:
        with self._lock:
            ms = time.time_ns() // 1_000_000
            # A clock that was set back counts on from the last id.
            self._last = self._last + 1 if ms <= self._last >> _RANDOM_BITS else _first(ms, self._noise())
            return self._last

    def _noise(self) -> bytes:
        # Asked for now and then: asking lets other threads run, who would come to wait for the lock.
        noise, self._chance = self._chance[:_NOISE], self._chance[_NOISE:]
        if not noise:
            noise, self._chance = os.urandom(_NOISE), os.urandom(64 * _NOISE)
        return noise

    def after_fork(self) -> None:
        """In the child: a new lock (the old may be held for ever), and one millisecond on with fresh randomness."""
        self.__init__(_first((self._last >> _RANDOM_BITS) + 1, os.urandom(_NOISE)))  # type: ignore[misc]


def _first(ms: int, noise: bytes) -> int:
    # The top bit of the random part stays 0, so that counting up never spills into the time.
    return ms << _RANDOM_BITS | int.from_bytes(noise[:_NOISE], "big") >> 1


def _text(number: int) -> str:
    return _head(number >> 40) + _tail(number & _LOW_40)


@lru_cache(maxsize=64)
def _head(number: int) -> str:
    # 18 letters that ids of one millisecond share: kept, they make a burst of ids three times as fast.
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(80, -1, -10)])


def _tail(low: int) -> str:
    return _PAIRS[low >> 30] + _PAIRS[low >> 20 & 1023] + _PAIRS[low >> 10 & 1023] + _PAIRS[low & 1023]


_ulids = _Ulids()
os.register_at_fork(after_in_child=_ulids.after_fork)


def new_id() -> str:
    """A new id, greater than all ids that this process made before."""
    return _text(_ulids.next())


def derived_id(*parts: str) -> str:
    """The id that these parts always give, in this and every other process."""
    digest = sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return _text(int.from_bytes(digest.digest()[:16], "big"))


def sibling_id(id: str, *parts: str) -> str:
    """The id that these parts always give beside this one: it begins with `shared_by_siblings`."""
    return shared_by_siblings(id) + derived_id("sibling", id, *parts)[SHARED:]


def shared_by_siblings(id: str) -> str:
    """How the siblings of an id begin, and those of ids made by one process within the same millisecond; no new id
    does, whose random part begins with a 0."""
    return f"{id[:_TIME_LETTERS]}{ALPHABET[ALPHABET.index(id[_TIME_LETTERS]) | 16]}{id[_TIME_LETTERS + 1 : SHARED]}"


def seeded_ids(ms: int, seed: bytes) -> Iterator[str]:
    """Rising ids at one millisecond, the same for the same seed. Raises ValueError for a time that no id can hold."""
    if not 0 <= ms < 1 << _TIME_BITS:
        raise ValueError(f"ms must be epoch milliseconds from 0 to 2**{_TIME_BITS} - 1, got {ms}")
    return map(_text, count(_first(ms, sha256(seed).digest())))


def hash64(text: str) -> int:
    """A signed 64-bit hash, the same in every process (for advisory locks and hashed indexes)."""
    encoded = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "big", signed=True)
