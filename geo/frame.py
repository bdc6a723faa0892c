"""What stage one tells stage two: facts, never deltas. Arrays and values; their bytes are made in `streams/frames.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

OUTCOMES = (
    "accepted",
    "malformed",
    "unknown_operator",
    "future",
    "stale",
    "inaccurate",
    "superseded",
    "duplicate",
    "out_of_order",
    "teleport",
    "internal_error",
)
"""What can become of a ping; the index is its code. docs/semantics.md says which is when."""

QUARANTINED = ("malformed", "unknown_operator", "future", "internal_error")


@dataclass(slots=True)
class Facts:
    """n facts, one row each: where a bike stands since when, or that it stands nowhere.

    operator   int16 (n,)  index into Timeline.operators
    ids        n bike ids
    lat, lng   int32 (n,)  1e-7 degrees: the place where it stands, else its newest fix
    stands     bool (n,)
    state      uint8 (n,)  code of geo.states
    vehicle    uint8 (n,)  code of geo.states
    rode       bool (n,)   was on a trip since the fact before
    since      int64 (n,)  ms
    version    int64 (n,)  ms, device time of the newest accepted fix
    """

    operator: NDArray[np.int16]
    ids: list[str]
    lat: NDArray[np.int32]
    lng: NDArray[np.int32]
    stands: NDArray[np.bool_]
    state: NDArray[np.uint8]
    vehicle: NDArray[np.uint8]
    rode: NDArray[np.bool_]
    since: NDArray[np.int64]
    version: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def none(cls) -> Facts:
        """No fact at all."""
        e7, flags, codes, ms = (np.zeros(0, np.int32), np.zeros(0, np.bool_), np.zeros(0, np.uint8), np.zeros(0, np.int64))
        return cls(np.zeros(0, np.int16), [], e7, e7, flags, codes, codes, flags, ms, ms)


DocumentKind = Literal["policy", "response"]


@dataclass(frozen=True, slots=True)
class Document:
    """What a control topic says to a city: a policy, or its withdrawal, or an operator's response to an alert.

    sender: index into Timeline.operators of whose topic it came from, -1 if it is the city's own.
    body: the record's value, of a response what `geo.responses` reads. place: its offset in its topic's partition: the order within a source.
    """

    kind: DocumentKind
    sender: int
    body: bytes
    place: int


@dataclass(slots=True)
class Section:
    """One city's part of a frame. heard: int64 (operators,), winners with a newer device time, by Timeline.operators.

    documents: in the order of the log. A feed has none, a control topic has no facts and hears nobody.
    """

    facts: Facts
    heard: NDArray[np.int64]
    documents: tuple[Document, ...] = ()

    @classmethod
    def of_documents(cls, documents: tuple[Document, ...], operators: int) -> Section:
        """What a control topic says of one city; operators: how many the timeline has."""
        return cls(Facts.none(), np.zeros(operators, np.int64), documents)


@dataclass(slots=True)
class Frame:
    """What one source says of one non-empty tick, and that it is complete through it.

    previous: the source's non-empty tick before this one, -1 if there was none: the city refuses to pass a gap.
    sections: by city name, only of cities that something is said of.
    outcomes: int64 (operators + 1, len(OUTCOMES)); the last row is of operators that are not known.
    """

    source: int  # index among all (topic, partition) of the configuration, in order
    tick: int
    previous: int
    sections: dict[str, Section]
    outcomes: NDArray[np.int64]
