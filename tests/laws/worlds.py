"""Adversarial worlds out of a seed: a configuration in versions, and logs that do what logs do at their worst.

Numbers are scaled down so that a few hundred records raise, update and clear alerts, silence feeds and expire bikes.
A small `size` gives a small log, which is what hypothesis shrinks towards.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from zlib import crc32

from geo.params import FOR_EVER, BikeParams, City, Epoch, Planning, Rule, Timeline
from tests.laws import answers, decrees
from tests.laws.blackouts import Blackouts, with_holds
from tests.laws.fleet import Fleet, Sent
from tests.laws.merging import Merging
from tests.laws.nights import Night
from tests.laws.rivals import Rivals
from tests.laws.rulers import Ruler
from tests.oracle.decrees import Written
from tests.oracle.responses import Answer
from tests.oracle.stage import Record

OPERATORS = ("alfa", "bravo", "carla")
ANCHORS = ((399_000_000, 1_164_000_000), (13_000_000, 1_038_000_000), (-378_000_000, 1_449_600_000), (5_000, 1_799_700_000))
Logs = dict[tuple[str, int], list[Record]]


@dataclass(frozen=True)
class WorldFeed:
    """A feed as `streams.pings.Feed` has it."""

    topic: str
    operator: str | None
    coordinates: str
    format: str = "json"


@dataclass(frozen=True, repr=False)
class World:
    timeline: Timeline
    feeds: dict[str, WorldFeed]  # by topic
    sent: list[Sent]  # of all feeds, in the order in which the records were written
    partitions: dict[str, int]  # by topic
    origin: str  # how to make it again
    written: tuple[Written | Answer, ...] = ()  # on control topics, each in its order

    def __repr__(self) -> str:
        return self.origin

    @property
    def controls(self) -> dict[str, str | None]:
        """Control topics in order, and whose they are."""
        topics: dict[str, str | None] = {}
        if any(isinstance(one, Written) for one in self.written):
            topics[decrees.TOPIC] = None
        if self.timeline.responses:
            topics |= {answers.topic_of(operator): operator for operator in self.timeline.operators}
        return topics

    def logs(self, partitions: Mapping[str, int] | None = None, clocks: random.Random | None = None) -> Logs:
        """The records in so many partitions each, by bike; every one ends with a clock record at the end of the last tick.

        clocks: sprinkle clock records over it, where they change no clock that a record is read at.
        """
        counts = partitions or self.partitions
        logs: Logs = {(topic, p): [] for topic, n in counts.items() for p in range(n)}
        last = max((one.record_ms for one in self.sent), default=0)
        logs |= {(topic, 0): [] for topic in self.controls}
        for document in self.written:
            topic = document.topic if isinstance(document, Answer) else decrees.TOPIC
            _append(logs[topic, 0], document.record_ms, document.value)
        for one in self.sent:
            target = (one.topic, crc32(one.key.encode()) % counts[one.topic])
            _append(logs[target], one.record_ms, one.value)
        end = (last // self.timeline.tick_ms + 1) * self.timeline.tick_ms
        for name in sorted(logs):
            _append(logs[name], end, None)
            if clocks is not None:
                logs[name] = _with_clock_records(logs[name], clocks)
        return logs


def _append(log: list[Record], record_ms: int, value: bytes | None) -> None:
    """Offsets have holes, as behind transactions and compaction."""
    offset = log[-1].offset + 1 + (record_ms % 7 == 0) if log else record_ms % 5
    log.append(Record(offset, record_ms, value))


def _with_clock_records(log: list[Record], r: random.Random) -> list[Record]:
    out: list[Record] = []
    now = -1
    for record in log:
        for _ in range(r.choice((0, 0, 0, 1, 2))):
            after = max(now, record.timestamp_ms)
            # Not before the first record: a clock before it would be new information.
            at = r.randint(min(now, after), after) if now >= 0 else record.timestamp_ms - r.randint(0, 50_000)
            _append(out, at, None)
            now = max(now, at)
        _append(out, record.timestamp_ms, record.value)
        now = max(now, record.timestamp_ms)
    return out


def world(seed: int, size: int = 300, *, is_sorted: bool = True) -> World:
    """The world of a seed with about `size` records. Sorted: record timestamps never go back."""
    r = random.Random(seed)
    steady = r.random() < 0.2  # one operator, heard often enough to have a usual gap
    tick_ms = 60_000 if steady else r.choice((1_000, 5_000, 5_000, 60_000))
    ticks = 1000 if steady else r.choice((200, 500, 1000))
    start = (1_700_000_000_000 // tick_ms + r.randrange(1000)) * tick_ms
    night = Night(random.Random(f"midnights of {seed}"), tick_ms, ticks)
    start = night.begin(start)
    anchor = r.choice(ANCHORS)
    timeline = _timeline(r, anchor, tick_ms, start, ticks, steady=steady)
    ruler = Ruler(random.Random(f"policies of {seed}"), anchor, OPERATORS, start, tick_ms, ticks)
    timeline = _with_policies(timeline, ruler)
    timeline = night.over(timeline)
    timeline = _with_densities(random.Random(f"densities of {seed}"), timeline)
    timeline = _with_plans(timeline, random.Random(f"plans of {seed}"))
    rivals = Rivals.of(seed, anchor)
    timeline = rivals.timeline(timeline) if rivals else timeline
    merging = None if rivals else Merging.of(seed)
    timeline = merging.timeline(timeline) if merging else timeline
    timeline = answers.with_deadlines(random.Random(f"deadlines of {seed}"), timeline)
    dark = random.Random(f"blackouts of {seed}")
    blackouts = None
    if dark.random() < 0.5:
        timeline = with_holds(dark, timeline)
        blackouts = Blackouts(dark, timeline)
    feeds = _feeds(r, anchor)
    fleet = Fleet(r, timeline, list(feeds.values()), anchor, start, merging.spread if merging else None)
    fleet.blackouts = blackouts
    if rivals:
        rivals.gather(fleet)
    sent = fleet.run(size, ticks * tick_ms, is_sorted=is_sorted)
    counts = {topic: r.choice((1, 1, 2, 3)) for topic in feeds}
    clerk = replace(ruler, r=random.Random(f"documents of {seed}"))
    written = decrees.written(clerk, timeline, max((one.record_ms for one in sent), default=0), merging) if seed % 2 else []
    here = World(timeline, feeds, sent, counts, f"world({seed}, {size}, is_sorted={is_sorted})", tuple(written))
    return _answered(here, random.Random(f"answers of {seed}"), is_sorted=is_sorted) if timeline.responses else here


def _answered(here: World, r: random.Random, *, is_sorted: bool) -> World:
    from tests.laws.harness import episodes_of  # which runs worlds, and so imports this module

    said = answers.answers(r, here.timeline, episodes_of(here), is_sorted=is_sorted)
    return replace(here, written=(*here.written, *said))


def _feeds(r: random.Random, anchor: tuple[int, int]) -> dict[str, WorldFeed]:
    chinese = anchor == ANCHORS[0]
    own = [WorldFeed(f"pings.{name}", name, "wgs84") for name in OPERATORS]
    if chinese:
        own = [replace(feed, coordinates=r.choice(("wgs84", "gcj02", "bd09"))) for feed in own]
    gateway = WorldFeed("pings.gateway", None, r.choice(("wgs84", "gcj02")) if chinese else "wgs84")
    chosen = r.choice(([gateway], [gateway], [gateway, own[0]], own, [gateway, *own[1:]]))
    return {feed.topic: feed for feed in chosen}


# --- configuration ------------------------------------------------------------------------------------------------------


def _timeline(r: random.Random, anchor: tuple[int, int], tick_ms: int, start: int, ticks: int, *, steady: bool) -> Timeline:
    first = start // tick_ms
    versions = r.choice((0, 1, 1, 2))
    starts = sorted(r.sample(range(first + 5, first + ticks), versions))
    epoch = Epoch(
        from_tick=FOR_EVER,
        hash="0" * 64,
        bike=_bike(r, tick_ms),
        operators=OPERATORS[:1] if steady else r.choice((OPERATORS, OPERATORS[:2], OPERATORS[:1])),
        silent_after_ms=() if steady else _silent_after(r, tick_ms),
        cities=_cities(r, anchor, tick_ms),
    )
    epoch = replace(epoch, cities=_watching(r, epoch))
    epochs = [epoch]
    for number, from_tick in enumerate(starts, 1):
        epoch = _changed(r, epoch, anchor, tick_ms)
        epochs.append(replace(epoch, from_tick=from_tick, hash=f"{number:064x}"))
    known = {name for epoch in epochs for name in epoch.operators}
    return Timeline(tick_ms, tuple(replace(e, silent_after_ms=_of(known, e.silent_after_ms)) for e in epochs))


def _of(known: set[str], silent_after: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple((name, ms) for name, ms in silent_after if name in known)


def _bike(r: random.Random, tick_ms: int) -> BikeParams:
    ttl = r.choice((20 * tick_ms, 60 * tick_ms, 300_000, 3_600_000, 18_000_000))
    return BikeParams(ttl_ms=ttl, max_speed_mm_s=r.choice((50_000, 50_000, 15_000)))


def _silent_after(r: random.Random, tick_ms: int) -> tuple[tuple[str, int], ...]:
    if r.random() < 0.4:
        after = r.choice((5, 12, 25)) * tick_ms
        return tuple((name, after) for name in OPERATORS)
    named = [name for name in OPERATORS if r.random() < 0.4]
    return tuple((name, r.choice((4, 12, 25, 60)) * tick_ms + r.choice((0, 0, 500))) for name in named)


def _square(anchor: tuple[int, int], south: int, west: int, north: int, east: int) -> tuple[tuple[int, int], ...]:
    """A ring around the anchor; in 1e-7 degrees from it."""
    lat, lng = anchor
    east = min(lng + east, 1_800_000_000) - lng
    return (
        (lat + south, lng + west),
        (lat + south, lng + east),
        (lat + north, lng + east),
        (lat + north, lng + west),
    )


def _cities(r: random.Random, anchor: tuple[int, int], tick_ms: int) -> tuple[City, ...]:
    """One city, or two that touch or overlap along a slanted line through the anchor's hot spots."""
    edge = r.choice((0, 1, 4_000, 40_000))
    west: tuple[tuple[tuple[int, int], ...], ...] = (_square(anchor, -300_000, -300_000, 300_000, edge),)
    hole = _square(anchor, 100_000, -200_000, 110_000, -100_000)
    if r.random() < 0.3:
        west = (*west, hole)
    lat, lng = anchor
    slanted = ((lat - 300_000, lng - 5_000), (lat + 300_000, lng + 3_000), (lat + 300_000, lng + 250_000), (lat, lng + 290_000))
    islet = _square(anchor, 400_000, 0, 500_000, 90_000)
    cities = [City("aarhus", r.choice((0, 1)), "UTC", (west, (islet,)), _rules(r, tick_ms), ())]
    if r.random() < 0.6:
        cities.append(City("borno", r.choice((0, 2)), "UTC", ((slanted,),), _rules(r, tick_ms), ()))
    return tuple(cities)


def _rules(r: random.Random, tick_ms: int) -> tuple[Rule, ...]:
    return tuple(_rule(r, f"rule-{i}", tick_ms) for i in range(r.choice((1, 1, 2, 3))))


def _rule(r: random.Random, name: str, tick_ms: int) -> Rule:
    resolution = r.choice((9, 9, 8, 10))
    hectares = {8: 60, 9: 9, 10: 1.3}[resolution]
    text = f"{r.choice((0, 1.2, 1.2, 2.3, 2.3, 3.5)) / hectares:.4f}"
    return Rule(
        policy_id=r.choice(("parking", "policy")),
        rule_id=name,
        name=name.upper(),
        per_hectare=Fraction(text),
        per_hectare_text=text,
        resolution=resolution,
        clear_ratio=Fraction(r.choice(("0.8", "0.5", "1"))),
        target_ratio=Fraction(r.choice(("0.6", "0.35", "1"))),
        for_ms=_duration(r, tick_ms, (0, 1, 3, 8)),
        keep_firing_for_ms=_duration(r, tick_ms, (0, 1, 3, 8)),
        cooldown_ms=_duration(r, tick_ms, (0, 2, 7, 30)),
        update_interval_ms=_duration(r, tick_ms, (0, 1, 4, 10)),
        respond_within_ms=r.choice((900_000, 1_234_567)),
        bikes_cap=r.choice((100, 2, 0)),
    )


def _duration(r: random.Random, tick_ms: int, ticks: tuple[int, ...]) -> int:
    """So many ticks, or a little more or less than so many."""
    return max(0, r.choice(ticks) * tick_ms + r.choice((0, 0, -1, 1, tick_ms // 3)))


def _with_policies(timeline: Timeline, ruler: Ruler) -> Timeline:
    """The same versions, most of the time with policies in them."""
    if ruler.r.random() < 0.3:
        return timeline
    known: dict[str, City] = {}
    epochs = []
    for epoch in timeline.epochs:
        cities = tuple(_next_version(ruler, city, known.get(city.name)) for city in epoch.cities)
        known |= {city.name: city for city in cities}
        epochs.append(replace(epoch, cities=cities))
    return Timeline(timeline.tick_ms, tuple(epochs))


def _with_densities(r: random.Random, timeline: Timeline) -> Timeline:
    """The same versions; intervals that fit the tick and others, some cities tell nothing for a version."""
    tick_ms = timeline.tick_ms
    epochs, known = [], dict[str, int]()
    for epoch in timeline.epochs:
        for city in epoch.cities:
            if city.name not in known or r.random() < 0.5:
                known[city.name] = r.choice((0, 1, 3, 3, 12, 12, 60)) * tick_ms + r.choice((0, 0, tick_ms // 3))
        cities = tuple(replace(city, density_interval_ms=known[city.name]) for city in epoch.cities)
        epochs.append(replace(epoch, cities=cities))
    return Timeline(timeline.tick_ms, tuple(epochs))


def _with_plans(timeline: Timeline, r: random.Random) -> Timeline:
    """The same versions; most cities plan where to bring bikes, and some change their minds."""
    known: dict[str, Planning | None] = {}
    more = r.choice((0, 0, 0, 2))
    epochs = []
    for epoch in timeline.epochs:
        for city in epoch.cities:
            if city.name not in known or r.random() < 0.3:
                known[city.name] = None if r.random() < 0.2 else _planning(r, timeline.tick_ms)
        cities = (replace(_roomy(city, more) if more else city, planning=known[city.name]) for city in epoch.cities)
        epochs.append(replace(epoch, cities=tuple(cities)))
    return Timeline(timeline.tick_ms, tuple(epochs))


def _roomy(city: City, more: int) -> City:
    """With maxima at which areas are crowded in one place and have room in another: bikes are few, and so is what rules allow."""

    def wide(rule: Rule) -> Rule:
        rule = replace(rule, clear_ratio=Fraction(1), target_ratio=Fraction(1))
        if rule.maximum is not None:
            return replace(rule, maximum=rule.maximum + more)
        if rule.per_hectare is None:
            return rule
        wider = rule.per_hectare + Fraction(more) / {7: 500, 8: 60, 9: 9, 10: Fraction(13, 10)}.get(rule.resolution, 9)
        return replace(rule, per_hectare=wider)

    policies = tuple(replace(policy, rules=tuple(map(wide, policy.rules))) for policy in city.policies)
    return replace(city, rules=tuple(map(wide, city.rules)), policies=policies)


def _planning(r: random.Random, tick_ms: int) -> Planning:
    interval_ms = r.choice((1, 2, 3, 12, 12)) * tick_ms + r.choice((0, 0, 1, -tick_ms // 3))
    return Planning(max_haul_m=r.choice((400, 3_000, 3_000, 50_000)), interval_ms=interval_ms)


def _next_version(ruler: Ruler, city: City, before: City | None) -> City:
    if before is None:
        return ruler.rule(city) if ruler.r.random() < 0.8 else city
    city = replace(city, policies=before.policies, geographies=before.geographies, offsets=before.offsets)
    return ruler.change(city) if ruler.r.random() < 0.7 else city


def _watching(r: random.Random, epoch: Epoch) -> tuple[City, ...]:
    def some() -> tuple[str, ...]:
        return epoch.operators if r.random() < 0.7 else tuple(r.sample(epoch.operators, r.randint(0, len(epoch.operators))))

    return tuple(replace(city, operators=tuple(sorted(some()))) for city in epoch.cities)


def _changed(r: random.Random, epoch: Epoch, anchor: tuple[int, int], tick_ms: int) -> Epoch:
    """The next version: some of everything that a version may change."""
    if r.random() < 0.4:
        bike = _bike(r, tick_ms)
        epoch = replace(epoch, bike=replace(bike, ttl_ms=min(bike.ttl_ms, epoch.bike.ttl_ms)))  # never longer
    if r.random() < 0.4:
        epoch = replace(epoch, silent_after_ms=_silent_after(r, tick_ms))
    if r.random() < 0.5:
        some = sorted(r.sample(OPERATORS, r.choice((1, 2, 2, 3, 3))))
        epoch = replace(epoch, operators=tuple(some))
    if r.random() < 0.3:
        fresh = {city.name: city.boundary for city in _cities(r, anchor, tick_ms)}
        cities = (replace(city, boundary=fresh.get(city.name, city.boundary)) for city in epoch.cities)
        epoch = replace(epoch, cities=tuple(cities))
    epoch = replace(epoch, cities=tuple(replace(c, rules=_other_rules(r, c.rules, tick_ms)) for c in epoch.cities))
    names = {city.name for city in epoch.cities}
    if r.random() < 0.15:
        newcomers = tuple(city for city in _cities(r, anchor, tick_ms) if city.name not in names)
        epoch = replace(epoch, cities=(*epoch.cities, *newcomers))
    elif r.random() < 0.1 and len(names) > 1:
        epoch = replace(epoch, cities=epoch.cities[:1])
    return replace(epoch, cities=_watching(r, epoch))


def _other_rules(r: random.Random, rules: tuple[Rule, ...], tick_ms: int) -> tuple[Rule, ...]:
    now = list(rules)
    for i, rule in enumerate(now):
        if r.random() < 0.3:  # other numbers, maybe another resolution, under the same key
            now[i] = replace(_rule(r, rule.rule_id, tick_ms), policy_id=rule.policy_id)
    if r.random() < 0.3 and now:
        del now[r.randrange(len(now))]
    if r.random() < 0.3:
        now.append(_rule(r, f"new-{r.randrange(10**6)}", tick_ms))
    if r.random() < 0.2:
        r.shuffle(now)
    return tuple(now)
