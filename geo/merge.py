"""The merger: one city's time out of the time of many sources.

Every source (an input partition) says two things: *frames*, one for each of its non-empty ticks, and *complete through k*.
Both name the source's non-empty tick before, so the frames of a source form a chain. A source counts as complete only as far
as its chain is whole: after a failed send and a re-run the log may hold a later frame before an earlier one, and a city
that went by the later one would lose facts for ever. Frames that do not connect yet wait.

The city may work on every tick up to the smallest `through` of all sources. Nothing here depends on the order in which
messages of different sources arrive, or on how often they are repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from geo.frame import Document, Section

NONE = -1
"""Before every tick: nothing said yet, and the `previous` of a source's first frame."""

_REMEMBERED_DIGESTS = 256

Told = Sequence[tuple[int, Sequence[tuple[int, dict[str, Section]]]]]
"""Non-empty ticks, ascending; of each, the sources that had a record in it, in order, and what they say by city."""

Sections = Sequence[tuple[int, Section]]
"""What is said of a city in one tick: (index of the source, its section), in order of sources."""


@dataclass(slots=True)
class Waiting:
    """A frame that the city has not worked on. position: offset of its first part in the facts partition."""

    previous: int
    sections: dict[str, Section]
    position: int
    digest: bytes


@dataclass(slots=True)
class Chain:
    """What one source has said so far."""

    last: int = NONE  # newest tick up to which the chain of frames is whole
    through: int = NONE
    applied: int = NONE  # newest non-empty tick that the city has worked on
    waiting: dict[int, Waiting] = field(default_factory=dict)  # by tick, rising: connected, not yet worked on
    early: dict[int, tuple[int, Waiting]] = field(default_factory=dict)  # previous -> (tick, frame) that does not connect yet
    claims: dict[int, int] = field(default_factory=dict)  # last -> through, of claims ahead of the chain
    digests: dict[int, bytes] = field(default_factory=dict)  # of the newest ticks, to tell a conflict from a repeat

    def connect(self) -> None:
        """Follow the chain as far as it is whole."""
        while (found := self.early.pop(self.last, None)) is not None:
            self.last = found[0]
            self.waiting[self.last] = found[1]
            self.through = max(self.through, self.last, self.claims.pop(self.last, NONE))

    def missing_after(self) -> int | None:
        """The tick behind which a frame is missing, if later ones are here."""
        return self.last if self.early or any(last > self.last for last in self.claims) else None

    def remember(self, tick: int, digest: bytes) -> None:
        self.digests[tick] = digest
        if len(self.digests) > 2 * _REMEMBERED_DIGESTS:
            self.digests = dict(sorted(self.digests.items())[-_REMEMBERED_DIGESTS:])


def facts_of(city: str, told: Told, feeds: int) -> list[tuple[int, Sections]]:
    """What feeds say of a city, at every tick at which any of them has a record. feeds: sources below are feeds'."""
    of_feeds = ((tick, [one for one in sources if one[0] < feeds]) for tick, sources in told)
    return [(tick, [(i, said[city]) for i, said in sources if city in said]) for tick, sources in of_feeds if sources]


def documents_of(city: str, told: Told, feeds: int) -> list[tuple[int, tuple[Document, ...]]]:
    """What control topics say to a city, at every tick at which one does, in order of sources and of their logs."""
    found = []
    for tick, sources in told:
        documents = [d for i, said in sources if i >= feeds and city in said for d in said[city].documents]
        if documents:
            found.append((tick, tuple(documents)))
    return found


class Merger:
    """Merges the chains of `sources` sources. Not thread-safe; no clock."""

    def __init__(self, sources: int) -> None:
        self.chains = [Chain() for _ in range(sources)]
        self.done = NONE
        self.conflicts = 0
        """Frames of one (source, tick) with different content: a bug or two configurations. The first one counts."""

    def offer(self, source: int, tick: int, waiting: Waiting) -> None:
        """Take a complete frame; repeats are ignored."""
        chain = self.chains[source]
        known = chain.digests.get(tick)
        if known is not None:
            self.conflicts += known != waiting.digest
            return
        if tick <= chain.last:
            return
        chain.remember(tick, waiting.digest)
        chain.early[waiting.previous] = (tick, waiting)
        chain.connect()

    def repeat(self, source: int, tick: int, digest: bytes) -> None:
        """Note a frame that is known already, so that a repeat with other content is seen."""
        self.conflicts += self.chains[source].digests.get(tick, digest) != digest

    def complete(self, source: int, through: int, last: int) -> None:
        """Take "complete through `through`; my newest non-empty tick is `last`". The highest counts."""
        chain = self.chains[source]
        if last == chain.last:
            chain.through = max(chain.through, through)
        elif last > chain.last:
            chain.claims[last] = max(through, chain.claims.get(last, NONE))

    def ready(self) -> int:
        """The tick up to which every source is complete."""
        return min((chain.through for chain in self.chains), default=NONE)

    def take(self, through: int) -> Told:
        """Hand out the non-empty ticks up to `through` (at most `ready()`), ascending, sources in order; they are done."""
        if through > self.ready():
            raise ValueError(f"tick {through} is not complete, only {self.ready()} is")
        by_tick: dict[int, list[tuple[int, dict[str, Section]]]] = {}
        for index, chain in enumerate(self.chains):
            while chain.waiting and (tick := next(iter(chain.waiting))) <= through:
                by_tick.setdefault(tick, []).append((index, chain.waiting.pop(tick).sections))
                chain.applied = tick
        self.done = max(self.done, through)
        return sorted(by_tick.items())

    def first_position(self) -> int | None:
        """Offset of the first part of the earliest frame that is here but not worked on."""
        here = [w.position for chain in self.chains for w in chain.waiting.values()]
        early = [w.position for chain in self.chains for _, w in chain.early.values()]
        return min(here + early, default=None)

    def waits_for(self) -> Sequence[int]:
        """Sources that hold the city back: those with the smallest `through`."""
        lowest = self.ready()
        return [index for index, chain in enumerate(self.chains) if chain.through == lowest]

    def gaps(self) -> dict[int, int]:
        """source -> tick behind which its chain is broken, of sources whose later frames are here already."""
        found = {index: chain.missing_after() for index, chain in enumerate(self.chains)}
        return {index: tick for index, tick in found.items() if tick is not None}

    def state(self) -> list[tuple[int, int]]:
        """(applied, through) of each source as of `done`: what a snapshot keeps. Frames that wait are read again."""
        return [(c.applied, c.through if c.last == c.applied else self.done) for c in self.chains]

    @classmethod
    def restore(cls, done: int, state: Sequence[tuple[int, int]]) -> Merger:
        merger = cls(len(state))
        merger.done = done
        for chain, (applied, through) in zip(merger.chains, state, strict=True):
            chain.applied = chain.last = applied
            chain.through = max(done, through)
        return merger
