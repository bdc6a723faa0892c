"""Documents of a control topic become frames, whatever the cuts and crashes on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.control import ControlSource
from geo.frame import Document, Frame
from tests.geo.story import TICK_MS, timeline

TIMELINE = timeline()
Line = tuple[int, str | None]
"""A record: its time in ms, and the city that it is for; None: a clock record; "": one that was refused."""


def document(offset: int) -> Document:
    return Document("policy", -1, f"document {offset}".encode(), offset)


def add(source: ControlSource, lines: Sequence[Line], first: int) -> list[Frame]:
    record_ms = np.array([ms for ms, _ in lines], np.int64)
    offsets = np.arange(first, first + len(lines), dtype=np.int64)
    has_value = np.array([said is not None for _, said in lines], np.bool_)
    documents = {i: {said: document(first + i)} for i, (_, said) in enumerate(lines) if said}
    return source.add(record_ms, offsets, None if has_value.all() else has_value, documents)


def plain(frames: Sequence[Frame]) -> list[tuple[int, int, dict[str, list[int]]]]:
    """(tick, the one before, places of documents by city) of each."""
    return [(f.tick, f.previous, {c: [d.place for d in s.documents] for c, s in f.sections.items()}) for f in frames]


def test_what_a_tick_says_is_told_when_it_is_over_in_the_order_of_the_log() -> None:
    source = ControlSource(3, TIMELINE)
    lines: list[Line] = [(0, "east"), (TICK_MS - 1, "west"), (TICK_MS - 1, "east")]
    assert add(source, lines, 0) == []
    assert (source.through, source.resume_offset) == (-1, 0)
    [frame] = add(source, [(TICK_MS, None)], 3)
    assert plain([frame]) == [(0, -1, {"east": [0, 2], "west": [1]})]
    assert frame.source == 3
    assert not frame.outcomes.any(), "documents are no pings"
    assert (source.through, source.last_tick, source.resume_offset) == (0, 0, 4)


def test_a_refused_record_makes_its_tick_a_tick_with_records() -> None:
    source = ControlSource(0, TIMELINE)
    frames = add(source, [(0, ""), (TICK_MS, None), (7 * TICK_MS, "east"), (8 * TICK_MS, None)], 0)
    assert plain(frames) == [(0, -1, {}), (7, 0, {"east": [2]})]


LINES = st.lists(st.tuples(st.integers(0, 8 * TICK_MS), st.sampled_from(["east", "west", "", None])), min_size=1, max_size=30)


@given(LINES, st.lists(st.integers(1, 9)), st.integers(0, 30))
def test_cuts_and_a_crash_change_nothing(lines: list[Line], cuts: list[int], crash: int) -> None:
    """Record times may go back. After the crash the log is read again from the snapshot's resume offset."""
    whole = ControlSource(0, TIMELINE)
    expected = plain(add(whole, lines, 0))
    torn, at, found = ControlSource(0, TIMELINE), 0, []
    while at < len(lines):
        end = at + (cuts.pop() if cuts else 1)
        found += plain(add(torn, lines[at:end], at))
        at = min(end, len(lines))
        if at >= crash and torn.through >= 0:
            crash, resume = len(lines) + 1, torn.resume_offset
            assert resume is not None
            torn, at = ControlSource.restore(0, TIMELINE, torn.pack()), resume
    assert found == expected
    assert (torn.through, torn.last_tick) == (whole.through, whole.last_tick)


def test_a_state_of_another_tick_is_refused() -> None:
    packed = ControlSource(0, TIMELINE).pack()
    packed["clock"][0] += 1  # type: ignore[index, operator]
    with pytest.raises(ValueError, match="the tick can never change"):
        ControlSource.restore(0, TIMELINE, packed)
