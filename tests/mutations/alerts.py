"""Of episodes: how they live, who answers, what is reported of them."""

from tests.mutations.mutation import Mutation

MUTATIONS = (
    Mutation(
        "geo/watch.py",
        "judged = allowed[operators] & ~silence.silent[operators]",
        "judged = allowed[operators]",
        "episodes of a silent operator do not stand still",
    ),
    Mutation(
        "geo/episodes.py",
        "self.phase, self.until = Phase.COOLDOWN, now.after(rule.cooldown_ms)",
        "self.phase, self.until = Phase.COOLDOWN, now.after(rule.cooldown_ms) - 1",
        "the cooldown ends a tick early",
    ),
    Mutation(
        "geo/city.py",
        "ticks.append(self.rulebook.edge)",
        "ticks.append(NEVER)",
        "a window waits for the next record",
    ),
    Mutation(
        "geo/city_pack.py",
        'city.rebalancing.pending = _unpack_plan(_part(packed, "plan"))',
        "city.rebalancing.pending = None",
        "a plan that does not act yet is lost with its worker",
    ),
    Mutation(
        "geo/episodes.py",
        "    if any(cell and cell not in after for cell in before):\n        return True\n",
        "",
        "that a cell must not be gone to any more is no news by itself",
    ),
    Mutation(
        "geo/handling.py",
        "answerable = self.responses and not rule.shadow",
        "answerable = self.responses",
        "deadlines: nobody answers a shadow, and so it escalates",
    ),
    Mutation(
        "geo/handling.py",
        "passes.resolve if self.escalated[UNRESOLVED] == NEVER else NEVER",
        "NEVER",
        "deadlines: one passes unseen when nothing else happens",
    ),
    Mutation(
        "geo/watch.py",
        "found = [self._stand_still(pair, silence.now) for pair in pairs[still].tolist()]",
        "found = []",
        "deadlines: they stand still while the operator is silent",
    ),
    Mutation(
        "geo/responses.py",
        "if watch.counts.operators[pair] != sender:",
        "if watch.counts.operators[pair] < 0:",
        "responses: anybody answers for anybody",
    ),
    Mutation(
        "geo/city_pack.py",
        "yield Handling(responded, said, at, bool(news), escalated)",
        "yield Handling(NEVER, said, at, bool(news), escalated)",
        "restored: what was answered counts as never answered",
    ),
    Mutation(
        "geo/handling.py",
        "if response == self.response:",
        "if response is self.response:",
        "responses: what was said twice is told twice",
    ),
    Mutation(
        "geo/episodes.py",
        "graver_or_not = self.handling.severity(found.severity) != self.severity",
        "graver_or_not = False",
        "responses: another severity alone is no news",
    ),
    Mutation(
        "geo/report.py",
        "        if cleared_by in LAPSES:",
        "        if cleared_by in ():",
        "to mark bikes as removed is to resolve it",
    ),
    Mutation(
        "geo/report.py",
        "return -(-midnight // self._tick_ms) - 1",
        "return -(-midnight // self._tick_ms)",
        "a day that ends in an empty tick is told of a tick late",
    ),
    Mutation(
        "geo/report.py",
        "if self.days and today <= self.days[-1].date:",
        "if self.days and today == self.days[-1].date:",
        "a version with another zone brings a day back",
    ),
    Mutation(
        "geo/report.py",
        "if before is None or self._body(key, rules, zones[key[0]], told_at) != before.body:",
        "if before is None:",
        "a day that changed is not told again",
    ),
    Mutation(
        "geo/report.py",
        "<= self._deadlines(episode, rule, offsets)[1])",
        "< self._deadlines(episode, rule, offsets)[1])",
        "what is resolved at the last moment is late",
    ),
    Mutation(
        "geo/report.py",
        "return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2000",
        "return ordered[len(ordered) // 2] // 1000",
        "the median of an even number of times is the greater one of two",
    ),
    Mutation(
        "geo/report.py",
        "rate: RATE_UNITS * getattr(self, count) // due / RATE_UNITS",
        "rate: round(getattr(self, count) / due, 4)",
        "rates are rounded",
    ),
    Mutation(
        "geo/incidents.py",
        "heirs[part] = min(incidents, key=lambda one: one.age)",
        "heirs[part] = max(incidents, key=lambda one: one.age)",
        "of incidents that meet the youngest goes on",
    ),
    Mutation(
        "geo/incidents.py",
        "going[part_of[self._oldest(pairs, episodes)]].append(incident)",
        "going[part_of[pairs[0]]].append(incident)",
        "an incident that falls apart keeps its id where its first cell is, not its oldest",
    ),
    Mutation(
        "geo/incidents.py",
        "episode.since, episode.handling = parent.episode.since, deepcopy(parent.episode.handling)",
        "episode.handling = deepcopy(parent.episode.handling)",
        "splitting an incident gives more time",
    ),
    Mutation(
        "geo/incidents.py",
        "episode.since, episode.handling = parent.episode.since, deepcopy(parent.episode.handling)",
        "episode.since = parent.episode.since",
        "what was split from an incident was never answered",
    ),
    Mutation(
        "geo/episodes.py",
        "self.told_cells != self.cells or _lead_elsewhere(self.told, self.hauls)",
        "_lead_elsewhere(self.told, self.hauls)",
        "other cells of an incident are no news",
    ),
    Mutation(
        "geo/city.py",
        "stirred = any(watch.stirred or verdicts for watch, verdicts in judged)",
        "stirred = any(verdicts for _, verdicts in judged)",
        "a cell that joins an incident unnoticed gives no cause to plan",
    ),
)
