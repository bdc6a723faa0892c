"""What the topic of policies has put into force in a city, over what its configuration says. docs/policies.md, section 11.

A document acts from the tick after its own, or from its start if that is later. Of the documents of one id the newest that has
begun counts; it also ends what it names in `prev_policies`, of the configuration or written before it. A document that cannot be
read is refused: what was in force stays, and the city is told by an episode of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import orjson

from geo.alert import CLEARED, POLICY_REFUSED, POLICY_REFUSED_RULE, RAISED, UPDATED, Event, Heading, policy_refused_body
from geo.params import City, Epoch
from geo.policy import Policy, ended

REPLACED, WITHDRAWN = "replaced", "withdrawn"
"""What ends the episode of a refused policy: a good one of its id, or its withdrawal."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a document says. policy: with its own geographies; None: it withdraws, or says nothing that could be in force.

    problems: why it is refused; none: it is sound by itself.
    """

    policy_id: str
    policy: Policy | None = None
    problems: tuple[str, ...] = ()


Read = Callable[[bytes], Reading]
"""Reads the body of a document: a pure function of it."""


@dataclass(frozen=True, slots=True)
class Decree:
    """An accepted document. policy None: nothing of this id is in force from `from_ms` on.

    tick: the one at whose end it was taken in. body: as it was written.
    """

    policy_id: str
    policy: Policy | None
    from_ms: int
    tick: int
    body: bytes

    @property
    def concerns(self) -> tuple[str, ...]:
        """Ids of which it says what is in force."""
        return (self.policy_id, *(self.policy.replaces if self.policy else ()))


@dataclass(slots=True)
class Refusal:
    """An open episode: a policy of this id was refused, and no good one has come since. Of the newest event: tick, body."""

    policy_id: str
    opened: int
    sequence: int = 0
    last_event: int = 0
    body: bytes = b""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the newest one was refused."""
        return tuple(orjson.loads(self.body)["refused"]["problems"])


@dataclass(slots=True)
class Decrees:
    """The documents of one city that still matter, in the order in which they were written.

    settled: ids of which documents have said what is in force: the configuration says nothing of them any more.
    """

    city: str
    tick_ms: int
    decrees: list[Decree] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)
    refusals: dict[str, Refusal] = field(default_factory=dict)

    # --- documents in ---------------------------------------------------------------------------------------------------

    def take(self, reading: Reading, body: bytes, *, tick: int, epoch: Epoch) -> list[Event]:
        """Take in a document of a tick, which acts from the next one; what there is to tell of it."""
        if problems := reading.problems or tuple(self._misfits(reading, epoch)):
            return [self._refuse(reading.policy_id, problems, tick)]
        self.decrees.append(decree_of(reading, body, tick, self.tick_ms))
        refusal = self.refusals.pop(reading.policy_id, None)
        if refusal is None:
            return []
        return [self._tell(refusal, CLEARED, tick, (), WITHDRAWN if reading.policy is None else REPLACED)]

    def _misfits(self, reading: Reading, epoch: Epoch) -> Iterable[str]:
        """What is wrong with a document here and now, though it is sound by itself."""
        if reading.policy is None:
            return
        own = {rule.policy_id for city in epoch.cities if city.name == self.city for rule in city.rules}
        if reading.policy_id in own:
            yield f"policy_id: must not be that of the city's own rules, got {reading.policy_id}. Give the policy another id."
        for name in reading.policy.operators:
            if name not in epoch.operators:
                known = ", ".join(epoch.operators)
                yield f"provider_ids: must be names of allowed operators, got {name}. Known here: {known}."

    def _refuse(self, policy_id: str, problems: tuple[str, ...], tick: int) -> Event:
        refusal = self.refusals.setdefault(policy_id, Refusal(policy_id, tick))
        return self._tell(refusal, UPDATED if refusal.sequence else RAISED, tick, problems)

    def _tell(self, refusal: Refusal, state: str, tick: int, problems: tuple[str, ...], cleared_by: str | None = None) -> Event:
        refusal.sequence += 1
        refusal.last_event = tick
        heading = self._heading(refusal, state)
        refusal.body = policy_refused_body(heading, problems, cleared_by)
        return heading.event(refusal.body)

    def open_events(self) -> list[Event]:
        """The newest event of each open episode."""
        return [self._heading(one, RAISED if one.sequence == 1 else UPDATED).event(one.body) for one in self.refusals.values()]

    def _heading(self, refusal: Refusal, state: str) -> Heading:
        return Heading(
            city=self.city,
            operator="",
            kind=POLICY_REFUSED,
            state=state,
            area=refusal.policy_id,
            rule=POLICY_REFUSED_RULE,
            opened=refusal.opened,
            tick=refusal.last_event,
            tick_ms=self.tick_ms,
            sequence=refusal.sequence,
        )

    # --- what is in force -----------------------------------------------------------------------------------------------

    def over(self, city: City) -> City:
        """The city with the policies that are in force, now or later: the configured ones, then the topic's by id."""
        acting, ends = _acting(self.decrees)
        policies = [_span(p, ends.get(p.policy_id)) for p in city.policies if p.policy_id not in self.settled]
        acting.sort(key=lambda one: (one[0].policy_id, one[0].from_ms))
        policies += [_span(replace(d.policy, from_ms=d.from_ms), end) for d, end in acting if d.policy is not None]
        return replace(city, policies=tuple(policy for policy in policies if policy is not None and policy.rules))

    def forget(self, now_ms: int) -> None:
        """Drop what can never be in force again, at a tick that starts at `now_ms`."""
        begun = _acting([decree for decree in self.decrees if decree.from_ms <= now_ms])[0]
        ends = {id(decree): end for decree, end in begun}
        kept, had_a_say = [], set[str]()
        for decree in reversed(self.decrees):
            if decree.from_ms > now_ms:
                if decree.policy_id not in had_a_say:  # else it is ended before it begins, by one that was written later
                    kept.append(decree)
            elif id(decree) in ends:
                had_a_say.update(decree.concerns)
                if _in_force_after(decree, ends[id(decree)], now_ms):
                    kept.append(decree)
        self.settled |= had_a_say
        self.decrees = kept[::-1]


def decree_of(reading: Reading, body: bytes, tick: int, tick_ms: int) -> Decree:
    """A sound document of a tick as it acts."""
    from_ms = (tick + 1) * tick_ms
    if reading.policy is not None and reading.policy.from_ms is not None:
        from_ms = max(from_ms, reading.policy.from_ms)
    return Decree(reading.policy_id, reading.policy, from_ms, tick, body)


def _acting(decrees: Sequence[Decree]) -> tuple[list[tuple[Decree, int | None]], dict[str, int]]:
    """Those that begin at all, each with the moment at which a later one ends it, and by id the first moment at which any begins
    that has a say in it. One begins unless one that was written later ends it before."""
    acting: list[tuple[Decree, int | None]] = []
    ends: dict[str, int] = {}
    for decree in reversed(decrees):
        end = ends.get(decree.policy_id)
        if end is not None and end <= decree.from_ms:
            continue
        acting.append((decree, end))
        for policy_id in decree.concerns:
            ends[policy_id] = min(decree.from_ms, ends.get(policy_id, decree.from_ms))
    return acting[::-1], ends


def _in_force_after(decree: Decree, end: int | None, now_ms: int) -> bool:
    """Whether it is in force at `now_ms` or may be later. A withdrawal never is."""
    ends = (end, decree.policy.until_ms if decree.policy else now_ms)
    return all(moment is None or moment > now_ms for moment in ends)


def _span(policy: Policy, end: int | None) -> Policy | None:
    return policy if end is None else ended(policy, end)
