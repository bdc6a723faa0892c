"""One bike and one winner at a time: section 4 of docs/semantics.md."""

from __future__ import annotations

from dataclasses import dataclass, field

from geo.params import Epoch
from tests.oracle.plane import Point, city_of, near

DEFAULT_ACCURACY = 15_000
ON_TRIP, ELSEWHERE = 5, 8
CLASS = ("U", "P", "P", "P", "P", "M", "A", "A", "A")


@dataclass
class Winner:
    ts: int
    at: Point
    accuracy: int
    state: int
    vehicle: int
    rode: bool
    touched: bool


@dataclass
class Fact:
    """What a city is told. `at`, since and version as docs/semantics.md has them."""

    operator: str
    bike: str
    at: Point
    stands: bool
    state: int
    vehicle: int
    rode: bool
    since: int
    version: int


@dataclass
class Verdict:
    outcome: str
    facts: dict[str, Fact] = field(default_factory=dict)
    heard: str | None = None  # the city that hears it; "" is elsewhere, None is nobody


@dataclass
class Bike:
    operator: str
    bike: str
    fix_ts: int = 0
    fix_at: Point = (0, 0)
    fix_state: int = 0
    candidate: tuple[int, Point] | None = None
    place: Point = (0, 0)
    place_accuracy: int = 0
    idle_since: int = 0
    since: int = 0
    stands: bool = False
    history: list[Point] = field(default_factory=list)
    rode: bool = False  # since the last publication
    city: str | None = None
    vehicle: int = 0
    published: int = 0
    shown: int = 0

    def seen(self) -> tuple[object, ...]:
        """What a change of is told."""
        return (self.city, self.stands, self.place if self.stands else None, self.shown, self.vehicle, self.since)


def judge(bikes: dict[tuple[str, str], Bike], key: tuple[str, str], w: Winner, end: int, epoch: Epoch) -> Verdict:
    """Judges the winner of one (tick, operator, bike) and changes the bike's state."""
    bike = bikes.get(key)
    if bike is not None and end - bike.fix_ts > 2 * epoch.bike.ttl_ms:
        bike = None
    if bike is not None:
        refusal = _refusal(bike, w, epoch.bike.max_speed_mm_s)
        if refusal is not None:
            heard = (city_of(epoch.cities, w.at) or "") if refusal == "teleport" else None
            return Verdict(refusal, heard=heard)
    new = bike is None
    if bike is None:
        bike = bikes[key] = Bike(*key)
    verdict = Verdict("accepted", heard=city_of(epoch.cities, w.at) or "")
    before, city_before = bike.seen(), bike.city
    bike.candidate = None
    bike.rode = bike.rode or w.rode
    _settle(bike, w, new)
    bike.fix_ts, bike.fix_at, bike.fix_state = w.ts, w.at, w.state
    bike.vehicle = w.vehicle or bike.vehicle
    bike.shown = w.state or (1 if bike.stands else ON_TRIP)
    bike.city = city_of(epoch.cities, bike.place if bike.stands else w.at)
    if new or bike.seen() != before or w.ts - bike.published >= 3_600_000:
        _publish(verdict, bike, w, None if new else city_before)
    return verdict


def _refusal(bike: Bike, w: Winner, max_speed: int) -> str | None:
    if w.ts <= bike.fix_ts:
        same = (w.at, w.state) == (bike.fix_at, bike.fix_state)
        return "duplicate" if same else "out_of_order"
    limit = min(max_speed * (w.ts - bike.fix_ts) // 1000, 200_000_000)
    if near(bike.fix_at, w.at, limit):
        return None
    if bike.candidate is not None:
        ts, at = bike.candidate
        if w.ts == ts:
            return "duplicate"
        if near(at, w.at, 200_000):
            return None
    bike.candidate = (w.ts, w.at)
    return "teleport"


def _settle(bike: Bike, w: Winner, new: bool) -> None:
    """Where it stands, and since when."""
    accuracy = w.accuracy or DEFAULT_ACCURACY
    radius = min(100_000, max(50_000, 2 * accuracy))
    within = not new and near(bike.place, w.at, radius)
    cls, old = CLASS[w.state], None if new else CLASS[bike.fix_state]
    untouched = within and not w.rode and not w.touched
    if cls == "P" or (cls == "U" and bike.stands):
        if bike.stands and untouched:
            return _hold(bike, w, accuracy)
        if cls == "P":
            _move(bike, w, accuracy)
            bike.stands, bike.since, bike.idle_since = True, w.ts, w.ts
            return None
    if cls == "U":
        if untouched and not bike.stands and old == "U":
            if w.ts - bike.idle_since >= 60_000:
                _move(bike, w, accuracy)
                bike.stands, bike.since = True, bike.idle_since
            return None
        _move(bike, w, accuracy)
        return _unsettle(bike, w, anew=new or bike.stands or old != "U")
    if not within:
        _move(bike, w, accuracy)
        return _unsettle(bike, w, anew=new or bike.stands or old != cls)
    if old != cls or w.touched or (cls == "A" and w.rode):
        return _unsettle(bike, w, anew=bike.stands or old != cls)
    if not bike.stands and w.ts - bike.idle_since >= 1_200_000:
        bike.stands, bike.since, bike.history = True, bike.idle_since, []
    return None


def _move(bike: Bike, w: Winner, accuracy: int) -> None:
    bike.place, bike.place_accuracy, bike.history = w.at, accuracy, []


def _unsettle(bike: Bike, w: Winner, anew: bool) -> None:
    bike.idle_since = w.ts
    bike.since = w.ts if anew else bike.since
    bike.stands = False


def _hold(bike: Bike, w: Winner, accuracy: int) -> None:
    if 2 * accuracy <= bike.place_accuracy:
        return _move(bike, w, accuracy)
    if near(bike.place, w.at, 15_000):
        bike.history = []
        return None
    if len(bike.history) == 2:
        first, second = bike.history
        if near(first, second, 15_000) and near(first, w.at, 15_000) and near(second, w.at, 15_000):
            return _move(bike, w, accuracy)
    bike.history = [*bike.history, w.at][-2:]
    return None


def _publish(verdict: Verdict, bike: Bike, w: Winner, city_before: str | None) -> None:
    if bike.city is not None:
        at = bike.place if bike.stands else w.at
        verdict.facts[bike.city] = Fact(
            bike.operator, bike.bike, at, bike.stands, bike.shown, bike.vehicle, bike.rode, bike.since, w.ts
        )
    if city_before is not None and city_before != bike.city:
        verdict.facts[city_before] = Fact(bike.operator, bike.bike, w.at, False, ELSEWHERE, bike.vehicle, bike.rode, w.ts, w.ts)
    bike.published, bike.rode = w.ts, False
