"""Of what stands where: roster, silence, degraded feeds, densities."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "geo/silence.py",
        "ticks = np.where(before, returned, (tick - self.now) - fell)",
        "ticks = np.where(before, tick - self.now, tick - self.now)",
        "bikes expire and alerts ripen by the wall, not by speaking time",
    ),
    Mutation(
        "geo/silence.py",
        "self._note_gaps(tick, np.flatnonzero(speaks & ~before & self.was_heard))",
        "self._note_gaps(tick, np.flatnonzero(speaks & self.was_heard))",
        "a declared silence counts as a usual gap",
    ),
    Mutation(
        "geo/roster.py",
        'newer |= (after["version"] == before["version"]) & (after["source"] >= before["source"])',
        'newer |= (after["version"] == before["version"]) & (after["source"] <= before["source"])',
        "of equal versions the lesser source wins",
    ),
    Mutation(
        "geo/ground.py",
        "STAYED_MM = 100_000",
        "STAYED_MM = 1_000",
        "a bike that went out of service in place counts as moved",
    ),
    Mutation(
        "geo/outages.py",
        "elif len(own) >= 2 and len(own) == np.count_nonzero(silence.watched):",
        "elif len(own) >= 3 and len(own) == np.count_nonzero(silence.watched):",
        "two operators that fall silent at once are no silent city",
    ),
    Mutation(
        "geo/merge.py",
        "chain.early[waiting.previous] = (tick, waiting)",
        "chain.early[chain.last] = (tick, waiting)",
        "a frame is taken over a gap in its source's chain",
    ),
    Mutation(
        "geo/ground.py",
        'there = rows["held"] & (rows["state"] < REMOVED)',
        'there = rows["held"] & rows["stands"]',
        "bikes under way are no part of the fleet",
    ),
    Mutation(
        "geo/ground.py",
        "resettled | (stands & change.restated()) if layer.follows_states else resettled",
        "resettled",
        "a bike stays with its rule whatever becomes of its state",
    ),
    Mutation(
        "geo/density.py",
        'for name in ("count", "silent", "degraded"):',
        'for name in ("count", "degraded"):',
        "a cell is not told when one of its operators falls silent",
    ),
    Mutation(
        "geo/density.py",
        "self.coverage = coverage\n\n",
        'self.coverage = b""\n\n',
        "a restored city tells again who is silent",
    ),
    Mutation(
        "geo/density.py",
        "gone[place[place >= 0]] = False",
        "gone[:] = False",
        "a cell that an operator left, or that is empty, is not told",
    ),
    Mutation(
        "geo/density.py",
        "end_ms = (end_of(now, self._tick_ms) // interval_ms + 1) * interval_ms",
        "end_ms = end_of(now, self._tick_ms) // interval_ms * interval_ms + 2 * interval_ms",
        "the end of an interval is passed over when nobody speaks",
    ),
    Mutation(
        "geo/density.py",
        'now["at"][~changed] = self.rows["at"][place[~changed]]',
        'now["at"][changed] = tick',
        "what was told of a cell before gets the time of what is told of others",
    ),
    Mutation(
        "geo/density.py",
        'for name in ("count", "silent", "degraded"):',
        'for name in ("count", "silent"):',
        "a cell is not told when the feed of one of its operators is degraded",
    ),
    Mutation(
        "geo/degraded.py",
        "(2 * after < before)",
        "(2 * after <= before)",
        "half of a fleet is most of it",
    ),
    Mutation(
        "geo/degraded.py",
        "4 * there >= 3 * lapse.before",
        "4 * there > 3 * lapse.before",
        "three quarters of a fleet are not enough to believe in it again",
    ),
    Mutation(
        "geo/degraded.py",
        "lapse.opened - (-hold_ms // self._tick_ms)",
        "lapse.opened - (-hold_ms // self._tick_ms) + 1",
        "a loss is believed a tick late when nobody speaks",
    ),
    Mutation(
        "geo/held.py",
        'change.rode[found] |= self.rode[place] | (before["state"] == ON_TRIP)',
        "change.rode[found] |= self.rode[place]",
        "a trip that was held is forgotten",
    ),
    Mutation(
        "geo/held.py",
        "keep[np.flatnonzero(found)[older]] = False",
        "keep[np.flatnonzero(found)[older]] = True",
        "what is held gives way to older facts",
    ),
    Mutation(
        "geo/held.py",
        "slots = (np.cumsum(held) - 1)[self.slots]",
        "slots = self.slots",
        "what is held is written down of other bikes",
    ),
    Mutation(
        "geo/ground.py",
        'self.roster.hear(change.slots, change.after["spoken"])',
        "pass",
        "a bike of which something is held was not heard",
    ),
    Mutation(
        "geo/ground.py",
        "self.roster.remove(slots)\n        self.held.drop(slots)",
        "self.roster.remove(slots)",
        "what is held of a bike that left is not forgotten",
    ),
)
