"""Words of MDS 2.0 that the core knows, and their codes. docs/semantics.md, section 1, is the source of every table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STATES = (
    "unreported",
    "available",
    "reserved",
    "non_operational",
    "non_contactable",
    "on_trip",
    "removed",
    "missing",
    "elsewhere",
)
"""MDS vehicle states; the index is the code. `unreported` is ours: the ping named none."""

UNREPORTED, AVAILABLE, RESERVED, NON_OPERATIONAL, NON_CONTACTABLE, ON_TRIP, REMOVED, MISSING, ELSEWHERE = range(9)

UNKNOWN, PARKED, MOVING, AWAY = range(4)
"""Classes of states (U, P, M, A in docs/semantics.md): what the state says of whether the bike stands."""

CLASS_OF: NDArray[np.uint8] = np.array([UNKNOWN, PARKED, PARKED, PARKED, PARKED, MOVING, AWAY, AWAY, AWAY], dtype=np.uint8)
"""uint8 (len(STATES),): class by state code."""

VEHICLES = (
    "none",
    "bicycle",
    "cargo_bicycle",
    "scooter_standing",
    "scooter_seated",
    "moped",
    "motorcycle",
    "car",
    "bus",
    "delivery_robot",
    "other",
)
"""MDS vehicle types; the index is the code. 0: the ping named none. What is not listed is `other`."""

NO_VEHICLE = 0
OTHER_VEHICLE = VEHICLES.index("other")

TOUCHING = frozenset(
    (
        "locked",
        "unlocked",
        "lock",
        "unlock",
        "pick_up",
        "drop_off",
        "trip_start",
        "trip_end",
        "trip_cancel",
        "maintenance_pick_up",
        "maintenance_drop_off",
        "rebalance_pick_up",
        "rebalance_drop_off",
        "compliance_pick_up",
        "compliance_drop_off",
        "agency_pick_up",
        "agency_drop_off",
        "provider_drop_off",
        "provider_pick_up",
        "charge_pick_up",
        "charge_drop_off",
    )
)
"""Events at which somebody had their hands on the bike: they end a hold."""
