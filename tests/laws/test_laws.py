"""The replay contract as laws: the core says what the oracle says, however its input comes, and whatever dies.

Each law tries its own worlds (`tests/laws/worlds.py`); a failure prints the seed, and hypothesis the blob to repeat it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streams.source_stage import facts_routes
from tests.laws.check import of_events, of_frames
from tests.laws.episodes import invalid
from tests.laws.harness import (
    SMOOTH,
    Fate,
    SourceRun,
    interleaved,
    plain_events,
    plain_frame,
    run_all,
    run_cities,
    run_source,
    run_sources,
)
from tests.laws.packing import coarse, in_arrow, packed
from tests.laws.worlds import World, world
from tests.oracle.stage import SourceTruth
from tests.oracle.truth import Truth, whole_truth

EXAMPLES = settings().max_examples
SEEDS = st.integers(0, 2**48)
SIZES = st.integers(1, 300)
WORLDS = st.builds(world, SEEDS, SIZES)
MESSY = st.builds(world, SEEDS, SIZES, is_sorted=st.booleans())  # record timestamps may go back


def fates(*, batch: tuple[int | None, ...] = (None,), crash: tuple[float, ...] = (0.0,)) -> st.SearchStrategy[Fate]:
    return st.builds(Fate, st.builds(random.Random, SEEDS), st.sampled_from(batch), st.sampled_from(crash))


def some(share: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """This share of the profile's examples. A seed cannot be shrunk, only the size of its world, and that takes minutes."""
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    return settings(max_examples=max(1, int(EXAMPLES * share)), suppress_health_check=list(HealthCheck), phases=phases)


@some(1)
@given(MESSY)
def test_frames_are_those_of_the_oracle(here: World) -> None:
    logs = here.logs()
    assert of_frames(here, run_sources(here, logs), whole_truth(here.feeds, here.timeline, logs, here.written)) is None


@some(1)
@given(MESSY)
def test_events_are_those_of_the_oracle_byte_for_byte(here: World) -> None:
    logs = here.logs()
    truth = whole_truth(here.feeds, here.timeline, logs, here.written)
    assert of_events(here, logs, run_sources(here, logs), truth, SMOOTH) is None


@some(0.7)
@given(MESSY, fates(batch=(1, 3, 40, 200)))
def test_cutting_the_log_elsewhere_changes_nothing(here: World, fate: Fate) -> None:
    """Frames are compared, and so are the bytes of what both stages tell."""
    logs = here.logs()
    whole, cut = run_sources(here, logs), run_sources(here, logs, fate)
    for one, other in zip(whole, cut, strict=True):
        assert _plain(here, one) == _plain(here, other)
        assert one.refused == other.refused
    names = sorted(logs)
    facts = {route.partition: interleaved(whole, route.partition, None) for route in facts_routes(here.timeline)}
    assert run_cities(here, names, facts).told == run_cities(here, names, facts, fate).told


@some(0.7)
@given(MESSY, fates(batch=(3, 40), crash=(0.05, 0.2)))
def test_a_source_that_crashes_anywhere_says_the_same_again(here: World, fate: Fate) -> None:
    """The harness fails if a frame that is read again differs; here nothing may be missing or too much."""
    logs = here.logs()
    for index, name in enumerate(sorted(logs)):
        calm, torn = run_source(here, name, index, logs[name]), run_source(here, name, index, logs[name], fate)
        assert _plain(here, calm) == _plain(here, torn)
        assert calm.refused == torn.refused


@some(0.7)
@given(WORLDS, fates(batch=(1, 3, 40), crash=(0.05, 0.2)))
def test_a_city_that_crashes_anywhere_tells_the_same_events(here: World, fate: Fate) -> None:
    logs = here.logs()
    runs = run_sources(here, logs)
    facts = {route.partition: interleaved(runs, route.partition, fate.r) for route in facts_routes(here.timeline)}
    calm, torn = run_cities(here, sorted(logs), facts), run_cities(here, sorted(logs), facts, fate)
    assert calm.told == torn.told


@some(0.7)
@given(WORLDS, fates(batch=(1, 40)))
def test_the_order_in_which_sources_are_heard_changes_nothing(here: World, fate: Fate) -> None:
    logs = here.logs()
    runs = run_sources(here, logs, fate)
    routes = facts_routes(here.timeline)
    in_turn = {route.partition: interleaved(runs, route.partition, None) for route in routes}
    mixed = {route.partition: interleaved(runs, route.partition, fate.r) for route in routes}
    names = sorted(logs)
    assert run_cities(here, names, in_turn).told == run_cities(here, names, mixed, fate).told


@some(0.7)
@given(WORLDS, fates(batch=(1, 40)))
def test_frames_that_are_told_again_change_nothing(here: World, fate: Fate) -> None:
    logs = here.logs()
    runs = run_sources(here, logs, fate)
    routes = facts_routes(here.timeline)
    once = {route.partition: interleaved(runs, route.partition, None) for route in routes}
    often = {route.partition: interleaved(runs, route.partition, fate.r, repeat=0.5) for route in routes}
    names = sorted(logs)
    assert run_cities(here, names, once).told == run_cities(here, names, often, fate).told


@some(0.7)
@given(WORLDS, SEEDS, fates(batch=(3, 200)))
def test_clock_records_added_or_removed_change_nothing(here: World, seed: int, fate: Fate) -> None:
    plain, ticking = here.logs(), here.logs(clocks=random.Random(seed))
    assert run_all(here, plain).told == run_all(here, ticking, fate).told


@some(0.5)
@given(WORLDS, st.sampled_from((1, 3, 24)), fates(batch=(40,)))
def test_events_are_the_same_at_any_partition_count(here: World, count: int, fate: Fate) -> None:
    """Of a log that is sorted by record time."""
    spread = here.logs(dict.fromkeys(here.feeds, count))
    assert run_all(here, here.logs()).told == run_all(here, spread, fate).told


@some(0.4)
@given(MESSY, SEEDS, fates(batch=(3, 40, 200), crash=(0.0, 0.1)))
def test_pings_of_one_record_are_judged_like_pings_sent_one_behind_the_other(here: World, seed: int, fate: Fate) -> None:
    """As arrays and as lines; frames and the bytes of both stages; and which ping of which record is set aside."""
    r = random.Random(seed)
    single = coarse(here.logs(), r.choice((1, 500, here.timeline.tick_ms)))
    several = packed(single, r)
    alone, together = run_sources(here, single), run_sources(here, several, fate)
    sources = [
        SourceTruth(here.feeds[name[0]], here.timeline, several[name]) for name in sorted(several) if name[0] in here.feeds
    ]
    assert of_frames(here, together, Truth(sources, {}, {}, {}, {}, {}, {})) is None
    _same(here, alone, together)
    facts = [
        {route.partition: interleaved(runs, route.partition, None) for route in facts_routes(here.timeline)}
        for runs in (alone, together)
    ]
    names = sorted(single)
    assert run_cities(here, names, facts[0]).events == run_cities(here, names, facts[1]).events


@some(0.25)
@given(MESSY, SEEDS, fates(batch=(3, 40)))
def test_pings_in_arrow_are_judged_like_the_same_pings_in_json(here: World, seed: int, fate: Fate) -> None:
    r = random.Random(seed)
    there, single, streams = in_arrow(here, coarse(here.logs(), r.choice((1, 500, here.timeline.tick_ms))), r)
    _same(here, run_sources(here, single), run_sources(there, streams, fate))


def _same(here: World, alone: list[SourceRun], together: list[SourceRun]) -> None:
    for one, other in zip(alone, together, strict=True):
        assert _plain(here, one) == _plain(here, other)
        assert sorted(reason for _, _, reason in one.refused) == sorted(reason for _, _, reason in other.refused)


@some(0.7)
@given(MESSY, SEEDS, fates(batch=(3, 40, 200), crash=(0.0, 0.1)))
def test_all_of_it_at_once_still_agrees_with_the_oracle(here: World, seed: int, fate: Fate) -> None:
    logs = here.logs(clocks=random.Random(seed))
    truth = whole_truth(here.feeds, here.timeline, logs, here.written)
    runs = run_sources(here, logs, fate)
    assert of_frames(here, runs, truth) is None
    assert of_events(here, logs, runs, truth, fate) is None


@some(0.7)
@given(MESSY, fates(batch=(1, 40), crash=(0.0, 0.1)))
def test_any_order_in_which_policies_responses_and_frames_arrive_gives_valid_episodes(here: World, fate: Fate) -> None:
    """Each log in its own order, all mixed anyhow: never two open for one thing, no sequence with a gap, cleared once, and last."""
    assert [wrong for events in run_all(here, here.logs(), fate, repeat=0.2).events.values() for wrong in invalid(events)] == []


@some(0.7)
@given(WORLDS, fates(batch=(3, 40), crash=(0.0, 0.1)))
def test_what_is_open_is_the_newest_event_of_every_episode_that_is_not_cleared(here: World, fate: Fate) -> None:
    """What `alerts.open` holds; and what stands is what stands in the oracle."""
    logs = here.logs()
    truth = whole_truth(here.feeds, here.timeline, logs, here.written)
    states = {name: city for partition in run_all(here, logs, fate).partitions for name, city in partition.cities.items()}
    for name, events in truth.events.items():
        newest = {event.event_id.partition("/")[0]: event for event in events}
        still = [event for event in newest.values() if event.state != "cleared"]
        state, roster = states[name], truth.cities[name].roster
        assert plain_events(_by_id(list(state.open_events().values()))) == plain_events(_by_id(still))
        for operator in here.timeline.operators:
            standing = sum(row.stands for (owner, _), row in roster.items() if owner == operator)
            assert state.roster_count(operator) == standing


def _plain(here: World, run: SourceRun) -> list[dict[str, object]]:
    return [plain_frame(frame, here.timeline) for frame in run.frames]


def _by_id(events: list) -> list:  # type: ignore[type-arg]
    return sorted(events, key=lambda event: event.event_id)
