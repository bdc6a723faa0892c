"""The merger: time of a city out of the times of its sources, whatever order, repetition or gap the log holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.merge import Merger, Waiting


def frame(previous: int, position: int = 0, digest: bytes = b"d") -> Waiting:
    return Waiting(previous, {}, position, digest)


def test_a_city_is_as_far_as_its_slowest_source() -> None:
    merger = Merger(2)
    merger.offer(0, 5, frame(-1))
    merger.complete(0, 9, 5)
    assert merger.ready() == -1
    merger.complete(1, 7, -1)
    assert merger.ready() == 7
    assert merger.waits_for() == [1]


def test_a_source_is_not_complete_beyond_a_missing_frame() -> None:
    merger = Merger(1)
    merger.offer(0, 5, frame(-1))
    merger.offer(0, 8, frame(6))
    merger.complete(0, 20, 8)
    assert merger.ready() == 5
    assert merger.gaps() == {0: 5}
    merger.offer(0, 6, frame(5))
    assert merger.ready() == 20
    assert merger.gaps() == {}
    assert [tick for tick, _ in merger.take(20)] == [5, 6, 8]


def test_a_completion_that_names_an_unseen_frame_waits_for_it() -> None:
    merger = Merger(1)
    merger.complete(0, 20, 8)
    assert merger.ready() == -1
    merger.offer(0, 8, frame(-1))
    assert merger.ready() == 20


def test_repeats_are_ignored_and_other_content_is_counted() -> None:
    merger = Merger(1)
    merger.offer(0, 5, frame(-1))
    merger.offer(0, 5, frame(-1))
    assert merger.conflicts == 0
    merger.offer(0, 5, frame(-1, digest=b"other"))
    assert merger.conflicts == 1
    merger.take(5)
    merger.offer(0, 5, frame(-1, digest=b"other"))
    assert merger.conflicts == 2
    assert merger.take(5) == []


def test_the_resume_position_is_that_of_the_earliest_frame_not_worked_on() -> None:
    merger = Merger(2)
    merger.offer(0, 5, frame(-1, position=10))
    merger.offer(0, 6, frame(5, position=11))
    merger.offer(0, 9, frame(7, position=14))
    merger.offer(1, 5, frame(-1, position=12))
    assert merger.first_position() == 10
    merger.take(5)
    assert merger.first_position() == 11


def test_what_is_not_complete_cannot_be_taken() -> None:
    with pytest.raises(ValueError, match="tick 3 is not complete, only -1 is"):
        Merger(1).take(3)


@given(st.data())
def test_interleaving_repeating_and_restoring_change_nothing(data: st.DataObject) -> None:
    """Whatever the order of sources, repeats, and a restore in the middle: the same ticks with the same sources."""
    sources = data.draw(st.integers(1, 3))
    chains = [sorted(data.draw(st.sets(st.integers(0, 30), max_size=8))) for _ in range(sources)]
    logs: list[list[tuple[int, int]]] = []
    for ticks in chains:
        previous = [-1, *ticks]
        logs.append([(tick, previous[i]) for i, tick in enumerate(ticks)])
    log: list[tuple[int, int, int]] = []
    left = [list(one) for one in logs]
    while any(left):
        source = data.draw(st.sampled_from([i for i, one in enumerate(left) if one]))
        tick, previous = left[source].pop(0)
        log.append((source, tick, previous))
    log += [(source, -2, 40) for source in range(sources)]  # complete through 40
    crash = data.draw(st.integers(0, len(log)))
    merger, got = Merger(sources), []
    position = 0
    resumed = False
    while position < len(log):
        if position == crash and not resumed:
            resumed = True
            start = merger.first_position()
            merger = Merger.restore(merger.done, merger.state())
            position = position if start is None else start
            continue
        source, tick, previous = log[position]
        if tick == -2:
            merger.complete(source, 40, chains[source][-1] if chains[source] else -1)
        else:
            merger.offer(source, tick, frame(previous, position))
        position += 1
        if merger.ready() > merger.done:
            got += [(tick, [s for s, _ in told]) for tick, told in merger.take(merger.ready())]
    everything = sorted({tick for ticks in chains for tick in ticks})
    assert got == [(tick, [s for s in range(sources) if tick in chains[s]]) for tick in everything]
    assert merger.done == 40
