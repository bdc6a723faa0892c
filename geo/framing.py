"""From verdicts to frames: per tick and city what is to be told, and what became of every record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from geo.frame import Facts, Frame, Section
from geo.idtable import IdTable
from geo.params import Timeline
from geo.records import Fixes
from geo.rows import Told, Verdict

Indices = NDArray[np.int64]


def frames(
    *,
    source: int,
    timeline: Timeline,
    ticks: Indices,
    previous: int,
    outcomes: NDArray[np.int64],
    judged: tuple[Fixes, Indices, Verdict] | None,
    bikes: IdTable,
) -> list[Frame]:
    """One frame for each of T ticks.

    outcomes: int64 (T, operators + 1, len(OUTCOMES)) of the records that are not among the judged; completed in place.
    judged: the fixes, the index of each one's tick, and the verdict on them.
    """
    sections: list[dict[str, Section]] = [{} for _ in ticks]
    if judged is not None:
        fixes, at, verdict = judged
        _count(outcomes, fixes, at, verdict)
        heard = _heard(len(ticks), timeline, fixes, at, verdict)
        facts, group = _sorted(fixes, at, verdict.told, len(timeline.cities), bikes)
        _fill(sections, timeline.cities, heard, facts, group)
    before = [previous, *ticks[:-1].tolist()]
    return [
        Frame(source, tick, last, section, counts)
        for tick, last, section, counts in zip(ticks.tolist(), before, sections, outcomes, strict=True)
    ]


def _count(outcomes: NDArray[np.int64], fixes: Fixes, at: Indices, verdict: Verdict) -> None:
    """Add what became of the fit fixes; the others are counted when they are screened."""
    _, operators, codes = outcomes.shape
    cell = (at * operators + fixes.operator) * codes + verdict.outcome
    if not fixes.fit.all():
        cell = cell[fixes.fit]
    outcomes += np.bincount(cell, minlength=outcomes.size).reshape(outcomes.shape)


def _heard(ticks: int, timeline: Timeline, fixes: Fixes, at: Indices, verdict: Verdict) -> NDArray[np.int64]:
    """Winners with a newer device time, int64 (T, cities + 1, operators); city 0 is elsewhere."""
    shape = (ticks, len(timeline.cities) + 1, len(timeline.operators))
    spoke = np.flatnonzero(verdict.heard >= 0)
    cell = (at[spoke] * shape[1] + verdict.heard[spoke]) * shape[2] + fixes.operator[spoke]
    return np.bincount(cell, minlength=shape[0] * shape[1] * shape[2]).reshape(shape)


def _sorted(fixes: Fixes, at: Indices, told: Told, cities: int, bikes: IdTable) -> tuple[Facts, Indices]:
    """All facts in order of tick, city and the log, however they were found, and the tick and city of each as one number."""
    group = at[told.winner] * (cities + 1) + told.city
    order = np.lexsort((fixes.item[told.winner], fixes.offset[told.winner], group))
    told = told.take(order)
    facts = Facts(
        operator=fixes.operator[told.winner],
        ids=bikes.ids(fixes.slot[told.winner]),
        lat=told.lat,
        lng=told.lng,
        stands=told.stands,
        state=told.state,
        vehicle=told.vehicle,
        rode=told.rode,
        since=told.since,
        version=told.version,
    )
    return facts, group[order]


def _fill(
    sections: list[dict[str, Section]], cities: Sequence[str], heard: NDArray[np.int64], facts: Facts, group: Indices
) -> None:
    """Give each (tick, city) that something is said of its section."""
    width = len(cities) + 1
    bounds = np.searchsorted(group, np.arange(len(sections) * width + 1))
    present = heard.any(axis=2) | (np.diff(bounds).reshape(-1, width) > 0)
    for tick, city in np.argwhere(present).tolist():
        if city:
            start, stop = bounds[tick * width + city : tick * width + city + 2].tolist()
            sections[tick][cities[city - 1]] = Section(_part(facts, start, stop), heard[tick, city])


def _part(facts: Facts, start: int, stop: int) -> Facts:
    return Facts(*(getattr(facts, field.name)[start:stop] for field in fields(Facts)))
