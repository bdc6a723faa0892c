"""Most pings say only that a bike stands where it stood. Whoever sees that at one look need not judge it.

This decides nothing of its own: what it takes is what `geo.bike.judge` would accept with no other consequence than that the
newest fix is a newer one. All others it leaves to judge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geo.bike import AGAIN_MS, DEFAULT_ACCURACY_MM
from geo.compiled import compiled
from geo.memory import Memory
from geo.params import BikeParams
from geo.records import Fixes
from geo.rows import Rows, Verdict
from geo.states import CLASS_OF, NO_VEHICLE, PARKED
from geo.ticks import Newest


def pass_over(memory: Memory, fixes: Fixes, found: Newest, params: BikeParams, tick_ms: int, verdict: Verdict) -> Newest:
    """Take the winners that say nothing new: their bikes' rows and their places in the verdict are brought up to date. Gives the
    others, and all that come after one of these of the same bike.
    """
    left = np.empty(len(found.rows), dtype=np.bool_)
    _pass_over(
        *(memory.hot, fixes.slot, fixes.tick, fixes.ts, fixes.lat, fixes.lng, fixes.accuracy, fixes.state, fixes.vehicle),
        *(found.rows, found.marks, tick_ms, 2 * params.ttl_ms, AGAIN_MS, DEFAULT_ACCURACY_MM, NO_VEHICLE, CLASS_OF <= PARKED),
        *(verdict.outcome, verdict.heard, memory.scratch, left),
    )
    return found.take(left)


_AT_A_TIME = 64


@compiled
def _pass_over(
    bikes: Rows,
    slot: NDArray[np.int64],
    tick: NDArray[np.int64],
    ts: NDArray[np.int64],
    lat: NDArray[np.int32],
    lng: NDArray[np.int32],
    accuracy: NDArray[np.int32],
    state: NDArray[np.uint8],
    vehicle: NDArray[np.uint8],
    rows: NDArray[np.int64],
    marks: NDArray[np.uint8],
    tick_ms: int,
    forgotten_ms: int,
    again_ms: int,
    default_mm: int,
    no_vehicle: int,
    parked: NDArray[np.bool_],
    outcome: NDArray[np.uint8],
    heard: NDArray[np.int16],
    stirred: NDArray[np.int32],
    left: NDArray[np.bool_],
) -> int:
    """Fills outcome and heard where nothing is new, and left, bool (winners,). Gives a sum that means nothing."""
    touched = np.int64(0)
    for begin in range(0, len(rows), _AT_A_TIME):
        end = min(begin + _AT_A_TIME, len(rows))
        # So short a loop has the rows of many bikes fetched from memory at once; the longer one below would wait for each few. It
        # is not left out by the compiler because somebody gets the sum.
        for i in range(begin, end):
            touched += bikes[slot[rows[i]]]["ts"]
        for i in range(begin, end):
            fix = rows[i]
            bike = bikes[slot[fix]]
            doubled = 2 * np.int64(accuracy[fix] if accuracy[fix] != 0 else default_mm)
            newer = (bike["ts"] != 0) & ((tick[fix] + 1) * tick_ms - bike["ts"] <= forgotten_ms)
            still = (lat[fix] == bike["lat"]) & (lng[fix] == bike["lng"])
            at_place = (lat[fix] == bike["place_lat"]) & (lng[fix] == bike["place_lng"]) & bike["stands"]
            no_better = (bike["history"] == 0) & (doubled > bike["place_accuracy"])
            same_state = (state[fix] == bike["state"]) & parked[state[fix]] & (marks[i] == 0)
            same_vehicle = (vehicle[fix] == no_vehicle) | (vehicle[fix] == bike["vehicle"])
            known = (bike["city"] == bike["place_city"]) & (ts[fix] - bike["published_ts"] < again_ms)
            left[i] = not (newer & still & at_place & no_better & same_state & same_vehicle & known)
        for i in range(begin, end):
            fix = rows[i]
            bike = bikes[slot[fix]]
            if left[i] or stirred[slot[fix]] >= 0 or ts[fix] <= bike["ts"]:
                stirred[slot[fix]] = 0
                left[i] = True
                continue
            bike["ts"] = ts[fix]
            bike["candidate_ts"] = 0
            outcome[fix] = 0
            heard[fix] = bike["place_city"]
    for i in range(len(rows)):
        stirred[slot[rows[i]]] = -1
    return int(touched)
