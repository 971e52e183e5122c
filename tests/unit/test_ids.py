"""Ids: ordered, unique, the same alphabet everywhere."""

import os
import threading
import time
from itertools import islice, pairwise

import pytest

from celeryflows import ids
from celeryflows.ids import ALPHABET, SHARED, derived_id, hash64, new_id, seeded_ids, shared_by_siblings, sibling_id


def decoded(text: str) -> int:
    number = 0
    for letter in text:
        number = number * 32 + ALPHABET.index(letter)
    return number


def test_an_id_has_26_characters_of_crockfords_alphabet() -> None:
    made = new_id()
    assert len(made) == 26
    assert set(made) <= set(ALPHABET)
    assert not set("ILOU") & set(ALPHABET)


def test_an_id_begins_with_its_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = decoded(new_id()) >> 80
    assert before <= made <= time.time_ns() // 1_000_000 + 1


def test_siblings_begin_as_their_id_and_as_no_id_of_a_clock() -> None:
    one = new_id()
    first, second = sibling_id(one, "a"), sibling_id(one, "b")

    assert len({first, second, sibling_id(one, "a"), one}) == 3
    assert {first[:SHARED], second[:SHARED]} == {shared_by_siblings(one)}
    assert (len(first), first[:10]) == (26, one[:10])
    assert decoded(first) >> 79 & 1 == 1
    assert {decoded(id) >> 79 & 1 for id in (one, next(seeded_ids(1, b"seed")))} == {0}


def test_ids_rise_strictly_within_a_process() -> None:
    made = [new_id() for _ in range(20_000)]
    assert all(one < next_one for one, next_one in pairwise(made))


def test_ids_rise_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    first, second = new_id(), new_id()
    assert before < first < second


def test_counting_up_never_spills_into_the_time() -> None:
    assert ids._first(5, b"\xff" * 10) + 10**6 >> 80 == 5


def test_ids_of_many_threads_never_meet() -> None:
    made: list[list[str]] = []
    threads = [threading.Thread(target=lambda: made.append([new_id() for _ in range(3_000)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(part == sorted(part) for part in made)
    assert len({one for part in made for one in part}) == 24_000


# Newer Pythons warn of forks beside threads, such as those of pytest-xdist.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_shares_no_id_with_its_parent_and_goes_on_rising(monkeypatch: pytest.MonkeyPatch) -> None:
    # With the clock stopped both would count on from the same id.
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    before = new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, " ".join(new_id() for _ in range(100)).encode())
        os._exit(0)
    ours = [new_id() for _ in range(100)]
    os.close(writer)
    with os.fdopen(reader) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)
    assert len(theirs) == 100
    assert not set(ours) & set(theirs)
    assert before < theirs[0]
    assert abs(decoded(theirs[0]) % 2**80 - decoded(ours[0]) % 2**80) > 1_000


def test_a_fork_while_another_thread_makes_an_id_does_not_hang_the_child() -> None:
    source = ids._Ulids()
    source._lock.acquire()
    source.after_fork()
    assert source.next() > 0


def test_derived_ids_are_the_same_for_the_same_parts() -> None:
    assert derived_id("run", "1", "step") == derived_id("run", "1", "step")
    assert derived_id("a", "b") == "1WKNCH0HDWH1VFKM1SKEZV0Q3A"


@pytest.mark.parametrize("other", [("ab", "c"), ("abc",), ("a", "bc", ""), ("bc", "a"), ()])
def test_derived_ids_keep_the_borders_between_parts(other: tuple[str, ...]) -> None:
    assert derived_id("a", "bc") != derived_id(*other)


def test_a_derived_id_looks_like_any_other() -> None:
    made = derived_id("ünï", "\ud800")
    assert len(made) == 26
    assert set(made) <= set(ALPHABET)
    assert made[0] in "01234567"


def test_seeded_ids_repeat_for_the_same_seed_and_rise() -> None:
    first = list(islice(seeded_ids(1_700_000_000_000, b"turn 1"), 1_000))
    assert first == list(islice(seeded_ids(1_700_000_000_000, b"turn 1"), 1_000))
    assert first == sorted(set(first))
    assert {decoded(one) >> 80 for one in first} == {1_700_000_000_000}


def test_seeded_ids_of_other_seeds_do_not_meet() -> None:
    one, other = (set(islice(seeded_ids(5, seed), 1_000)) for seed in (b"a", b"b"))
    assert not one & other


@pytest.mark.parametrize("ms", [-1, 2**48])
def test_a_time_that_no_id_can_hold_is_refused(ms: int) -> None:
    with pytest.raises(ValueError, match="ms must be"):
        seeded_ids(ms, b"")


def test_hash64_is_signed_64_bit_and_never_changes() -> None:
    hashes = [hash64(f"key {number}") for number in range(1_000)]
    assert all(-(2**63) <= one < 2**63 for one in hashes)
    assert min(hashes) < 0 < max(hashes)
    assert len(set(hashes)) == 1_000
    assert hash64("order/paid") == 5359505942248034293
