"""The feed of the benchmarks: a gateway's pings of a city's bikes, the same for the same plan, with a known answer.

Three operators, one ping of each bike every 50 s on average (a million bikes: 20,000 pings/s):

    resting bikes   88.6 %   stand for ever, a ping a minute
    movers          11.4 %   480 s between two places: 160 s of riding with a ping every 10 s, then 320 s of standing

So 80 % of the pings are of a bike that stands where it stood, *at exactly the same position*, and 20 % are of one that
moved: 4,000 a second at a million bikes, of which 476 change what the city knows (a trip begins or ends). Some movers
belong to a crowd: all ride to one cell within a minute, which then holds too many. No bike is faster than 10 m/s, no ride
is shorter than 300 m, no two pings of a bike are in one tick: every ping is accepted and no hold is in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import h3.api.basic_int as h3
import numpy as np
from numpy.typing import NDArray

OPERATORS = ("alpha", "bravo", "delta")  # of equal length: a ping is written as columns of bytes
SHARES = (0.5, 0.3, 0.2)
SOUTH, WEST, NORTH, EAST = 39.75, 116.15, 40.10, 116.65  # where bikes begin; rides may leave it by a kilometre
START_MS = 1_700_000_040_000  # a full minute, and a tick's begin
PER_HECTARE = 8
RESOLUTION = 9

REST_PERIOD_S = 60
CYCLE_S, RIDE_S = 480, 160
RIDE_OFFSETS = tuple(range(0, RIDE_S, 10))
STAND_OFFSETS = tuple(range(RIDE_S, CYCLE_S, 60))
OFFSETS = (*RIDE_OFFSETS, *STAND_OFFSETS)
MOVERS_SHARE = 4 / 35  # so that a bike sends a ping every 50 s on average
WARM_S = 60  # after so long each bike was heard at least once
CROWD, CROWDS_PER_MILLION = 90, 150

_METRES = 111_195.0
_HEAD = (
    '{"bike_id":"b0000000","operator":"alpha","ts":1700000000000,"lat":39.0000000,"lng":116.0000000,"accuracy":05,"status":"'
)
# A NUL stands where a shorter text has nothing; the last thing that happens to a ping is that they are taken out.
_PARKED, _RIDING = b'available"}\n', b'on_trip"}\n\0\0'
_ID, _OPERATOR, _TS, _LAT, _LNG, _ACCURACY = (_HEAD.index(s) for s in ("0000000", "alpha", "1700", "39.", "116.", '05,"s'))

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pings:
    """n pings of n different bikes. ms: within their second, ascending; lat, lng: 1e-7 degrees."""

    bike: Ints
    ms: Ints
    lat: Ints
    lng: Ints
    riding: NDArray[np.bool_]


class World:
    """All bikes. Movers come first; within movers and resting bikes the index rises with the phase, the id is random."""

    def __init__(self, bikes: int = 1_000_000, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.bikes, self.movers, self._seed = bikes, round(bikes * MOVERS_SHARE), seed
        self.number = rng.permutation(bikes)
        self.operator = rng.choice(len(SHARES), bikes, p=SHARES)
        self.phase = np.concatenate(
            (rng.integers(0, CYCLE_S, self.movers), rng.integers(0, REST_PERIOD_S, bikes - self.movers))
        )
        # Where a bike is at first, and where a mover goes to.
        self.home = _e7(rng.uniform(SOUTH, NORTH, bikes), rng.uniform(WEST, EAST, bikes))
        self.away = _beside(self.home[: self.movers], rng, 300.0, 1_200.0)
        self._gather(rng)
        for part in (slice(0, self.movers), slice(self.movers, bikes)):
            order = np.argsort(self.phase[part], kind="stable")
            for column in (self.operator, self.phase, self.home):
                column[part] = column[part][order]
            if part.start == 0:
                self.away = self.away[order]
        self._ends = [np.searchsorted(self.phase[: self.movers], np.arange(CYCLE_S + 1))]
        self._ends.append(np.searchsorted(self.phase[self.movers :], np.arange(REST_PERIOD_S + 1)) + self.movers)
        self._template = self._render_template(rng)

    def _gather(self, rng: np.random.Generator) -> None:
        """Crowds: of every second one the bikes are there at first and leave, the others come."""
        crowds = max(4, round(CROWDS_PER_MILLION * self.bikes / 1_000_000))
        for crowd in range(min(crowds, self.movers // CROWD)):
            members = slice(crowd * CROWD, (crowd + 1) * CROWD)
            cell = h3.latlng_to_cell(rng.uniform(SOUTH, NORTH), rng.uniform(WEST, EAST), RESOLUTION)
            lat, lng = h3.cell_to_latlng(cell)
            spot = _e7(lat + rng.uniform(-60, 60, CROWD) / _METRES, lng + rng.uniform(-60, 60, CROWD) / _METRES)
            there, elsewhere = (self.home, self.away) if crowd % 2 else (self.away, self.home)
            there[members] = spot
            elsewhere[members] = _beside(spot, rng, 400.0, 1_000.0)
            self.operator[members] = crowd % len(OPERATORS)
            self.phase[members] = (crowd * CYCLE_S // crowds + rng.integers(0, 60, CROWD)) % CYCLE_S

    def per_second(self) -> float:
        """Pings a second, on average."""
        return self.movers * len(OFFSETS) / CYCLE_S + (self.bikes - self.movers) / REST_PERIOD_S

    def second(self, s: int) -> Pings:
        """The pings of a second of the stream, in order of time."""
        rng = np.random.default_rng((self._seed, s))
        bikes, lats, lngs, riding = [], [], [], []
        for offset in OFFSETS:
            phase = (s - offset) % CYCLE_S
            index = np.arange(self._ends[0][phase], self._ends[0][phase + 1])
            start, end = self._way(index, (s - offset - phase) // CYCLE_S)
            at = start + (end - start) * min(offset, RIDE_S) // RIDE_S
            bikes.append(index)
            lats.append(at[:, 0])
            lngs.append(at[:, 1])
            riding.append(np.full(len(index), offset < RIDE_S))
        index = np.arange(self._ends[1][s % REST_PERIOD_S], self._ends[1][s % REST_PERIOD_S + 1])
        bike = np.concatenate((*bikes, index))
        order = rng.permutation(len(bike))
        return Pings(
            bike=bike[order],
            ms=np.sort(rng.integers(0, 1000, len(bike))),
            lat=np.concatenate((*lats, self.home[index, 0]))[order],
            lng=np.concatenate((*lngs, self.home[index, 1]))[order],
            riding=np.concatenate((*riding, np.zeros(len(index), np.bool_)))[order],
        )

    def _way(self, movers: Ints, cycle: int) -> tuple[Ints, Ints]:
        """From where to where they ride in a cycle: there and back."""
        home, away = self.home[movers], self.away[movers]
        return (away, home) if cycle % 2 else (home, away)

    def everyone(self) -> Pings:
        """One ping of every bike, as they are at second 0: how a live feed begins."""
        movers = np.arange(self.movers)
        since = -self.phase[: self.movers] % CYCLE_S
        start, end = self._way(movers, -1)
        done = np.minimum(since // 10 * 10, RIDE_S)[:, None]
        first = self.phase[: self.movers] == 0  # their ride out begins now
        at = np.where(first[:, None], self.home[: self.movers], start + (end - start) * done // RIDE_S)
        place = np.concatenate((at, self.home[self.movers :]))
        riding = np.concatenate((since < RIDE_S, np.zeros(self.bikes - self.movers, np.bool_)))
        order = np.random.default_rng(self._seed).permutation(self.bikes)
        ms = np.zeros(self.bikes, np.int64)
        return Pings(order, ms, place[order, 0], place[order, 1], riding[order])

    def values(self, pings: Pings, device_ms: Ints) -> list[bytes]:
        """The pings as JSON."""
        rows = self._template[pings.bike]
        rows[:, _TS : _TS + 13] = _digits(device_ms, 13)
        mover = np.flatnonzero(pings.bike < self.movers)
        part = rows[mover]
        _write_position(part, pings.lat[mover], pings.lng[mover])
        part[:, len(_HEAD) :] = np.where(
            pings.riding[mover, None], np.frombuffer(_RIDING, np.uint8), np.frombuffer(_PARKED, np.uint8)
        )
        rows[mover] = part
        return rows.tobytes().translate(None, b"\0").split(b"\n")[:-1]

    def keys(self, pings: Pings) -> list[bytes]:
        rows = np.ascontiguousarray(self._template[pings.bike, _ID - 1 : _ID + 7])
        return rows.view("S8").ravel().tolist()

    def _render_template(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The ping of each bike at its home, without the time: uint8 (bikes, bytes of the longest)."""
        rows = np.tile(np.frombuffer(_HEAD.encode() + _PARKED, np.uint8), (self.bikes, 1))
        rows[:, _ID : _ID + 7] = _digits(self.number, 7)
        names = np.array([list(name.encode()) for name in OPERATORS], np.uint8)
        rows[:, _OPERATOR : _OPERATOR + names.shape[1]] = names[self.operator]
        rows[:, _ACCURACY : _ACCURACY + 2] = _digits(rng.integers(3, 26, self.bikes), 2)
        rows[rows[:, _ACCURACY] == ord("0"), _ACCURACY] = 0
        _write_position(rows, self.home[:, 0], self.home[:, 1])
        return rows


def seconds(world: World, count: int) -> Iterator[tuple[int, Pings, Ints]]:
    """(second, its pings, their device times relative to the start, ms): phones need 0.1 to 1.5 s to get through."""
    for s in range(count):
        pings = world.second(s)
        yield s, pings, s * 1000 + pings.ms - np.random.default_rng((s, 7)).integers(100, 1500, len(pings.ms))


def _e7(lat: NDArray[np.float64], lng: NDArray[np.float64]) -> Ints:
    return np.rint(np.stack((lat, lng), axis=1) * 1e7).astype(np.int64)


def _beside(places: Ints, rng: np.random.Generator, least_m: float, most_m: float) -> Ints:
    """A place in some direction from each, so far away."""
    distance, angle = rng.uniform(least_m, most_m, len(places)), rng.uniform(0, 2 * np.pi, len(places))
    north, east = np.cos(angle) * distance / _METRES, np.sin(angle) * distance / (_METRES * np.cos(np.radians(40)))
    return places + np.rint(np.stack((north, east), axis=1) * 1e7).astype(np.int64)


_FOUR = np.frombuffer("".join(f"{i:04d}" for i in range(10_000)).encode(), np.uint8).reshape(-1, 4)


def _digits(numbers: Ints, width: int) -> NDArray[np.uint8]:
    """Decimal digits of non-negative numbers, uint8 (n, width)."""
    groups = -(-width // 4)
    out = np.empty((len(numbers), groups * 4), np.uint8)
    rest = numbers
    for group in range(groups - 1, -1, -1):
        rest, low = np.divmod(rest, 10_000)
        out[:, group * 4 : group * 4 + 4] = _FOUR[low]
    return out[:, groups * 4 - width :]


def _write_position(rows: NDArray[np.uint8], lat: Ints, lng: Ints) -> None:
    """Seven decimals, without zeros at the end, as JSON writers do."""
    for at, whole, e7 in ((_LAT, 2, lat), (_LNG, 3, lng)):
        digits = _digits(e7, whole + 7)
        shorter = np.flatnonzero(digits[:, -1] == ord("0"))
        for last in range(whole + 6, whole, -1):
            shorter = shorter[digits[shorter, last] == ord("0")]
            digits[shorter, last] = 0
        rows[:, at : at + whole] = digits[:, :whole]
        rows[:, at + whole + 1 : at + whole + 8] = digits[:, whole:]
