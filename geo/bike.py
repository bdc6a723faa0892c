"""The bike: where it stands since when, judged fix by fix. docs/semantics.md, section 4, is the law of this file.

A wave is n winners of n different bikes: each the newest fix of its bike in its tick. `judge` takes the bikes' rows as
they were and the winners, changes the rows (the caller gave copies), and says what became of each and what the cities
are to be told. Everything is elementwise: bike i never looks at bike j, so how winners are cut into waves decides nothing.

    refused      duplicate, out_of_order, teleport             _refuse
    held         a parked bike seen near its place stays       _hold
    not held     it settles, drifts, stirs, or dozes off       _move
    told         what a city does not know yet                 _tell
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geo.frame import OUTCOMES
from geo.geodesy import distance2_mm2, near
from geo.params import BikeParams
from geo.rows import BIKE, Flags, Indices, Rows, Told, Verdict, Winners, put
from geo.states import AVAILABLE, AWAY, CLASS_OF, ELSEWHERE, MOVING, NO_VEHICLE, ON_TRIP, PARKED, STATES, UNKNOWN, UNREPORTED

ACCEPTED, DUPLICATE, OUT_OF_ORDER, TELEPORT = map(OUTCOMES.index, ("accepted", "duplicate", "out_of_order", "teleport"))

DEFAULT_ACCURACY_MM = 15_000
LEAST_HOLD_MM, GREATEST_HOLD_MM = 50_000, 100_000
AGREEING_MM = 15_000  # fixes this near to each other mean the same spot
CONFIRMING_MM = 200_000
STATUSLESS_STANDS_MS = 60_000
IDLE_STANDS_MS = 1_200_000
AGAIN_MS = 3_600_000
FARTHEST_MM = 200_000_000  # above any clamped distance: a fix this late may be anywhere

_SHOWN = np.array([range(len(STATES))] * 2, dtype=np.uint8)  # [stands, reported state]
_SHOWN[:, UNREPORTED] = ON_TRIP, AVAILABLE

CityOf = Callable[[NDArray[np.int32], NDArray[np.int32]], NDArray[np.int16]]
"""(lat, lng) in 1e-7 degrees -> index + 1 into Timeline.cities, 0 for elsewhere; elementwise."""


def judge(bikes: Rows, fixes: Winners, params: BikeParams, city_of: CityOf) -> Verdict:
    """Judge n winners by the rows of their bikes, BIKE (n,), which are brought up to date in place."""
    outcome = _refuse(bikes, fixes, params)
    index = np.flatnonzero(outcome == ACCEPTED)
    if len(index) == len(outcome):
        heard = city_of(fixes.lat, fixes.lng)
        return Verdict(outcome, heard, _accept(bikes, fixes, heard, index))
    spoke = np.flatnonzero((outcome == ACCEPTED) | (outcome == TELEPORT))
    heard = np.full(len(outcome), -1, dtype=np.int16)
    heard[spoke] = city_of(fixes.lat[spoke], fixes.lng[spoke])
    rows = bikes.take(index)
    told = _accept(rows, fixes.take(index), heard[index], index)
    put(bikes, index, rows)
    return Verdict(outcome, heard, told)


def _refuse(bikes: Rows, fixes: Winners, params: BikeParams) -> NDArray[np.uint8]:
    """Steps 1 to 3: forget the bikes that are as good as new, and refuse what cannot be believed. uint8 (n,)."""
    ts = bikes["ts"].copy()
    forgotten = (fixes.end - ts > 2 * params.ttl_ms) & (ts != 0)
    if forgotten.any():
        index = np.flatnonzero(forgotten)
        put(bikes, index, np.zeros(len(index), dtype=BIKE))
        ts[index] = 0
    outcome = np.full(len(bikes), ACCEPTED, dtype=np.uint8)
    stale = fixes.ts <= ts
    if stale.any():
        same = (bikes["lat"] == fixes.lat) & (bikes["lng"] == fixes.lng) & (bikes["state"] == fixes.state)
        outcome[stale] = np.where(same, DUPLICATE, OUT_OF_ORDER)[stale]
    limit = np.minimum(params.max_speed_mm_s * (fixes.ts - ts) // 1000, FARTHEST_MM)
    far = distance2_mm2(bikes["lat"], bikes["lng"], fixes.lat, fixes.lng) > limit * limit
    far &= ~stale
    far &= ts != 0
    if far.any():
        index = np.flatnonzero(far)
        outcome[index] = _suspect(bikes, fixes.take(index), index)
    return outcome


def _suspect(bikes: Rows, fixes: Winners, index: Indices) -> NDArray[np.uint8]:
    """Fixes too far to believe: a second one near the first confirms it, unless it is but a copy. uint8 (m,)."""
    rows = bikes.take(index)
    waiting = rows["candidate_ts"] != 0
    copy = waiting & (rows["candidate_ts"] == fixes.ts)
    confirmed = waiting & near(rows["candidate_lat"], rows["candidate_lng"], fixes.lat, fixes.lng, CONFIRMING_MM)
    outcome = np.where(copy, DUPLICATE, np.where(confirmed, ACCEPTED, TELEPORT)).astype(np.uint8)
    new = outcome == TELEPORT
    for name in ("ts", "lat", "lng"):
        rows["candidate_" + name][new] = getattr(fixes, name)[new]
    put(bikes, index, rows)
    return outcome


def _accept(rows: Rows, fixes: Winners, city: NDArray[np.int16], index: Indices) -> Told:
    """Steps 4 to 7 of accepted fixes; city is that of the fix, index the winners' own numbers. Changes the rows."""
    before = _Before.of(rows)
    gap2 = distance2_mm2(before.place_lat, before.place_lng, fixes.lat, fixes.lng)
    accuracy = np.where(fixes.accuracy == 0, np.int32(DEFAULT_ACCURACY_MM), fixes.accuracy)
    doubled = np.multiply(accuracy, 2, dtype=np.int64)
    radius = np.clip(doubled, LEAST_HOLD_MM, GREATEST_HOLD_MM)
    within = gap2 <= radius * radius
    within &= ~before.new
    held = within & before.stands & ~(fixes.rode | fixes.touched) & (CLASS_OF[fixes.state] <= PARKED)
    loose = np.flatnonzero(~held)
    if loose.size:
        part = rows.take(loose)
        _move(part, fixes.take(loose), accuracy[loose], city[loose], within[loose])
        put(rows, loose, part)
    at_place = gap2 <= AGREEING_MM**2
    wandering = held & ~(at_place & (rows["history"] == 0) & (doubled > rows["place_accuracy"]))
    strays = np.flatnonzero(wandering)
    if strays.size:
        part = rows.take(strays)
        _hold(part, fixes.take(strays), accuracy[strays], city[strays], at_place[strays])
        put(rows, strays, part)
    _remember(rows, fixes)
    return _tell(rows, fixes, city, before, index)


def _move(rows: Rows, fixes: Winners, accuracy: NDArray[np.int32], city: NDArray[np.int16], within: Flags) -> None:
    """Step 4 of fixes that are not held. The place moves, or the bike's rest is disturbed, or it dozes off, or nothing."""
    new, stood = rows["ts"] == 0, rows["stands"].copy()
    kind = CLASS_OF[fixes.state]
    other = new | (CLASS_OF[rows["state"]] != kind)  # the class is not that of the fix before
    idle = fixes.ts - rows["idle_since"]
    parked, unknown, gone = kind == PARKED, kind == UNKNOWN, kind >= MOVING
    lingers = unknown & within & ~(fixes.rode | fixes.touched | stood | other)
    ripens = lingers & (idle >= STATUSLESS_STANDS_MS)
    drifts = (unknown & ~lingers) | (gone & ~within)
    stirs = gone & within & (other | fixes.touched | ((kind == AWAY) & fixes.rode))
    dozes = gone & within & ~stirs & ~stood & (idle >= IDLE_STANDS_MS)

    _place(rows, fixes, accuracy, city, parked | ripens | drifts)
    rows["history"][dozes] = 0
    rows["stands"] = (stood | parked | ripens | dozes) & ~(drifts | stirs)
    since = np.where(ripens | dozes, rows["idle_since"], rows["since"])
    rows["since"] = np.where(parked | ((drifts | stirs) & (stood | other)), fixes.ts, since)
    np.copyto(rows["idle_since"], fixes.ts, where=parked | drifts | stirs)


def _hold(rows: Rows, fixes: Winners, accuracy: NDArray[np.int32], city: NDArray[np.int16], at_place: Flags) -> None:
    """Step 4 of held fixes: the place moves only for a fix twice as good, or if three in a row agree on another one."""
    better = 2 * accuracy.astype(np.int64) <= rows["place_accuracy"]
    old_lat, old_lng, lat, lng = (rows[name].copy() for name in ("older_lat", "older_lng", "newer_lat", "newer_lng"))
    agree = (
        (rows["history"] == 2)
        & near(old_lat, old_lng, lat, lng, AGREEING_MM)
        & near(old_lat, old_lng, fixes.lat, fixes.lng, AGREEING_MM)
        & near(lat, lng, fixes.lat, fixes.lng, AGREEING_MM)
    )
    joins = ~(better | at_place | agree)
    for axis, last, fix in (("lat", lat, fixes.lat), ("lng", lng, fixes.lng)):
        np.copyto(rows["older_" + axis], last, where=joins)
        np.copyto(rows["newer_" + axis], fix, where=joins)
    rows["history"] = np.where(joins, np.minimum(rows["history"] + 1, 2), 0)
    _place(rows, fixes, accuracy, city, better | (agree & ~at_place))


def _place(rows: Rows, fixes: Winners, accuracy: NDArray[np.int32], city: NDArray[np.int16], where: Flags) -> None:
    """The place of some bikes becomes the fix, and the history begins anew."""
    np.copyto(rows["place_lat"], fixes.lat, where=where)
    np.copyto(rows["place_lng"], fixes.lng, where=where)
    np.copyto(rows["place_accuracy"], accuracy, where=where)
    np.copyto(rows["place_city"], city, where=where)
    rows["history"][where] = 0


def _remember(rows: Rows, fixes: Winners) -> None:
    """Step 5: the fix is the newest accepted one, and the candidate is dropped."""
    rows["candidate_ts"] = 0
    rows["ts"] = fixes.ts
    rows["lat"] = fixes.lat
    rows["lng"] = fixes.lng
    rows["state"] = fixes.state
    np.copyto(rows["vehicle"], fixes.vehicle, where=fixes.vehicle != NO_VEHICLE)
    rows["rode"] |= fixes.rode


@dataclass(slots=True)
class _Before:
    """What the cities could know of n bikes before their fixes: compared with after, it says whether to tell."""

    new: Flags
    stands: Flags
    state: NDArray[np.uint8]  # as shown
    vehicle: NDArray[np.uint8]
    city: NDArray[np.int16]
    place_lat: NDArray[np.int32]
    place_lng: NDArray[np.int32]
    since: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Rows) -> _Before:
        names = ("stands", "vehicle", "city", "place_lat", "place_lng", "since")
        return cls(new=rows["ts"] == 0, state=_shown(rows), **{name: rows[name].copy() for name in names})

    def differs(self, rows: Rows, state: NDArray[np.uint8], city: NDArray[np.int16]) -> Flags:
        moved: Flags = (rows["place_lat"] != self.place_lat) | (rows["place_lng"] != self.place_lng)
        moved &= rows["stands"]
        moved |= self.new
        moved |= city != self.city
        moved |= rows["stands"] != self.stands
        moved |= state != self.state
        moved |= rows["vehicle"] != self.vehicle
        moved |= rows["since"] != self.since
        return moved


def _tell(rows: Rows, fixes: Winners, fix_city: NDArray[np.int16], before: _Before, index: Indices) -> Told:
    """Steps 6 and 7: what is told to the city that the bike is in, and to the one that it has left."""
    state = _shown(rows)
    city = np.where(rows["stands"], rows["place_city"], fix_city)
    tell = before.differs(rows, state, city)
    tell |= fixes.ts - rows["published_ts"] >= AGAIN_MS
    chosen = np.flatnonzero(tell)
    part, fix = rows.take(chosen), fixes.take(chosen)
    now, left = city[chosen], before.city[chosen]
    stands = part["stands"].copy()
    here = Told(
        winner=index[chosen],
        city=now,
        lat=np.where(stands, part["place_lat"], fix.lat),
        lng=np.where(stands, part["place_lng"], fix.lng),
        stands=stands,
        state=state[chosen],
        vehicle=part["vehicle"].copy(),
        rode=part["rode"].copy(),
        since=part["since"].copy(),
        version=fix.ts,
    )
    part["city"] = now
    part["published_ts"] = fix.ts
    part["rode"] = False
    put(rows, chosen, part)
    gone = np.flatnonzero((left != 0) & (left != now))
    told = here if now.all() else here.take(np.flatnonzero(now))
    return Told.concatenate((told, _farewell(here.take(gone), left[gone], fix.take(gone)))) if gone.size else told


def _farewell(facts: Told, city: NDArray[np.int16], fixes: Winners) -> Told:
    """The facts that tell the city a bike has left that it is elsewhere."""
    return replace(
        facts,
        city=city,
        lat=fixes.lat,
        lng=fixes.lng,
        stands=np.zeros(len(city), dtype=np.bool_),
        state=np.full(len(city), ELSEWHERE, dtype=np.uint8),
        since=fixes.ts,
    )


def _shown(rows: Rows) -> NDArray[np.uint8]:
    """The state to show: as reported, or what standing says of a bike that reports none. uint8 (n,)."""
    shown: NDArray[np.uint8] = _SHOWN.take(rows["stands"] * np.uint8(len(STATES)) + rows["state"])
    return shown
