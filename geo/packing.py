"""A source's state as arrays and bytes by name, and back. Numbers of operators, cities and vehicles go with their names.

Hashes of ids differ from process to process and are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from geo.idtable import IdTable
from geo.params import Timeline
from geo.rows import BIKE, Indices, Rows
from geo.states import VEHICLES
from geo.ticks import TickClock

Column = NDArray[np.generic] | bytes
Packed = dict[str, Column]

_WORDS = BIKE.itemsize // 8
_LAYOUT = "\n".join(f"{name} {BIKE[name].str} {BIKE[name].shape}" for name in BIKE.names or ()).encode()


def pack_clock(clock: TickClock) -> Packed:
    resume = -1 if clock.resume_offset is None else clock.resume_offset
    numbers = [clock.tick_ms, clock.through, clock.last_tick, resume, clock.resume_clock]
    return {"clock": np.array(numbers, dtype=np.int64)}


def unpack_clock(packed: Mapping[str, Column], tick_ms: int) -> TickClock:
    """The clock as it stood before the record to resume at."""
    packed_tick_ms, through, last_tick, resume, now_ms = _array(packed, "clock").tolist()
    if packed_tick_ms != tick_ms:
        raise ValueError(
            f"the state was made with a tick of {packed_tick_ms} ms, the configuration says {tick_ms} ms; "
            "the tick can never change within one log"
        )
    return TickClock(tick_ms, now_ms=now_ms, through=through, last_tick=last_tick, next_offset=None if resume < 0 else resume)


def pack_bikes(bikes: IdTable, rows: Rows, keep: NDArray[np.bool_], timeline: Timeline) -> Packed:
    """Of n bikes those to keep, bool (n,). rows: BIKE, of these."""
    return {
        "rows": rows.view(np.int64).reshape(-1, _WORDS),
        "operator": bikes.operators[keep],
        "ids": bikes.packed_ids(keep),
        "layout": _LAYOUT,
        "operators": _names(timeline.operators),
        "cities": _names(timeline.cities),
        "vehicles": _names(VEHICLES),
    }


def unpack_bikes(packed: Mapping[str, Column], timeline: Timeline) -> tuple[IdTable, Rows]:
    """The bikes and their rows. The cities of places are left for the borders in force to say."""
    if packed["layout"] != _LAYOUT:
        raise ValueError("the state was made by another version of the program; read the log again from its start")
    operator = _renumbered(packed, "operators", timeline.operators)[_array(packed, "operator")]
    bikes = IdTable.of(operator.astype(np.int16), _bytes(packed, "ids"))
    rows = np.ascontiguousarray(_array(packed, "rows"), dtype=np.int64).reshape(-1).view(BIKE).copy()
    rows["city"] = np.append(0, _renumbered(packed, "cities", timeline.cities) + 1)[rows["city"]]
    rows["vehicle"] = _renumbered(packed, "vehicles", VEHICLES)[rows["vehicle"]]
    return bikes, rows


def _names(names: Sequence[str]) -> bytes:
    return "\n".join(names).encode()


def _renumbered(packed: Mapping[str, Column], column: str, names: Sequence[str]) -> Indices:
    """New number of each packed name, int64."""
    text = _bytes(packed, column).decode()
    old = text.split("\n") if text else []
    known = {name: i for i, name in enumerate(names)}
    if unknown := [name for name in old if name not in known]:
        raise ValueError(f"the state names {unknown}, which no epoch knows; keep every version of the configuration")
    return np.array([known[name] for name in old], dtype=np.int64)


def _array(packed: Mapping[str, Column], name: str) -> NDArray[np.int64]:
    column = packed[name]
    if isinstance(column, bytes):
        raise TypeError(f"the packed state must hold an array under {name!r}, got bytes")
    return column  # type: ignore[return-value]


def _bytes(packed: Mapping[str, Column], name: str) -> bytes:
    column = packed[name]
    if not isinstance(column, bytes):
        raise TypeError(f"the packed state must hold bytes under {name!r}, got an array")
    return column
