"""Do the laws notice? Breaks the core on purpose, one rule at a time, and expects core and oracle to disagree.

`python -m tests.mutations` copies the tree, and for each mutation looks for a world (`tests/laws/check.py`) that tells the
broken core from the oracle. A mutation that nothing notices is a hole in the laws; one whose old text is not in its
file exactly once is out of date. Either makes the exit status 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WORLDS = 450
"""Worlds that are tried before a mutation counts as survived."""

SOUND = 20
"""Worlds in which the core as it is must agree."""

AGREED = "agreed"
WORKERS = 2


class Mutation(NamedTuple):
    file: str
    old: str
    new: str
    breaks: str
    seed: int = 0  # a world that noticed it when it was last looked for: tried first, only to be quicker


MUTATIONS = (
    Mutation(
        "geo/bike.py",
        "LEAST_HOLD_MM, GREATEST_HOLD_MM = 50_000, 100_000",
        "LEAST_HOLD_MM, GREATEST_HOLD_MM = 55_000, 100_000",
        "the hold radius is 55 m",
        seed=3,
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
        seed=18,
    ),
    Mutation(
        "geo/rest.py",
        'if left[i] or stirred[slot[fix]] >= 0 or ts[fix] <= bike["ts"]:',
        'if left[i] or ts[fix] <= bike["ts"]:',
        "a fix at rest overtakes one before it that is still to be judged",
        seed=29,
    ),
    Mutation(
        "geo/rest.py",
        " & (marks[i] == 0)",
        "",
        "a bike that rode and is back where it stood never left",
        seed=26,
    ),
    Mutation(
        "geo/bike.py",
        'copy = waiting & (rows["candidate_ts"] == fixes.ts)',
        'copy = waiting & (rows["candidate_ts"] < 0)',
        "a copy of a lie confirms it",
        seed=4,
    ),
    Mutation(
        "geo/bike.py",
        "IDLE_STANDS_MS = 1_200_000",
        "IDLE_STANDS_MS = 1_260_000",
        "a bike on a trip stands after 21 idle minutes",
        seed=73,
    ),
    Mutation(
        "geo/bike.py",
        "forgotten = (fixes.end - ts > 2 * params.ttl_ms) & (ts != 0)",
        "forgotten = (fixes.ts - ts > 2 * params.ttl_ms) & (ts != 0)",
        "forgetting is counted from the fix, not from the end of its tick",
    ),
    Mutation(
        "geo/silence.py",
        "ticks = np.where(before, returned, (tick - self.now) - fell)",
        "ticks = np.where(before, tick - self.now, tick - self.now)",
        "bikes expire and alerts ripen by the wall, not by speaking time",
        seed=2,
    ),
    Mutation(
        "geo/silence.py",
        "self._note_gaps(tick, np.flatnonzero(speaks & ~before & self.was_heard))",
        "self._note_gaps(tick, np.flatnonzero(speaks & self.was_heard))",
        "a declared silence counts as a usual gap",
        seed=64,
    ),
    Mutation(
        "geo/watch.py",
        "judged = allowed[operators] & ~silence.silent[operators]",
        "judged = allowed[operators]",
        "episodes of a silent operator do not stand still",
        seed=4,
    ),
    Mutation(
        "geo/episodes.py",
        "self.phase, self.until = Phase.COOLDOWN, now.after(rule.cooldown_ms)",
        "self.phase, self.until = Phase.COOLDOWN, now.after(rule.cooldown_ms) - 1",
        "the cooldown ends a tick early",
        seed=10,
    ),
    Mutation(
        "geo/measures.py",
        "return bikes < self.clear",
        "return bikes <= self.clear",
        "the hysteresis includes its bound",
    ),
    Mutation(
        "geo/roster.py",
        'newer |= (after["version"] == before["version"]) & (after["source"] >= before["source"])',
        'newer |= (after["version"] == before["version"]) & (after["source"] <= before["source"])',
        "of equal versions the lesser source wins",
        seed=81,
    ),
    Mutation(
        "geo/ground.py",
        "STAYED_MM = 100_000",
        "STAYED_MM = 1_000",
        "a bike that went out of service in place counts as moved",
        seed=2,
    ),
    Mutation(
        "geo/outages.py",
        "elif len(own) >= 2 and len(own) == np.count_nonzero(silence.watched):",
        "elif len(own) >= 3 and len(own) == np.count_nonzero(silence.watched):",
        "two operators that fall silent at once are no silent city",
        seed=23,
    ),
    Mutation(
        "geo/ticks.py",
        "return self.now_ms if self.first_offset is None else self.before_first_ms",
        "return -1",
        "a restored source has forgotten its clock",
        seed=54,
    ),
    Mutation(
        "geo/ticks.py",
        "return self.next_offset if self.first_offset is None else self.first_offset",
        "return self.next_offset",
        "a restored source has lost its open tick",
        seed=6,
    ),
    Mutation(
        "geo/merge.py",
        "chain.early[waiting.previous] = (tick, waiting)",
        "chain.early[chain.last] = (tick, waiting)",
        "a frame is taken over a gap in its source's chain",
        seed=3,
    ),
    Mutation(
        "geo/layers.py",
        "order = np.lexsort((listed, bike))",
        "order = np.lexsort((-listed, bike))",
        "the last rule that a bike fits has it, not the first",
        seed=1,
    ),
    Mutation(
        "geo/policy.py",
        "self.window is None or span_at(self.window, self.prepare_ms, offsets, at_ms) is not None",
        "self.window is None or span_at(self.window, 0, offsets, at_ms) is not None",
        "nothing is prepared before a window",
        seed=38,
    ),
    Mutation(
        "geo/windows.py",
        "shows = local_ms - offset if i == 0 else max(start, local_ms - offset)",
        "shows = local_ms - offset",
        "a time that does not exist is before the change of the clocks",
        seed=36,
    ),
    Mutation(
        "geo/windows.py",
        "if span.begin <= at_ms < span.close), None)",
        "if span.begin <= at_ms <= span.close), None)",
        "a window closes after its end, not at it",
        seed=17,
    ),
    Mutation(
        "geo/city.py",
        "ticks.append(self.rulebook.edge)",
        "ticks.append(NEVER)",
        "a window waits for the next record",
        seed=1,
    ),
    Mutation(
        "geo/rulebook.py",
        "heir.episodes[pair].left[POLICY] += bikes",
        "heir.episodes[pair].left[POLICY] += 0",
        "bikes that another rule took are forgotten",
        seed=42,
    ),
    Mutation(
        "geo/measures.py",
        "key=lambda i: (-(excess * counts[i] % total), i)",
        "key=lambda i: (excess * counts[i] % total, i)",
        "what is left over goes to the least remainders",
        seed=9,
    ),
    Mutation(
        "geo/measures.py",
        "return np.union1d(pairs, slots[slots >= 0]).astype(np.int32)",
        "return pairs",
        "an area of all operators is judged for those only whose count changed",
        seed=9,
    ),
    Mutation(
        "geo/measures.py",
        "over=count < least,",
        "over=count <= least,",
        "the least allowed number is too few",
        seed=14,
    ),
    Mutation(
        "geo/ground.py",
        'there = rows["held"] & (rows["state"] < REMOVED)',
        'there = rows["held"] & rows["stands"]',
        "bikes under way are no part of the fleet",
        seed=10,
    ),
    Mutation(
        "geo/rebalancing.py",
        "ACTS_AFTER = 2\n",
        "ACTS_AFTER = 3\n",
        "a plan acts three ticks after it was made",
    ),
    Mutation(
        "geo/city_pack.py",
        'city.rebalancing.pending = _unpack_plan(_part(packed, "plan"))',
        "city.rebalancing.pending = None",
        "a plan that does not act yet is lost with its worker",
        seed=93,
    ),
    Mutation(
        "geo/episodes.py",
        "    if any(cell and cell not in after for cell in before):\n        return True\n",
        "",
        "that a cell must not be gone to any more is no news by itself",
        seed=141,
    ),
    Mutation(
        "geo/vacancies.py",
        "left[area] -= bikes",
        "left[area] -= 0",
        "what places share is given to each of them",
        seed=235,
    ),
    Mutation(
        "geo/measures.py",
        "if rule.shadow or not rule.has_maximum or",
        "if not rule.has_maximum or",
        "a rule on trial forbids to bring bikes",
        seed=114,
    ),
    Mutation(
        "geo/ground.py",
        "resettled | (stands & change.restated()) if layer.follows_states else resettled",
        "resettled",
        "a bike stays with its rule whatever becomes of its state",
        seed=32,
    ),
    Mutation(
        "geo/decrees.py",
        "from_ms = (tick + 1) * tick_ms",
        "from_ms = (tick + 2) * tick_ms",
        "a document acts a tick late",
        seed=1,
    ),
    Mutation(
        "geo/decrees.py",
        "if end is not None and end <= decree.from_ms:",
        "if end is not None and end < 0:",
        "a document that was replaced before its start ends others all the same",
        seed=63,
    ),
    Mutation(
        "geo/decrees.py",
        "self.settled |= had_a_say",
        "self.settled |= had_a_say & {decree.policy_id for decree in kept}",
        "the configuration has the last word once a document is over",
        seed=185,
    ),
    Mutation(
        "geo/control.py",
        "frames = [self._close(tick) for tick in sorted(self._open) if tick < ticks[-1]]",
        "frames = [self._close(tick) for tick in sorted(self._open) if tick <= ticks[-1]]",
        "a document is told before its tick is over",
        seed=93,
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
    Mutation(
        "geo/density.py",
        'for name in ("count", "silent", "degraded"):',
        'for name in ("count", "degraded"):',
        "a cell is not told when one of its operators falls silent",
        seed=2,
    ),
    Mutation(
        "geo/density.py",
        "self.coverage = coverage\n\n",
        'self.coverage = b""\n\n',
        "a restored city tells again who is silent",
        seed=6,
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
        seed=1,
    ),
    Mutation(
        "geo/handling.py",
        "answerable = self.responses and not rule.shadow",
        "answerable = self.responses",
        "deadlines: nobody answers a shadow, and so it escalates",
        seed=2,
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
        seed=4,
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
        seed=89,
    ),
    Mutation(
        "geo/handling.py",
        "if response == self.response:",
        "if response is self.response:",
        "responses: what was said twice is told twice",
        seed=4,
    ),
    Mutation(
        "geo/episodes.py",
        "graver_or_not = self.handling.severity(found.severity) != self.severity",
        "graver_or_not = False",
        "responses: another severity alone is no news",
        seed=10,
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
    Mutation(
        "geo/report.py",
        "        if cleared_by in LAPSES:",
        "        if cleared_by in ():",
        "to mark bikes as removed is to resolve it",
        seed=4,
    ),
    Mutation(
        "geo/report.py",
        "return -(-midnight // self._tick_ms) - 1",
        "return -(-midnight // self._tick_ms)",
        "a day that ends in an empty tick is told of a tick late",
        seed=1,
    ),
    Mutation(
        "geo/report.py",
        "if self.days and today <= self.days[-1].date:",
        "if self.days and today == self.days[-1].date:",
        "a version with another zone brings a day back",
        seed=210,
    ),
    Mutation(
        "geo/report.py",
        "if before is None or self._body(key, rules, zones[key[0]], told_at) != before.body:",
        "if before is None:",
        "a day that changed is not told again",
        seed=3,
    ),
    Mutation(
        "geo/report.py",
        "<= self._deadlines(episode, rule, offsets)[1])",
        "< self._deadlines(episode, rule, offsets)[1])",
        "what is resolved at the last moment is late",
        seed=10,
    ),
    Mutation(
        "geo/report.py",
        "return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2000",
        "return ordered[len(ordered) // 2] // 1000",
        "the median of an even number of times is the greater one of two",
        seed=3,
    ),
    Mutation(
        "geo/report.py",
        "rate: RATE_UNITS * getattr(self, count) // due / RATE_UNITS",
        "rate: round(getattr(self, count) / due, 4)",
        "rates are rounded",
        seed=10,
    ),
    Mutation(
        "geo/windows.py",
        "    while first_showing(date * DAY_MS, offsets) > at_ms:\n        date -= 1\n    return date",
        "    return (at_ms + next((o for t, o in reversed(offsets) if t <= at_ms), offsets[0][1] if offsets else 0)) // DAY_MS",
        "a date comes twice when clocks go back",
        seed=213,
    ),
    Mutation(
        "geo/incidents.py",
        "heirs[part] = min(incidents, key=lambda one: one.age)",
        "heirs[part] = max(incidents, key=lambda one: one.age)",
        "of incidents that meet the youngest goes on",
        seed=1,
    ),
    Mutation(
        "geo/incidents.py",
        "going[part_of[self._oldest(pairs, episodes)]].append(incident)",
        "going[part_of[pairs[0]]].append(incident)",
        "an incident that falls apart keeps its id where its first cell is, not its oldest",
        seed=2,
    ),
    Mutation(
        "geo/incidents.py",
        "episode.since, episode.handling = parent.episode.since, deepcopy(parent.episode.handling)",
        "episode.handling = deepcopy(parent.episode.handling)",
        "splitting an incident gives more time",
        seed=1,
    ),
    Mutation(
        "geo/incidents.py",
        "episode.since, episode.handling = parent.episode.since, deepcopy(parent.episode.handling)",
        "episode.since = parent.episode.since",
        "what was split from an incident was never answered",
        seed=1,
    ),
    Mutation(
        "geo/episodes.py",
        "self.told_cells != self.cells or _lead_elsewhere(self.told, self.hauls)",
        "_lead_elsewhere(self.told, self.hauls)",
        "other cells of an incident are no news",
        seed=1,
    ),
    Mutation(
        "geo/city.py",
        "stirred = any(watch.stirred or verdicts for watch, verdicts in judged)",
        "stirred = any(verdicts for _, verdicts in judged)",
        "a cell that joins an incident unnoticed gives no cause to plan",
        seed=50,
    ),
)


def main(wanted: str = "") -> int:
    """wanted: only those that break something whose words hold this."""
    mutations = [mutation for mutation in MUTATIONS if wanted in mutation.breaks]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(WORKERS) as pool:
        sound = _check(_copy(Path(directory) / "sound"), 0, SOUND)
        if sound != AGREED:
            print(f"core and oracle disagree before any mutation: {sound}")
            return 1
        verdicts = list(pool.map(lambda item: _try(Path(directory) / str(item[0]), item[1]), enumerate(mutations)))
    width = max(len(mutation.breaks) for mutation in mutations)
    for mutation, verdict in zip(mutations, verdicts, strict=True):
        print(f"{mutation.file:16} {mutation.breaks:{width}}  {verdict}")
    caught = sum(verdict.startswith("caught") for verdict in verdicts)
    print(f"{caught} of {len(mutations)} mutations caught in {time.monotonic() - started:.0f} s")
    return 0 if caught == len(mutations) else 1


def _try(tree: Path, mutation: Mutation) -> str:
    """What becomes of a mutation, in a tree of its own."""
    text = (ROOT / mutation.file).read_text()
    if (found := text.count(mutation.old)) != 1:
        return f"OUT OF DATE: the old text is there {found} times"
    (_copy(tree) / mutation.file).write_text(text.replace(mutation.old, mutation.new))
    verdict = _check(tree, mutation.seed, mutation.seed + 1)
    if verdict == AGREED:
        verdict = _check(tree, 0, WORLDS)
    if verdict == AGREED:
        return "SURVIVED"
    return f"caught by {verdict[:60]}" if verdict.startswith("seed ") else f"BROKEN: {verdict}"


def _copy(tree: Path) -> Path:
    for part in ("geo", "streams", "tests/oracle", "tests/laws"):
        # Compiled loops are copied along: those of the file that is broken are made anew, for its time differs.
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("*.pyc"))
    return tree


def _check(tree: Path, first: int, last: int) -> str:
    """AGREED, or what was found in the worlds of these seeds: "seed ...", anything else is no answer."""
    command = [sys.executable, "-m", "tests.laws.check", str(first), str(last)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return AGREED
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {done.returncode}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
