"""Of sources: from pings to facts."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "geo/bike.py",
        "LEAST_HOLD_MM, GREATEST_HOLD_MM = 50_000, 100_000",
        "LEAST_HOLD_MM, GREATEST_HOLD_MM = 55_000, 100_000",
        "the hold radius is 55 m",
    ),
    Mutation(
        "geo/ticks.py",
        "(fit[i] == fit[best] and ts[i] >= ts[best])",
        "(fit[i] == fit[best] and ts[i] > ts[best])",
        "of fixes at the same moment the first one wins",
    ),
    Mutation(
        "geo/ticks.py",
        "union[group] |= marks[i]",
        "union[group] |= np.uint8(0)",
        "`rode` and `touched` forget what was superseded",
    ),
    Mutation(
        "geo/rest.py",
        '(ts[fix] - bike["published_ts"] < again_ms)',
        '(ts[fix] - bike["published_ts"] < 2 * again_ms)',
        "whoever rests is not told of again within two hours",
    ),
    Mutation(
        "geo/rest.py",
        'if left[i] or stirred[slot[fix]] >= 0 or ts[fix] <= bike["ts"]:',
        'if left[i] or ts[fix] <= bike["ts"]:',
        "a fix at rest overtakes one before it that is still to be judged",
    ),
    Mutation(
        "geo/rest.py",
        " & (marks[i] == 0)",
        "",
        "a bike that rode and is back where it stood never left",
    ),
    Mutation(
        "geo/bike.py",
        'copy = waiting & (rows["candidate_ts"] == fixes.ts)',
        'copy = waiting & (rows["candidate_ts"] < 0)',
        "a copy of a lie confirms it",
    ),
    Mutation(
        "geo/bike.py",
        "IDLE_STANDS_MS = 1_200_000",
        "IDLE_STANDS_MS = 1_260_000",
        "a bike on a trip stands after 21 idle minutes",
    ),
    Mutation(
        "geo/bike.py",
        "forgotten = (fixes.end - ts > 2 * params.ttl_ms) & (ts != 0)",
        "forgotten = (fixes.ts - ts > 2 * params.ttl_ms) & (ts != 0)",
        "forgetting is counted from the fix, not from the end of its tick",
    ),
    Mutation(
        "geo/ticks.py",
        "return self.now_ms if self.first_offset is None else self.before_first_ms",
        "return -1",
        "a restored source has forgotten its clock",
    ),
    Mutation(
        "geo/ticks.py",
        "return self.next_offset if self.first_offset is None else self.first_offset",
        "return self.next_offset",
        "a restored source has lost its open tick",
    ),
    Mutation(
        "geo/control.py",
        "frames = [self._close(tick) for tick in sorted(self._open) if tick < ticks[-1]]",
        "frames = [self._close(tick) for tick in sorted(self._open) if tick <= ticks[-1]]",
        "a document is told before its tick is over",
    ),
    Mutation(
        "geo/framing.py",
        "order = np.lexsort((fixes.item[told.winner], fixes.offset[told.winner], group))",
        "order = np.lexsort((fixes.offset[told.winner], group))",
        "facts of one record stand in any order",
    ),
    Mutation(
        "streams/batches.py",
        "item[~ours] = -1",
        "item[~ours] = 0",
        "a record that is one ping says that it is the first of several",
    ),
    Mutation(
        "streams/batches.py",
        "has_value[rows[~several[rows]]] = False",
        "has_value[rows[~several[rows]]] = True",
        "a record without pings is a broken one",
    ),
)
