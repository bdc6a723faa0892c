"""A source: what becomes of each record, and that nothing depends on how the log was read."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geo.source
from geo.source import Source
from tests.geo.story import (
    EAST,
    LNG,
    START_MS,
    TICK_MS,
    WEST_LNG,
    Ping,
    Story,
    epoch,
    outcomes,
    plain,
    records,
    timeline,
    told,
)

Item = tuple[int, Ping | str | None]
FIRST = START_MS // TICK_MS
MINUTE = 60_000


# --- outcomes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ping", "outcome"),
    [
        (Ping(late_ms=-60_000), "accepted"),
        (Ping(late_ms=-60_001), "future"),
        (Ping(late_ms=18_000_000), "accepted"),
        (Ping(late_ms=18_000_001), "stale"),
        (Ping(accuracy_m=100), "accepted"),
        (Ping(accuracy_m=101), "inaccurate"),
        (Ping(operator=-1), "unknown_operator"),
        (Ping(operator=-1, late_ms=-60_001), "unknown_operator"),
        (Ping(late_ms=-60_001, accuracy_m=101), "future"),
        (Ping(late_ms=18_000_001, accuracy_m=101), "stale"),
        ("not a ping", "malformed"),
    ],
)
def test_the_first_test_that_a_record_fails_names_it(ping: Ping | str, outcome: str) -> None:
    assert outcomes(Story().at(0, ping)) == {outcome: 1}


def test_what_is_not_known_to_be_an_operators_is_counted_apart() -> None:
    (frame,) = Story().at(0, "malformed", Ping(operator=-1), Ping(operator=1), Ping(operator=1, late_ms=-99_999))
    assert frame.outcomes.sum(axis=1).tolist() == [0, 2, 2]


def test_of_the_records_of_a_tick_the_newest_counts_and_of_equals_the_last() -> None:
    frames = Story().at(0, Ping(late_ms=5), Ping(north=1), Ping(north=2), Ping(late_ms=1, north=3))
    assert outcomes(frames) == {"accepted": 1, "superseded": 3}
    assert told(frames)[0].lat == Ping(north=2).lat + 180


def test_to_be_future_or_stale_is_measured_at_the_records_own_time() -> None:
    story = Story()
    frames = story.take((START_MS + 50_000, Ping()), (START_MS, Ping("b2", late_ms=-61_000)), (START_MS + 60_000, None)).frames
    assert outcomes(frames) == {"accepted": 1, "future": 1}
    assert len(frames) == 1


def test_refused_records_are_named_by_their_offsets() -> None:
    step = Story(offset=70).take(
        (START_MS, Ping()), (START_MS, Ping(operator=-1)), (START_MS, "?"), (START_MS, Ping(late_ms=-99_999))
    )
    assert step.refused == [(71, -1, "unknown_operator"), (73, -1, "future")]


# --- ticks ----------------------------------------------------------------------------------------------------------------


def test_a_frame_names_the_non_empty_tick_before_it() -> None:
    story = Story()
    frames = story.at(0, Ping()) + story.at(50, "malformed") + story.at(70) + story.at(100, Ping())
    assert [(frame.tick - FIRST, frame.previous - FIRST) for frame in frames] == [(0, -1 - FIRST), (10, 0), (20, 10)]
    assert (story.source.last_tick - FIRST, story.source.through - FIRST) == (20, 20)


def test_a_tick_of_malformed_records_only_has_a_frame() -> None:
    (frame,) = Story().at(0, "malformed")
    assert (frame.sections, outcomes([frame])) == ({}, {"malformed": 1})


def test_clock_records_close_ticks_and_are_not_told() -> None:
    assert [frame for seconds in range(0, 50, 7) for frame in Story().at(seconds)] == []


def test_facts_stand_in_the_order_of_the_log() -> None:
    names = [f"b{i}" for i in range(300)]
    random.Random(3).shuffle(names)
    assert [fact.bike for fact in told(Story().at(0, *map(Ping, names)))] == names


def test_many_ticks_of_one_bike_in_one_batch_are_judged_one_after_the_other() -> None:
    items: list[Item] = [
        (START_MS + i * TICK_MS, Ping(north=10 if i == 3 else 0, state="on_trip" if i == 2 else "available")) for i in range(6)
    ]
    step = Story().take(*items)
    assert [(fact.version, fact.state, fact.since) for fact in told(step.frames)] == [
        (0, "available", 0),
        (10, "on_trip", 10),
        (15, "available", 15),
    ]


# --- epochs ---------------------------------------------------------------------------------------------------------------


def test_each_tick_is_judged_by_the_epoch_in_force() -> None:
    strict = epoch(FIRST + 2, operators=("bravo",), max_accuracy_mm=10_000, future_ms=0)
    pings = [Ping("b1", accuracy_m=50), Ping("b2", operator=1, accuracy_m=50), Ping("b3", operator=1, late_ms=-500)]
    items: list[Item] = [(START_MS + k * TICK_MS, ping) for k in range(4) for ping in pings]
    step = Story(timeline(epoch(), strict)).take(*items, (START_MS + 4 * TICK_MS, None))
    assert [outcomes([frame]) for frame in step.frames] == 2 * [{"accepted": 3}] + 2 * [
        {"unknown_operator": 1, "inaccurate": 1, "future": 1}
    ]
    assert [refused for refused in step.refused if refused[0] < 6] == []


def test_a_tick_left_open_by_one_epoch_is_judged_by_it() -> None:
    story = Story(timeline(epoch(max_speed_mm_s=10**6), epoch(FIRST + 2)))
    story.at(0, Ping())
    story.take((START_MS + TICK_MS, Ping(north=4_000)))
    assert outcomes(story.take((START_MS + 2 * TICK_MS, Ping())).frames) == {"accepted": 1}
    assert outcomes(story.at(14)) == {"teleport": 1}


# --- memory and errors ----------------------------------------------------------------------------------------------------


def test_a_huge_open_tick_is_reduced_early_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    r = random.Random(5)
    items = [(START_MS + r.randrange(9_000), ping(r)) for _ in range(600)]
    whole = Story().take(*items, (START_MS + MINUTE, None))
    monkeypatch.setattr(geo.source, "REDUCE_AT", 50)
    story = Story()
    frames = [frame for i in range(0, 600, 30) for frame in story.take(*items[i : i + 30]).frames]
    assert sum(map(len, story.source._open)) < 300
    frames += story.take((START_MS + MINUTE, None)).frames
    assert list(map(plain, frames)) == list(map(plain, whole.frames))


def test_bikes_not_heard_for_twice_the_ttl_are_forgotten_and_nobody_notices() -> None:
    story = Story(timeline(epoch(ttl_ms=MINUTE)))
    for i in range(40):
        story.at(5 * i, *(Ping(f"{i}-{j}") for j in range(200)), Ping("constant"))
    assert 200 * 24 < story.source.bikes() < 200 * 40
    assert story.say(205, Ping("constant")) == []
    assert story.say(215, Ping("constant", late_ms=200)) == []


def test_what_is_forgotten_while_a_tick_is_open_takes_nothing_from_it() -> None:
    """More bikes come in the open tick, so that memory is tidied; some that it has heard of were about to be forgotten."""
    later = START_MS + 5 * MINUTE
    items: list[Item] = [(START_MS, Ping(f"old-{j}")) for j in range(1000)]
    items += [(later, Ping(f"old-{j}", east=j)) for j in (900, 5, 300)]
    items += [(later, Ping(f"new-{j}")) for j in range(100)]
    cut = Story(timeline(epoch(ttl_ms=MINUTE)))
    frames = [frame for part in (items[:1000], items[1000:1003], items[1003:]) for frame in cut.take(*part).frames]
    assert cut.source.bikes() == 103
    frames += cut.take((later + MINUTE, None)).frames
    whole = Story(timeline(epoch(ttl_ms=MINUTE))).take(*items, (later + MINUTE, None))
    assert list(map(plain, frames)) == list(map(plain, whole.frames))


def test_a_bike_is_remembered_as_long_as_any_later_epoch_wants() -> None:
    story = Story(timeline(epoch(ttl_ms=MINUTE), epoch(FIRST + 60, ttl_ms=10 * MINUTE)))
    story.at(0, Ping("old"))
    for i in range(1, 50):
        story.at(5 * i, *(Ping(f"{i}-{j}") for j in range(200)))
    assert story.say(600, Ping("old")) == []


def test_a_ping_that_breaks_the_judge_is_set_aside_and_the_others_count() -> None:
    story = Story()
    items: list[Item] = [(START_MS, Ping(f"b{i}")) for i in range(50)]
    batch = records(items)
    batch.state[20] = 99
    step = story.source.add(batch)
    assert step.refused == []
    step = story.source.add(records([(START_MS + TICK_MS, None)], 50))
    assert step.refused == [(20, -1, "internal_error")]
    assert outcomes(step.frames) == {"accepted": 49, "internal_error": 1}
    assert [fact.bike for fact in told(step.frames)] == [f"b{i}" for i in range(50) if i != 20]


def test_a_ping_is_named_by_its_place_in_a_record_of_several() -> None:
    story = Story()
    batch = records([(START_MS, Ping(f"b{i}", operator=-1 if i == 3 else 0)) for i in range(5)])
    batch.offsets[:], batch.items = 7, np.arange(5, dtype=np.int32)
    batch.state[2] = 99
    assert story.source.add(batch).refused == [(7, 3, "unknown_operator")]
    assert story.source.resume_offset == 7
    step = story.source.add(records([(START_MS + TICK_MS, None)], 8))
    assert step.refused == [(7, 2, "internal_error")]
    assert [fact.bike for fact in told(step.frames)] == ["b0", "b1", "b4"]


def test_of_pings_of_one_record_with_one_device_time_the_last_counts() -> None:
    batch = records([(START_MS, Ping(north=i, late_ms=5 if i == 3 else 0)) for i in range(4)])
    batch.offsets[:], batch.items = 7, np.arange(4, dtype=np.int32)
    story = Story()
    story.source.add(batch)
    (fact,) = told(story.take((START_MS + TICK_MS, None)).frames)
    assert fact.lat == Ping(north=2).lat + 180


def test_a_ping_that_breaks_the_judge_leaves_its_bike_as_it_was() -> None:
    story = Story()
    story.at(0, Ping("b1"), Ping("b2"))
    batch = records([(START_MS + MINUTE, Ping("b1")), (START_MS + MINUTE, Ping("b2"))], 10)
    batch.state[0] = 99
    story.source.add(batch)
    story.offset = 12
    story.at(61)
    assert story.say(120, Ping("b1"), Ping("b2")) == []


# --- laws -----------------------------------------------------------------------------------------------------------------

TIMELINE = timeline(
    epoch(ttl_ms=5 * MINUTE), epoch(FIRST + 20, ttl_ms=3 * MINUTE, operators=("bravo",)), epoch(FIRST + 60, cities=(EAST,))
)


def ping(r: random.Random) -> Ping | str | None:
    if r.random() < 0.1:
        return r.choice((None, "malformed"))
    return Ping(
        bike=r.choice("abcdef"),
        operator=r.choice((0, 1, 1, 1, -1)),
        state=r.choice(("available", "available", "unreported", "on_trip", "removed", "reserved")),
        north=r.choice((0, 0, 10, 30, 32, 60, 4_000)),
        lng=r.choice((LNG, LNG, LNG, WEST_LNG)),
        accuracy_m=r.choice((0, 5, 20, 40, 200)),
        vehicle=r.choice(("none", "none", "bicycle", "moped")),
        touched=r.random() < 0.1,
        late_ms=r.choice((0, 0, 0, 3_000, 10_000, 200_000, -50_000, -70_000)),
    )


def log(seed: int, size: int) -> list[Item]:
    r = random.Random(seed)
    items: list[Item] = []
    ms = START_MS
    for _ in range(size):
        ms += r.choice((0, 0, 500, 3_000, 5_000, 30_000, 400_000 if r.random() < 0.1 else 0))
        items.append((ms - r.choice((0, 0, 0, 8_000)), ping(r)))
    return [*items, (ms + 20_000, None)]


def read(items: list[Item], cuts: list[int]) -> tuple[Source, list[dict[str, Any]], list[tuple[int, str]]]:
    source = Source(0, TIMELINE)
    frames: list[dict[str, Any]] = []
    refused: list[tuple[int, str]] = []
    for start, stop in zip([0, *cuts], [*cuts, len(items)], strict=True):
        step = source.add(records(items[start:stop], start))
        frames += map(plain, step.frames)
        refused += step.refused
    return source, frames, refused


def state(source: Source) -> dict[Any, Any]:
    """What a source would write down, by bike, and its clock."""
    packed = source.pack()
    ids = bytes(packed["ids"]).decode().split("\n")
    keys = zip(np.asarray(packed["operator"]).tolist(), ids[:-1], strict=True)
    rows = dict(zip(keys, np.asarray(packed["rows"]).tolist(), strict=True))
    return rows | {"clock": np.asarray(packed["clock"]).tolist()}


@given(st.integers(0, 10**6), st.integers(1, 80), st.data())
def test_cutting_the_log_elsewhere_changes_nothing(seed: int, size: int, data: st.DataObject) -> None:
    items = log(seed, size)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=20)))
    source, frames, refused = read(items, cuts)
    one_source, one_frames, one_refused = read(items, [])
    assert frames == one_frames
    assert refused == one_refused
    assert state(source) == state(one_source)


@given(st.integers(0, 10**6), st.integers(1, 80), st.data())
def test_a_source_restored_anywhere_goes_on_as_if_nothing_had_been(seed: int, size: int, data: st.DataObject) -> None:
    items = log(seed, size)
    _, frames, _ = read(items, [])
    at = data.draw(st.integers(1, len(items)))
    source, before, _ = read(items[:at], [at // 2])
    again = Source.restore(0, TIMELINE, source.pack())
    assert (again.through, again.last_tick) == (source.through, source.last_tick)
    assert (again.resume_offset, again.resume_clock) == (source.resume_offset, source.resume_clock)
    resume = source.resume_offset
    assert resume is not None
    step = again.add(records(items[resume:], resume))
    assert before + list(map(plain, step.frames)) == frames


def test_a_process_with_more_operators_and_cities_goes_on_with_the_same_bikes() -> None:
    old = Story(timeline(epoch(operators=("bravo", "delta"), cities=(EAST,))))
    old.at(0, Ping("b1"), Ping("b2", operator=1, vehicle="moped"))
    new = timeline(epoch(operators=("bravo", "delta"), cities=(EAST,)), epoch(FIRST + 100))
    assert new.operators == ("alfa", "bravo", "delta")
    story = Story(new, offset=old.offset)
    story.source = Source.restore(0, new, old.source.pack())
    assert story.say(60, Ping("b1", operator=1), Ping("b2", operator=2)) == []
    (fact,) = story.say(500, Ping("b1", operator=1, lng=WEST_LNG), Ping("b2", operator=2, lng=WEST_LNG))[-1:]
    assert (fact.city, fact.bike, fact.operator) == ("west", "b1", 1)


def test_a_state_that_the_configuration_does_not_know_is_refused() -> None:
    story = Story()
    story.at(0, Ping())
    with pytest.raises(ValueError, match=r"the state names \['alfa'\], which no epoch knows; keep every version"):
        Source.restore(0, timeline(epoch(operators=("bravo",))), story.source.pack())


def test_before_any_record_a_source_packs_to_nothing() -> None:
    source = Source.restore(0, TIMELINE, Source(0, TIMELINE).pack())
    assert (source.through, source.last_tick, source.resume_offset, source.resume_clock, source.bikes()) == (
        -1,
        -1,
        None,
        -1,
        0,
    )


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_more_clock_records_change_no_fact(seed: int) -> None:
    items = log(seed, 60)
    clock, more = -1, list[Item]()
    for ms, what in items:
        clock = max(clock, ms)
        more += [(ms, what), (clock, None)]
    _, frames, _ = read(items, [])
    _, again, _ = read(more, [])
    assert again == frames
