"""Of rules, zones, windows and plans."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "geo/measures.py",
        "return bikes < self.clear",
        "return bikes <= self.clear",
        "the hysteresis includes its bound",
    ),
    Mutation(
        "geo/layers.py",
        "order = np.lexsort((listed, bike))",
        "order = np.lexsort((-listed, bike))",
        "the last rule that a bike fits has it, not the first",
    ),
    Mutation(
        "geo/policy.py",
        "self.window is None or span_at(self.window, self.prepare_ms, offsets, at_ms) is not None",
        "self.window is None or span_at(self.window, 0, offsets, at_ms) is not None",
        "nothing is prepared before a window",
    ),
    Mutation(
        "geo/windows.py",
        "shows = local_ms - offset if i == 0 else max(start, local_ms - offset)",
        "shows = local_ms - offset",
        "a time that does not exist is before the change of the clocks",
    ),
    Mutation(
        "geo/windows.py",
        "if span.begin <= at_ms < span.close), None)",
        "if span.begin <= at_ms <= span.close), None)",
        "a window closes after its end, not at it",
    ),
    Mutation(
        "geo/rulebook.py",
        "heir.episodes[pair].left[POLICY] += bikes",
        "heir.episodes[pair].left[POLICY] += 0",
        "bikes that another rule took are forgotten",
    ),
    Mutation(
        "geo/measures.py",
        "key=lambda i: (-(excess * counts[i] % total), i)",
        "key=lambda i: (excess * counts[i] % total, i)",
        "what is left over goes to the least remainders",
    ),
    Mutation(
        "geo/measures.py",
        "return np.union1d(pairs, slots[slots >= 0]).astype(np.int32)",
        "return pairs",
        "an area of all operators is judged for those only whose count changed",
    ),
    Mutation(
        "geo/measures.py",
        "over=count < least,",
        "over=count <= least,",
        "the least allowed number is too few",
    ),
    Mutation(
        "geo/rebalancing.py",
        "ACTS_AFTER = 2\n",
        "ACTS_AFTER = 3\n",
        "a plan acts three ticks after it was made",
    ),
    Mutation(
        "geo/vacancies.py",
        "left[area] -= bikes",
        "left[area] -= 0",
        "what places share is given to each of them",
    ),
    Mutation(
        "geo/measures.py",
        "if rule.shadow or not rule.has_maximum or",
        "if not rule.has_maximum or",
        "a rule on trial forbids to bring bikes",
    ),
    Mutation(
        "geo/decrees.py",
        "from_ms = (tick + 1) * tick_ms",
        "from_ms = (tick + 2) * tick_ms",
        "a document acts a tick late",
    ),
    Mutation(
        "geo/decrees.py",
        "if end is not None and end <= decree.from_ms:",
        "if end is not None and end < 0:",
        "a document that was replaced before its start ends others all the same",
    ),
    Mutation(
        "geo/decrees.py",
        "self.settled |= had_a_say",
        "self.settled |= had_a_say & {decree.policy_id for decree in kept}",
        "the configuration has the last word once a document is over",
    ),
    Mutation(
        "geo/windows.py",
        "    while first_showing(date * DAY_MS, offsets) > at_ms:\n        date -= 1\n    return date",
        "    return (at_ms + next((o for t, o in reversed(offsets) if t <= at_ms), offsets[0][1] if offsets else 0)) // DAY_MS",
        "a date comes twice when clocks go back",
    ),
    Mutation(
        "geo/vacancies.py",
        "self._promised.get((number, code), 0) + more",
        "self._promised.get((number, code), 0)",
        "room that one operator's plan fills is promised to the next one as well",
    ),
    Mutation(
        "geo/vacancies.py",
        "np.lexsort((spots.cell, nearest_m, spots.lacks == 0))",
        "np.lexsort((spots.cell, nearest_m))",
        "scarce room goes to what is near, not to what lacks bikes first",
    ),
)
