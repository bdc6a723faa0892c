"""The bike's life, rule by rule: docs/semantics.md, section 4."""

from __future__ import annotations

import pytest

from tests.geo.story import EAST, LAT, LNG, METRE, WEST_LNG, Ping, Story, Told, city, epoch, outcomes, timeline, told

HOUR = 3600


def one(facts: list[Told]) -> Told:
    (fact,) = facts
    return fact


def parked(story: Story | None = None, ping: Ping | None = None) -> Story:
    """A story that begins with a bike that stands at (0, 0)."""
    story = story or Story()
    story.say(0, ping or Ping())
    return story


def test_a_new_bike_is_told_to_the_city_that_it_is_in() -> None:
    fact = one(Story().say(0, Ping(vehicle="bicycle")))
    assert (fact.city, fact.bike, fact.stands, fact.state, fact.vehicle) == ("east", "b1", True, "available", "bicycle")
    assert (fact.since, fact.version, fact.rode, fact.lat, fact.lng) == (0, 0, False, LAT, LNG)


def test_a_bike_seen_again_in_its_place_is_heard_and_not_told() -> None:
    story = parked()
    (frame,) = story.at(60, Ping())
    assert outcomes([frame]) == {"accepted": 1}
    assert list(frame.sections) == ["east"]
    assert len(frame.sections["east"].facts) == 0
    assert frame.sections["east"].heard.tolist() == [1, 0]


def test_jitter_within_the_hold_radius_moves_nothing() -> None:
    story = parked()
    assert [story.say(60 * i, Ping(north=north)) for i, north in enumerate((30, -40, 20, 45), 1)] == [[], [], [], []]


@pytest.mark.parametrize(("accuracy", "metres", "holds"), [(5, 45, True), (5, 55, False), (40, 75, True), (40, 85, False), (90, 95, True), (90, 105, False)])  # fmt: skip
def test_the_hold_radius_is_twice_the_accuracy_between_50_and_100_m(accuracy: int, metres: int, holds: bool) -> None:
    story = parked(ping=Ping(accuracy_m=accuracy))
    facts = story.say(60, Ping(north=metres, accuracy_m=accuracy))
    assert (facts == []) is holds
    if not holds:
        assert (one(facts).since, one(facts).stands, one(facts).lat) == (60, True, LAT + metres * METRE)


@pytest.mark.parametrize("release", [Ping(north=20, touched=True), Ping(north=20, state="on_trip")])
def test_hands_on_the_bike_or_a_ride_in_the_tick_release_the_hold(release: Ping) -> None:
    story = parked()
    later = Ping(north=20)
    facts = story.say(60, release, later) if release.touched else story.say(60, release, Ping(north=20, late_ms=-1))
    fact = one(facts)
    assert (fact.stands, fact.since, fact.rode) == (True, 60 if release.touched else 60.001, not release.touched)


def test_an_inaccurate_ping_lends_the_tick_its_ride() -> None:
    story = parked()
    frames = story.at(60, Ping(state="on_trip", accuracy_m=500), Ping(north=20))
    assert outcomes(frames) == {"inaccurate": 1, "accepted": 1}
    assert one(told(frames)).rode


def test_a_fix_twice_as_accurate_moves_the_place_and_not_its_time() -> None:
    story = parked(ping=Ping(accuracy_m=40))
    fact = one(story.say(60, Ping(north=20, accuracy_m=20)))
    assert (fact.lat, fact.since, fact.stands) == (LAT + 20 * METRE, 0, True)


def test_three_fixes_in_a_row_that_agree_settle_the_bike_on_the_newest() -> None:
    story = parked()
    assert story.say(60, Ping(north=30)) == []
    assert story.say(120, Ping(north=35)) == []
    fact = one(story.say(180, Ping(north=32)))
    assert (fact.lat, fact.since) == (LAT + 32 * METRE, 0)


def test_a_fix_at_the_place_or_one_that_disagrees_begins_the_three_anew() -> None:
    story = parked()
    for seconds, north in ((60, 30), (120, 35), (180, 2), (240, 32), (300, -30), (360, 31), (420, 33)):
        assert story.say(seconds, Ping(north=north)) == []
    assert one(story.say(480, Ping(north=30))).lat == LAT + 30 * METRE


def test_not_newer_than_the_newest_fix_is_a_duplicate_or_out_of_order() -> None:
    story = parked()
    assert story.outcome(60, Ping(late_ms=60_000)) == "duplicate"
    assert story.outcome(120, Ping(late_ms=120_000, state="reserved")) == "out_of_order"
    assert story.outcome(180, Ping(late_ms=190_000, north=1)) == "out_of_order"


def test_a_leap_is_not_believed_until_a_second_fix_confirms_it() -> None:
    story = parked()
    assert story.outcome(10, Ping(north=5_000)) == "teleport"
    assert outcomes(frames := story.at(20, Ping(north=5_100))) == {"accepted": 1}
    assert one(told(frames)).lat == LAT + 5_100 * METRE


def test_a_leap_is_heard() -> None:
    story = parked()
    (frame,) = story.at(10, Ping(north=5_000))
    assert frame.sections["east"].heard.tolist() == [1, 0]


def test_a_copy_of_a_lie_does_not_confirm_it() -> None:
    story = parked()
    assert story.outcome(10, Ping(north=5_000)) == "teleport"
    (frame,) = story.at(20, Ping(north=5_000, late_ms=10_000))
    assert outcomes([frame]) == {"duplicate": 1}
    assert frame.sections == {}
    assert story.outcome(30, Ping(north=5_000)) == "accepted"


def test_any_accepted_fix_drops_the_candidate() -> None:
    story = parked()
    assert story.outcome(10, Ping(north=5_000)) == "teleport"
    assert story.outcome(20, Ping()) == "accepted"
    assert story.outcome(30, Ping(north=5_000)) == "teleport"


def test_fifty_metres_a_second_are_believed() -> None:
    story = parked()
    assert story.outcome(100, Ping(north=4_900)) == "accepted"
    assert story.outcome(200, Ping(north=10_000)) == "teleport"


def test_a_ride_is_told_at_its_start_and_at_its_end() -> None:
    story = parked()
    fact = one(story.say(60, Ping(state="on_trip")))
    assert (fact.stands, fact.state, fact.since, fact.rode) == (False, "on_trip", 60, True)
    assert story.say(120, Ping(state="on_trip", north=300)) == []
    fact = one(story.say(180, Ping(north=600)))
    assert (fact.stands, fact.since, fact.rode, fact.lat) == (True, 180, True, LAT + 600 * METRE)


def test_a_bike_on_a_trip_that_has_not_moved_for_20_minutes_stands() -> None:
    story = parked()
    story.say(60, Ping(state="on_trip"))
    assert story.say(60 + 1199, Ping(state="on_trip", north=20)) == []
    fact = one(story.say(60 + 1200, Ping(state="on_trip", north=10)))
    assert (fact.stands, fact.state, fact.since, fact.lat) == (True, "on_trip", 60, LAT)
    moved = one(story.say(3000, Ping(state="on_trip", north=200)))
    assert (moved.stands, moved.since) == (False, 3000)


def test_a_removed_bike_that_goes_on_pinging_in_place_stands() -> None:
    story = parked()
    assert not one(story.say(60, Ping(state="removed"))).stands
    fact = one(story.say(60 + 1200, Ping(state="removed")))
    assert (fact.stands, fact.state, fact.since) == (True, "removed", 60)
    touched = one(story.say(2000, Ping(state="removed", touched=True)))
    assert (touched.stands, touched.since) == (False, 2000)


def test_a_bike_without_status_stands_after_a_minute_in_place() -> None:
    story = Story()
    nameless = Ping(state="unreported")
    fact = one(story.say(0, nameless))
    assert (fact.stands, fact.state) == (False, "on_trip")
    assert story.say(59, Ping(state="unreported", north=10)) == []
    fact = one(story.say(60, Ping(state="unreported", north=12)))
    assert (fact.stands, fact.state, fact.since, fact.lat) == (True, "available", 0, LAT + 12 * METRE)
    assert story.say(120, Ping(state="unreported", north=40)) == []
    fact = one(story.say(180, Ping(state="unreported", north=100)))
    assert (fact.stands, fact.state, fact.since) == (False, "on_trip", 180)
    assert story.say(190, Ping(state="unreported", north=300)) == []


def test_outside_of_every_city_nobody_is_told() -> None:
    story = Story()
    (frame,) = story.at(0, Ping(lng=LNG + 5 * 10**6))
    assert outcomes([frame]) == {"accepted": 1}
    assert frame.sections == {}


def test_the_city_that_a_bike_leaves_is_told_in_the_same_tick() -> None:
    story = parked()
    fact = one(story.say(HOUR, Ping(lng=LNG + 5 * 10**6)))
    assert (fact.city, fact.stands, fact.state, fact.since, fact.lng) == ("east", False, "elsewhere", HOUR, LNG + 5 * 10**6)
    assert story.say(2 * HOUR - 1, Ping(lng=LNG + 5 * 10**6)) == []


def test_a_bike_that_goes_from_city_to_city_is_told_to_both() -> None:
    story = parked()
    here, there = story.say(HOUR, Ping(lng=WEST_LNG))
    assert (here.city, here.state, here.stands) == ("east", "elsewhere", False)
    assert (there.city, there.state, there.stands) == ("west", "available", True)


def test_where_cities_overlap_the_first_by_name_has_the_bike() -> None:
    assert one(Story().say(0, Ping(lng=LNG))).city == "east"
    assert one(Story().say(0, Ping(lng=LNG - 10**6))).city == "east"
    assert one(Story().say(0, Ping(lng=LNG - 10**6 - 1))).city == "west"


def test_a_bike_held_over_the_border_is_of_the_city_of_its_place_and_heard_where_it_is() -> None:
    edge = LNG + 10**6
    story = parked(ping=Ping(lng=edge - 10 * METRE))
    (frame,) = story.at(60, Ping(lng=edge + 10 * METRE))
    assert frame.sections == {}
    assert story.say(120, Ping(lng=edge - 10 * METRE)) == []


def test_still_here_is_told_after_an_hour() -> None:
    story = parked()
    assert story.say(HOUR - 1, Ping()) == []
    fact = one(story.say(HOUR, Ping()))
    assert (fact.since, fact.version) == (0, HOUR)
    assert story.say(HOUR + 60, Ping()) == []


@pytest.mark.parametrize("seconds", [10 * HOUR - 5, 10 * HOUR])
def test_after_twice_the_ttl_a_bike_is_new(seconds: int) -> None:
    story = parked()
    fact = one(story.say(seconds, Ping()))
    assert fact.since == (0 if seconds < 10 * HOUR else seconds)


def test_a_new_bike_owes_its_old_city_nothing() -> None:
    story = parked()
    assert one(story.say(11 * HOUR, Ping(lng=WEST_LNG))).city == "west"


def test_a_vehicle_type_once_named_is_kept() -> None:
    story = parked(ping=Ping(vehicle="moped"))
    assert story.say(60, Ping()) == []
    assert one(story.say(120, Ping(vehicle="bicycle"))).vehicle == "bicycle"


def test_a_ride_told_to_no_city_is_forgotten_all_the_same() -> None:
    story = parked(ping=Ping(lng=LNG + 5 * 10**6))
    story.say(60, Ping(lng=LNG + 5 * 10**6, state="on_trip"))
    assert not one(story.say(2 * HOUR, Ping())).rode


def test_new_boundaries_move_a_bike_at_its_next_fix() -> None:
    grown = city("aarhus", EAST.boundary[0][0])
    from_tick = 1_700_000_100_000 // 5000
    story = parked(Story(timeline(epoch(), epoch(from_tick, cities=(grown, EAST)))))
    assert story.say(95, Ping()) == []
    facts = story.say(100, Ping())
    assert [(fact.city, fact.stands) for fact in facts] == [("aarhus", True), ("east", False)]
