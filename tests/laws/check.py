"""Core against oracle on whole worlds, outside of pytest: `python -m tests.laws.check FIRST LAST`.

For long searches, and for `tests/mutations`, which needs an answer and no shrinking. Exits with 1 at the first seed at
which they disagree. A seed says all: the world, where its log is cut, and where both stages crash.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence

from streams.source_stage import facts_routes
from tests.laws.harness import (
    SMOOTH,
    Fate,
    SourceRun,
    interleaved,
    plain_events,
    plain_frame,
    plain_records,
    plain_truth,
    run_cities,
    run_sources,
)
from tests.laws.packing import coarse, packed
from tests.laws.worlds import Logs, World, world
from tests.oracle.truth import Truth, whole_truth


def disagreement(seed: int, size: int = 300) -> str | None:
    """What the core says otherwise than the oracle, in the world and under the fate of a seed."""
    r = random.Random(seed)
    here = world(seed, size, is_sorted=seed % 3 != 0)
    logs = here.logs(clocks=r if seed % 2 else None)
    if seed % 5 < 2:
        logs = packed(coarse(logs, r.choice((1, 500, here.timeline.tick_ms))), r)
    truth = whole_truth(here.feeds, here.timeline, logs, here.written)
    fate = SMOOTH if seed % 4 == 0 else Fate(r, r.choice((3, 40, 200)), r.choice((0.0, 0.05, 0.2)))
    runs = run_sources(here, logs, fate)
    return of_frames(here, runs, truth) or of_events(here, logs, runs, truth, fate)


def of_frames(here: World, runs: Sequence[SourceRun], truth: Truth) -> str | None:
    for index, (run, source) in enumerate(zip(_of_feeds(here, runs), truth.sources, strict=True)):
        told = [plain_frame(frame, here.timeline) for frame in run.frames]
        true = [plain_truth(tick) for tick in source.ticks]
        if told != true:
            return f"source {index}: {first_difference(told, true)}"
        refused = sorted(one for tick in source.ticks for one in tick.refused)
        if sorted(run.refused) != refused:
            return f"source {index}: other records are set aside: {first_difference(sorted(run.refused), refused)}"
    return None


def _of_feeds(here: World, runs: Sequence[SourceRun]) -> Sequence[SourceRun]:
    """Without those of control topics, which come last."""
    return runs[: len(runs) - len(here.controls)]


def of_events(here: World, logs: Logs, runs: Sequence[SourceRun], truth: Truth, fate: Fate) -> str | None:
    r = None if fate is SMOOTH else fate.r
    facts = {route.partition: interleaved(runs, route.partition, r, repeat=0.1) for route in facts_routes(here.timeline)}
    cities = run_cities(here, sorted(logs), facts, fate)
    for name, events in truth.events.items():
        told, true = plain_events(cities.events[name]), plain_events(events)
        if told != true:
            return f"city {name}: {first_difference(told, true)}"
        told, true = plain_records(cities.density[name]), plain_records(truth.density[name])
        if told != true:
            return f"density of {name}: {first_difference(told, true)}"
        told, true = plain_records(cities.reports[name]), plain_records(truth.reports[name])
        if told != true:
            return f"reports of {name}: {first_difference(told, true)}"
    for name in truth.events:  # a city that comes back may do so in another partition: then two states are of it
        states = [partition.cities[name] for partition in cities.partitions if name in partition.cities]
        shown = sorted((telling for state in states for telling in state.density.newest()), key=lambda telling: telling.key)
        stands = [telling for _, telling in sorted(truth.standing[name].items())]
        if plain_records(shown) != plain_records(stands):
            return f"told last of {name}: {first_difference(plain_records(shown), plain_records(stands))}"
        held = sorted(plain_records([report for state in states for report in state.reports.newest()]))
        unfinished = sorted(plain_records(truth.unfinished[name]))
        if held != unfinished:
            return f"reports of {name} that are held: {first_difference(held, unfinished)}"
    return None


def first_difference(told: Sequence[object], true: Sequence[object]) -> str:
    for i, (one, other) in enumerate(zip(told, true, strict=False)):
        if one != other:
            return f"#{i} is {list(_parts(one, other))}"
    more, which = (told, "told") if len(told) > len(true) else (true, "true")
    return f"{len(told)} told, {len(true)} true; {which} too: {more[min(len(told), len(true))]}"


def _parts(one: object, other: object) -> Iterator[tuple[object, object]]:
    """Where two values differ, not how they are alike."""
    if isinstance(one, dict) and isinstance(other, dict):
        yield from ((one.get(key), other.get(key)) for key in one | other if one.get(key) != other.get(key))
    elif isinstance(one, tuple) and isinstance(other, tuple):
        yield from ((a, b) for a, b in zip(one, other, strict=False) if a != b)
    else:
        yield one, other


def main(first: int, last: int) -> int:
    for seed in range(first, last):
        try:
            found = disagreement(seed)
        except Exception as error:  # the core or the harness gave up: as bad as a wrong answer
            found = f"{type(error).__name__}: {error}"
        if found is not None:
            print(f"seed {seed}: {found}")
            return 1
    print(f"{last - first} worlds, no disagreement")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
