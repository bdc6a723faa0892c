"""Which area a bike counts in: the cell it stands in, or the area of the first rule of a policy that it fits.

A layer puts each standing bike into at most one area. An area is a code, an int64 that sorts as areas are told of; what it is
besides, the layer knows. Layers are values: the same rules in force give the same codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from geo.cells import Area, area_e4, cell_area, cells_of, name_of
from geo.counts import INDEX_BITS
from geo.policy import Boundary, Geography, Rule
from geo.states import NO_VEHICLE, STATES, VEHICLES
from geo.zones import Zones, size_e4, zone_area

Codes = NDArray[np.int64]
Indices = NDArray[np.int64]

NO_AREA = -1

WHOLE_CITY = "city"

_HEADER_SHIFT = 52  # mode and resolution of an H3 index stand above
_FINEST = 15
_CELL_BITS = 43  # base cell and the digits down to resolution 12
_BICYCLE = VEHICLES.index("bicycle")


class Standing(Protocol):
    """Rows of the roster of n bikes that stand: what a layer looks at."""

    def __getitem__(self, name: str) -> NDArray[Any]: ...


class Layer(Protocol):
    """follows_states: whether a bike may be in another area because its state or type is another one."""

    follows_states: ClassVar[bool]

    def codes(self, rows: Standing, operators: NDArray[np.int16]) -> Codes:
        """The areas of n standing bikes, int64 (n,); NO_AREA for those that count in none."""
        ...

    def rule_of(self, codes: Codes) -> Indices:
        """Which of the layer's rules n areas belong to: int64 (n,)."""
        ...

    def name_of(self, code: int) -> str:
        """Id of an area."""
        ...

    def size_of(self, code: int) -> tuple[int, int]:
        """(1e-4 ha, places for bikes) of an area."""
        ...

    def cell_of(self, code: int) -> int | None:
        """The H3 index of an area that is a cell."""
        ...

    def area(self, code: int) -> Area:
        """The area as an alert prints it; dear, if it is a cell."""
        ...


@dataclass(frozen=True, slots=True)
class Cells:
    """Every bike, by the H3 cell of its position. Any number of rules may count by it."""

    resolution: int
    follows_states: ClassVar[bool] = False

    def codes(self, rows: Standing, operators: NDArray[np.int16]) -> Codes:
        return cells_of(rows["lat"], rows["lng"], self.resolution)

    def rule_of(self, codes: Codes) -> Indices:
        return np.zeros(len(codes), np.int64)

    def name_of(self, code: int) -> str:
        return name_of(code)

    def size_of(self, code: int) -> tuple[int, int]:
        return area_e4(code), 0

    def cell_of(self, code: int) -> int | None:
        return code

    def area(self, code: int) -> Area:
        return cell_area(code)


@dataclass(frozen=True, slots=True)
class Town:
    """What a policy's rules need to know of the city they are in force in."""

    name: str
    boundary: Boundary
    geographies: tuple[Geography, ...]


@dataclass(frozen=True, slots=True)
class _Zone:
    """One area of a rule, made of geographies (none: the whole city)."""

    rule: int
    id: str
    name: str
    geographies: tuple[Geography, ...]
    polygons: Boundary

    @property
    def places(self) -> int:
        return sum(geography.capacity or 0 for geography in self.geographies)

    def area(self) -> Area:
        kind = "zone" if self.geographies else WHOLE_CITY
        return zone_area(self.id, self.name, self.polygons, kind)


class Cascade:
    """The rules of one policy that are in force: each bike is of the first that it fits.

    Codes: the zones of all rules are 0, 1, 2… in order of rules; a cell is its index without what all of one resolution
    share, below the number of its rule among those that count by cells, from 1.
    """

    follows_states: ClassVar[bool] = True

    def __init__(self, rules: tuple[Rule, ...], operators: NDArray[np.bool_], town: Town) -> None:
        """operators: bool (operators,), those whose bikes the policy looks at."""
        self.rules, self.operators, self.town = rules, operators, town
        by_id = {geography.geography_id: geography for geography in town.geographies}
        named = [[by_id[name] for name in rule.geographies] for rule in self.rules]
        self._cell_rules = [i for i, rule in enumerate(self.rules) if rule.area == "cell"]
        self.zones = [
            zone for i, rule in enumerate(self.rules) if rule.area != "cell" for zone in _zones(i, rule, named[i], town)
        ]
        self._areas: dict[int, Area] = {}  # those of zones told of
        self._rule_of_zone = np.array([zone.rule for zone in self.zones], np.int64)
        self._lay_out(named)
        # Each rule by each state and each type, the last two axes of a bike's own.
        self._takes_state = np.array([_takes(rule.states, len(STATES)) for rule in self.rules])
        self._takes_vehicle = np.array([_takes(rule.vehicles, len(VEHICLES)) for rule in self.rules])
        self._takes_vehicle[:, NO_VEHICLE] = self._takes_vehicle[:, _BICYCLE]

    def is_of(self, rules: tuple[Rule, ...], operators: NDArray[np.bool_], town: Town) -> bool:
        """Whether it is the cascade of these."""
        return self.rules == rules and np.array_equal(self.operators, operators) and self.town == town

    def codes(self, rows: Standing, operators: NDArray[np.int16]) -> Codes:
        codes = np.full(len(operators), NO_AREA, np.int64)
        mine = np.flatnonzero(self.operators[operators])
        bike, listed = self._candidates(rows["lat"][mine], rows["lng"][mine])
        if not len(bike):
            return codes
        rule = self._listed_rule[listed]
        fits = self._takes_state[rule, rows["state"][mine][bike]] & self._takes_vehicle[rule, rows["vehicle"][mine][bike]]
        bike, listed = bike[fits], listed[fits]
        order = np.lexsort((listed, bike))  # listings are numbered by (rule, place in its list)
        first = np.diff(bike[order], prepend=-1) != 0
        bike, listed = mine[bike[order][first]], listed[order][first]
        codes[bike] = self._listed_zone[listed]
        for number, i in enumerate(self._cell_rules, 1):
            of_rule = bike[self._listed_rule[listed] == i]
            codes[of_rule] = self._cell_codes(number, rows["lat"][of_rule], rows["lng"][of_rule])
        return codes

    def rule_of(self, codes: Codes) -> Indices:
        rules = np.zeros(len(codes), np.int64)
        cell_rule = codes >> _CELL_BITS
        in_cell = cell_rule > 0
        rules[in_cell] = np.array(self._cell_rules, np.int64)[cell_rule[in_cell] - 1]
        rules[~in_cell] = self._rule_of_zone[codes[~in_cell]]
        return rules

    def name_of(self, code: int) -> str:
        return name_of(self._cell(code)) if code >> _CELL_BITS else self.zones[code].id

    def size_of(self, code: int) -> tuple[int, int]:
        if code >> _CELL_BITS:
            return area_e4(self._cell(code)), 0
        return self.zone_sizes[code], self.zones[code].places

    def cell_of(self, code: int) -> int | None:
        return self._cell(code) if code >> _CELL_BITS else None

    def area(self, code: int) -> Area:
        if code >> _CELL_BITS:
            return cell_area(self._cell(code))
        if code not in self._areas:
            self._areas[code] = self.zones[code].area()
        return self._areas[code]

    @cached_property
    def zone_sizes(self) -> list[int]:
        """1e-4 ha by code."""
        return [size_e4(zone.polygons) for zone in self.zones]

    def code_as(self, other: Cascade, code: int, rule: int) -> int | None:
        """The code that an area of one of our rules has in another cascade, where the rule is this one; None: it has none."""
        if number := code >> _CELL_BITS:
            return code - (number << _CELL_BITS) + (other._cell_rules.index(rule) + 1 << _CELL_BITS)
        name = self.zones[code].id
        return other.zone_codes.get((rule, name))

    @cached_property
    def zone_codes(self) -> dict[tuple[int, str], int]:
        """Code by (rule, id of the area)."""
        return {(zone.rule, zone.id): code for code, zone in enumerate(self.zones)}

    def _lay_out(self, named: Sequence[Sequence[Geography]]) -> None:
        """Listings: each geography in each rule's list, or the whole city, by (rule, place in the list).

        _listed_rule, _listed_zone   int64 (listings,)  the rule; code of the zone, or NO_AREA if it counts by cells
        _everywhere                  int64 (e,)         listings of the whole city
        _first, _listings            CSR: listings of geography g are _listings[_first[g] : _first[g + 1]]
        """
        numbers: dict[str, int] = {}
        of_geography: list[list[int]] = []
        geographies: list[Geography] = []
        everywhere: list[int] = []
        rules: list[int] = []
        zones: list[int] = []
        codes = self.zone_codes
        for i, (rule, listed) in enumerate(zip(self.rules, named, strict=True)):
            if not listed:
                everywhere.append(len(rules))
                rules.append(i)
                zones.append(codes.get((i, WHOLE_CITY), NO_AREA))
            for geography in listed:
                number = numbers.setdefault(geography.geography_id, len(numbers))
                if number == len(of_geography):
                    of_geography.append([])
                    geographies.append(geography)
                of_geography[number].append(len(rules))
                rules.append(i)
                zones.append(codes.get((i, _zone_id(rule, geography)), NO_AREA))
        self._listed_rule, self._listed_zone = np.array(rules, np.int64), np.array(zones, np.int64)
        self._everywhere = np.array(everywhere, np.int64)
        self._first = np.cumsum([0, *map(len, of_geography)])
        self._listings = np.array([listing for listings in of_geography for listing in listings], np.int64)
        self._index = Zones(geographies)

    def _candidates(self, lat: NDArray[np.int32], lng: NDArray[np.int32]) -> tuple[Indices, Indices]:
        """(point, listing) of all listings that hold n points."""
        point, zone = self._index.holding(lat, lng)
        count = self._first[zone + 1] - self._first[zone]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        listed = self._listings[np.repeat(self._first[zone], count) + within]
        everyone = np.arange(len(lat))
        return (
            np.concatenate((np.repeat(point, count), np.repeat(everyone, len(self._everywhere)))),
            np.concatenate((listed, np.tile(self._everywhere, len(lat)))),
        )

    def _cell_codes(self, number: int, lat: NDArray[np.int32], lng: NDArray[np.int32]) -> Codes:
        resolution = self.rules[self._cell_rules[number - 1]].resolution
        index = cells_of(lat, lng, resolution) & int(INDEX_BITS)
        return (number << _CELL_BITS) | (index >> 3 * (_FINEST - resolution))

    def _cell(self, code: int) -> int:
        """The H3 index: unused digits are all ones."""
        resolution = self.rules[self._cell_rules[(code >> _CELL_BITS) - 1]].resolution
        unused = 3 * (_FINEST - resolution)
        index = (code & (1 << _CELL_BITS) - 1) << unused | (1 << unused) - 1
        return 1 << 59 | resolution << _HEADER_SHIFT | index


def _zones(number: int, rule: Rule, geographies: Sequence[Geography], town: Town) -> list[_Zone]:
    """The areas of a rule that does not count by cells, in order."""
    if not geographies:
        return [_Zone(number, WHOLE_CITY, town.name, (), town.boundary)]
    if rule.area == "each_zone" or len(geographies) == 1:
        return [_Zone(number, g.geography_id, g.name, (g,), g.polygons) for g in geographies]
    polygons = tuple(polygon for geography in geographies for polygon in geography.polygons)
    return [_Zone(number, rule.rule_id, rule.name, tuple(geographies), polygons)]


def _zone_id(rule: Rule, geography: Geography) -> str:
    """Id of the area of the rule that a geography in its list is, or is a part of."""
    return rule.rule_id if rule.area == "zone" and len(rule.geographies) > 1 else geography.geography_id


def _takes(codes: tuple[int, ...], count: int) -> NDArray[np.bool_]:
    """bool (count,): those codes; with none all."""
    takes = np.full(count, not codes)
    takes[list(codes)] = True
    return takes
