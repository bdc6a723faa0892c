"""Where an alert says to bring its bikes, told tick by tick. docs/planning.md says what is expected and why.

The square allows ten bikes of each operator, five are the target; a tick is 5 s, and alerts are updated every 20 s at most. A plan may be
made at each full minute: those are ticks 8, 20, 32 and so on of these stories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import h3.api.basic_int as h3
import orjson

from geo.alert import Event
from geo.params import Epoch, Planning
from geo.policy import Geography, Policy, Rule
from tests.geo.town import CELL, OPERATORS, START, THERE, Fact, Town, at_most, bikes, epoch, taken

TURN = START + 100
DEPOT = "depot"


def centre(cell: int) -> tuple[int, int]:
    lat, lng = h3.cell_to_latlng(cell)
    return round(lat * 1e7), round(lng * 1e7)


NEAR, BESIDE = (h3.grid_ring(CELL, 1)[i] for i in (0, 3))
FAR = h3.grid_ring(CELL, 3)[0]
LETTERS = {h3.int_to_str(NEAR): "near", h3.int_to_str(BESIDE): "beside", h3.int_to_str(FAR): "far", None: DEPOT}


def planned(one: Epoch, **terms: int) -> Epoch:
    return replace(
        one, cities=tuple(replace(city, planning=Planning(**({"interval_ms": 60_000} | terms))) for city in one.cities)
    )


def town(*epochs: Epoch, **terms: int) -> Town:
    return Town(tuple(planned(one, **terms) for one in epochs))


def parked(n: int, cell: int, name: str = "n", operator: str = "ant") -> list[Fact]:
    return [Fact(f"{name}{i:02d}", operator, at=centre(cell)) for i in range(n)]


def zone(name: str, cell: int, reach: int = 3_000) -> Geography:
    """A box around the centre of a cell; reach in 1e-7 degrees."""
    lat, lng = centre(cell)
    ring = ((lat - reach, lng - reach), (lat - reach, lng + reach), (lat + reach, lng + reach), (lat + reach, lng - reach))
    return Geography(name, name.title(), ((ring,),))


def policy(*rules: Rule, **terms: Any) -> Policy:
    return Policy("zones", "Zones", rules, **terms)


def zone_rule(name: str, *geographies: str, **terms: Any) -> Rule:
    return Rule("zones", name, name.title(), area="zone", geographies=geographies, **({"for_ms": 0} | terms))


def moves(event: Event) -> dict[str, int]:
    """Bikes by the name of the cell."""
    body = orjson.loads(event.body)
    return {LETTERS.get(move["to"], move["to"]): move["bikes"] for move in body["moves"]}


def told_moves(it: Town, operator: str = "ant") -> list[tuple[int, str, dict[str, int]]]:
    """(ticks since the first, state, moves) of each event on too many bikes."""
    mine = [event for event in it.told if event.operator == operator and event.kind == "overcrowded"]
    return [(event.tick - START, event.state, moves(event)) for event in mine]


# --- when ---------------------------------------------------------------------------------------------------------------


def test_a_plan_made_at_a_tick_acts_two_ticks_later() -> None:
    it = town(epoch(at_most(10, update_interval_ms=0)))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(100)
    assert told_moves(it) == [(12, "raised", {}), (22, "updated", {"near": 3, DEPOT: 4})]


def test_moves_are_told_once_the_update_interval_has_passed_and_not_again_while_they_stay() -> None:
    it = town(epoch(at_most(10)))
    it.nothing(7)
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(500)
    assert told_moves(it) == [(19, "raised", {}), (23, "updated", {"near": 3, DEPOT: 4})]


def test_a_move_says_where_how_many_and_how_far() -> None:
    it = town(epoch(at_most(10)))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(50)
    near, depot = it.last["moves"]
    lat, lng = centre(NEAR)
    assert near == {
        "to": h3.int_to_str(NEAR),
        "centroid": {"lat": lat / 1e7, "lng": lng / 1e7},
        "bikes": 3,
        "distance_m": near["distance_m"],
    }
    assert 250 < near["distance_m"] < 350
    assert depot == {"to": None, "centroid": None, "bikes": 4, "distance_m": None}


def test_a_plan_sees_what_the_tick_of_its_making_left_and_nothing_later() -> None:
    """The place is full at the tick at which the plan acts: the next plan, a minute later, says so."""
    it = town(epoch(at_most(10)))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(20)
    it.say(*parked(5, NEAR))
    it.nothing(100)
    assert told_moves(it) == [
        (12, "raised", {}),
        (22, "updated", {"near": 3, DEPOT: 4}),
        (34, "updated", {DEPOT: 7}),
    ]


def test_an_alert_that_opens_after_the_plan_waits_for_the_next_one() -> None:
    it = town(epoch(at_most(10)), max_haul_m=1)
    it.say(*bikes(12))
    it.nothing(8)
    it.say(*parked(12, FAR))
    it.nothing(100)
    by_area = [(event.tick - START, event.area == h3.int_to_str(FAR), moves(event)) for event in it.told]
    assert by_area == [(12, False, {}), (21, True, {}), (22, False, {DEPOT: 7}), (34, True, {DEPOT: 7})]


def test_when_moves_are_told_does_not_depend_on_rivals() -> None:
    """Whose alert was first would show in the time of the others' moves, if a plan waited for the one before it."""

    def story(rivals: int) -> list[bytes]:
        it = town(epoch(at_most(10)))
        it.say(*bikes(12, operator="bee")[:rivals])
        it.nothing(5)
        it.say(*bikes(12), *parked(2, NEAR))
        it.nothing(15)
        it.say(*parked(5, NEAR))
        it.nothing(100)
        return [event.operator_body or b"" for event in it.told if event.operator == "ant"]

    assert len(story(0)) == 3
    assert story(12) == story(0)


def test_a_crash_between_making_and_acting_changes_no_byte() -> None:
    def story(crashes: Sequence[int]) -> list[bytes]:
        it = town(epoch(at_most(10, update_interval_ms=0)))
        it.say(*bikes(12), *parked(2, NEAR))
        for tick in range(1, 60):
            if tick in crashes:
                it.crash()
            it.say(*(parked(5, NEAR) if tick == 25 else ()))
        return [event.body for event in it.told]

    calm = story(())
    assert len(calm) > 2
    for tick in (12, 20, 21, 22, 23, 32, 33, 34, 35):
        assert story((tick,)) == calm, tick


def test_a_cleared_alert_has_no_moves_and_the_next_one_of_the_area_none_of_the_old_ones() -> None:
    it = town(epoch(at_most(10)))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(20)
    it.say(*taken(bikes(12)))
    it.nothing(40)
    it.say(*bikes(12))
    it.nothing(12)
    assert [(state, what) for _, state, what in told_moves(it)][-2:] == [("cleared", {}), ("raised", {})]


def test_without_a_planning_there_are_no_moves_any_more() -> None:
    it = Town((planned(epoch(at_most(10))), epoch(at_most(10), from_tick=TURN)))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(200)
    assert told_moves(it)[1:] == [(22, "updated", {"near": 3, DEPOT: 4}), (100, "updated", {})]


def test_a_city_with_nothing_open_has_no_deadline_for_plans() -> None:
    it = town(epoch(at_most(10)))
    it.say(*bikes(5))
    assert it.state.rebalancing.deadline(it.tick, it.state.planning, it.state.watches) > it.tick + 10**9


# --- where --------------------------------------------------------------------------------------------------------------


def test_nothing_is_planned_into_a_cell_that_would_breach() -> None:
    """The zone allows three, one is there; the cell would take three more."""
    rules = policy(zone_rule("tight", "plaza", maximum=3))
    it = town(epoch(at_most(10), policies=[rules], geographies=[zone("plaza", NEAR)]))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {"near": 1, DEPOT: 6}


def test_what_cells_share_of_a_zone_is_given_out_once() -> None:
    rules = policy(zone_rule("both", "plaza", "park", maximum=6))
    it = town(epoch(at_most(10), policies=[rules], geographies=[zone("plaza", NEAR), zone("park", BESIDE)]))
    it.say(*bikes(12), *parked(2, NEAR), *parked(2, BESIDE, "m"))
    it.nothing(50)
    brought = told_moves(it)[-1][2]
    assert brought[DEPOT] == 5
    assert sum(brought.values()) - brought[DEPOT] == 2


def test_what_all_operators_share_is_given_out_once_to_the_first_by_name() -> None:
    rules = policy(zone_rule("shared", "plaza", maximum=5, all_operators=True))
    it = town(epoch(at_most(10), policies=[rules], geographies=[zone("plaza", NEAR)]))
    for operator in OPERATORS:
        it.say(*bikes(12, operator=operator), *parked(1, NEAR, operator, operator))
    it.nothing(80)
    assert told_moves(it, "ant")[-1][2] == {"near": 3, DEPOT: 4}
    assert told_moves(it, "bee")[-1][2] == {DEPOT: 7}


def test_bikes_go_only_where_the_operator_has_some() -> None:
    it = town(epoch(at_most(10)))
    it.say(*bikes(12), *parked(2, NEAR, operator="bee"))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {DEPOT: 7}


def test_nothing_is_brought_where_no_rule_says_how_many_may_stand() -> None:
    rules = policy(zone_rule("square", "square", maximum=10, target_ratio=at_most(10).target_ratio))
    it = town(epoch(policies=[rules], geographies=[zone("square", CELL, 9_000)]))
    it.say(*parked(12, CELL, "c"), *parked(2, FAR))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {DEPOT: 7}


def test_a_shadow_rule_never_plans_and_never_forbids() -> None:
    rules = policy(zone_rule("tried", "plaza", maximum=0, shadow=True))
    it = town(epoch(at_most(10), policies=[rules], geographies=[zone("plaza", NEAR)]))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(50)
    shadows = [event for event in it.told if event.shadow]
    assert shadows and all(moves(event) == {} for event in shadows)
    assert told_moves(it)[-1][2] == {"near": 3, DEPOT: 4}
    alone = town(epoch(at_most(10, shadow=True)))
    alone.say(*bikes(12), *parked(2, NEAR))
    assert alone.nothing(100) == ["raised ant"]


def test_deficits_come_first_even_if_they_are_further_and_have_no_bike() -> None:
    rules = policy(zone_rule("station", "station", minimum=4, maximum=6), operators=OPERATORS)
    it = town(epoch(at_most(10), policies=[rules], geographies=[zone("station", FAR)]))
    it.say(*bikes(10), *bikes(1, 10), *parked(2, NEAR))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {"far": 4, "near": 2}
    assert all(moves(event) == {} for event in it.told if event.kind == "deficit")


def test_what_is_out_of_reach_is_not_gone_to() -> None:
    it = town(epoch(at_most(10)), max_haul_m=250)
    it.say(*bikes(12), *parked(2, NEAR), Fact("x", at=THERE))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {DEPOT: 7}


def test_for_a_silent_operator_nothing_is_planned() -> None:
    """It falls silent after a minute without a word; when it is back, the next plan has it again."""
    it = Town((planned(epoch(at_most(10, update_interval_ms=0), watched=OPERATORS)),))
    it.say(*bikes(12), *parked(2, NEAR))
    it.wait(24)
    assert told_moves(it)[-1][2] == {"near": 3, DEPOT: 4}
    it.wait(40, heard=("bee",))
    assert told_moves(it)[-1][0] <= 24
    it.wait(1)
    assert told_moves(it)[-1][1:] == ("updated", {})
    it.wait(20)
    assert told_moves(it)[-1][1:] == ("updated", {"near": 3, DEPOT: 4})


def test_a_change_of_few_bikes_is_not_told_but_a_cell_not_to_go_to_any_more_is() -> None:
    it = town(epoch(at_most(10)))
    it.say(*bikes(30), *parked(2, NEAR), *parked(4, FAR, "f"))
    it.nothing(40)
    assert told_moves(it)[-1][2] == {"near": 3, "far": 1, DEPOT: 21}
    before = len(it.told)
    it.say(*parked(1, NEAR, "one"))
    assert it.nothing(40) == []
    it.say(*parked(1, FAR, "two"))
    it.nothing(40)
    assert [what for _, _, what in told_moves(it)][before:] == [{"near": 2, DEPOT: 23}]


def of_square(it: Town) -> list[tuple[str, dict[str, int]]]:
    """(state, moves) of the square's own events."""
    mine = [event for event in it.told if event.area == h3.int_to_str(CELL) and event.kind == "overcrowded"]
    return [(event.state, moves(event)) for event in mine]


def test_what_places_share_goes_to_shortages_first() -> None:
    """Two more may come to both together: all of it is for the station, though the plaza is nearer."""
    stations = policy(zone_rule("station", "station", minimum=4, maximum=6), operators=OPERATORS)
    both = Rule("limit", "both", "Both", area="zone", geographies=("plaza", "station"), maximum=4, for_ms=0)
    limit = Policy("limit", "Limit", (both,))
    places = [zone("plaza", NEAR), zone("station", FAR)]
    it = town(epoch(at_most(10), policies=[stations, limit], geographies=places))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {"far": 2, DEPOT: 5}


def test_a_zone_that_lacks_bikes_is_one_place_with_the_cell_that_they_stand_in() -> None:
    rules = policy(zone_rule("station", "station", minimum=4, maximum=6), operators=("ant",))
    it = town(epoch(at_most(10), policies=[rules], geographies=[zone("station", NEAR)]))
    it.say(*bikes(12), *parked(1, NEAR))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {"near": 4, DEPOT: 3}


def test_a_zone_whose_shortage_is_over_is_no_place_of_its_own() -> None:
    """Its alert is still open. There are bikes in it, but none at its middle."""
    terms = {"minimum": 2, "maximum": 20, "keep_firing_for_ms": 1_000_000}
    rules = policy(zone_rule("station", "station", **terms), operators=("ant",))
    it = town(epoch(at_most(10), policies=[rules], geographies=[zone("station", FAR, 60_000)]))
    it.nothing(7)
    it.say(*bikes(12))
    aside = h3.grid_ring(FAR, 1)[0]
    it.say(*parked(2, aside))
    it.nothing(50)
    assert [event.state for event in it.told if event.kind == "deficit"] == ["raised", "updated"]
    assert told_moves(it)[-1][2] == {h3.int_to_str(aside): 3, DEPOT: 4}


def test_a_zone_at_whose_middle_bikes_would_count_elsewhere_is_not_gone_to() -> None:
    rules = policy(
        zone_rule("kiosk", "kiosk", maximum=5),
        zone_rule("station", "station", minimum=4, maximum=6),
        operators=("ant",),
    )
    places = [zone("kiosk", FAR), zone("station", FAR, 30_000)]
    it = town(epoch(at_most(10), policies=[rules], geographies=places))
    it.say(*bikes(12), *parked(2, NEAR))
    it.nothing(50)
    assert told_moves(it)[-1][2] == {"near": 3, DEPOT: 4}


def test_nothing_is_brought_to_an_area_whose_own_alert_is_still_open() -> None:
    """It has room again, but its alert waits for that to last."""
    it = town(epoch(at_most(10, keep_firing_for_ms=1_000_000)))
    it.say(*parked(12, NEAR))
    it.nothing(20)
    it.say(*taken(parked(10, NEAR)), *bikes(12))
    it.nothing(50)
    assert of_square(it) == [("raised", {}), ("updated", {DEPOT: 7})]


def test_that_the_depot_is_not_gone_to_any_more_is_told_with_the_next_change() -> None:
    it = town(epoch(at_most(10)))
    it.say(*bikes(11), *parked(2, NEAR), *parked(2, BESIDE, "m"))
    it.nothing(40)
    assert of_square(it)[-1][1] == {"near": 3, "beside": 2, DEPOT: 1}
    it.say(*taken(parked(1, NEAR)))
    it.nothing(40)
    assert len(of_square(it)) == 2
    (hauls,) = [episode.hauls for watch in it.state.watches for episode in watch.episodes.values()]
    assert sorted(haul.bikes for haul in hauls) == [2, 4]


def test_bikes_fewer_to_some_places_are_told_if_they_are_three_though_others_get_fewer_more() -> None:
    """Three fewer to two cells, one more to the depot: and the excess, two fewer, is not worth an alert."""
    it = town(epoch(at_most(10)))
    it.say(*bikes(25), *parked(2, NEAR), *parked(2, BESIDE, "m"))
    it.nothing(40)
    assert of_square(it)[-1][1] == {"near": 3, "beside": 2, DEPOT: 15}
    it.say(*taken(bikes(2)), *parked(2, NEAR, "x"), *parked(1, BESIDE, "y"))
    it.nothing(40)
    assert of_square(it)[2:] == [("updated", {"near": 1, "beside": 1, DEPOT: 16})]
