"""How an episode is handled: what its operator answered, which deadlines have passed, and how grave that makes it.

docs/policies.md, section 12. Who answers, and how that finds its episode, is `geo/responses.py`; when an episode opens and
clears is `geo/episodes.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from geo.alert import SEVERITIES, end_of, rfc3339
from geo.policy import Rule
from geo.windows import Offsets

NEVER = 2**62

ACKNOWLEDGED, DISPATCHED, DONE, REJECTED = STATUSES = ("acknowledged", "dispatched", "done", "rejected")

UNANSWERED, REFUSED, UNRESOLVED = range(3)
CAUSES = ("respond_by", "rejected", "resolve_by")
"""Why an episode escalates, by the numbers above; the order of those of one tick."""


class Response(NamedTuple):
    """What an operator answers. Two that are equal say nothing new. eta_ms: only of `dispatched`; reason: only of `rejected`."""

    status: str
    eta_ms: int | None = None
    reason: str | None = None


class Passes(NamedTuple):
    """The first ticks at which the deadlines of an episode have passed; NEVER: they do not."""

    respond: int
    resolve: int


@dataclass(slots=True)
class Calendar:
    """What deadlines are counted by. responses: whether operators can answer at all; offsets: local time in the city now."""

    tick_ms: int
    responses: bool = False
    offsets: Offsets = ()

    def passes(self, rule: Rule, opened: int, since: int) -> Passes:
        """Of an episode that opened at a tick and is due since one, by the rule as it is now.

        A deadline has passed once a tick starts at or after it: what was said in time has then been taken in.
        """
        respond_ms, resolve_ms = rule.deadlines(end_of(since, self.tick_ms), since * self.tick_ms, self.offsets)
        answerable = self.responses and not rule.shadow
        after = opened + 1  # the opening tick tells of nothing else
        respond = max(after, -(-respond_ms // self.tick_ms)) if answerable else NEVER
        return Passes(respond, max(after, -(-resolve_ms // self.tick_ms)))


@dataclass(slots=True)
class Handling:
    """Of an open episode. responded: the tick of the first response, NEVER if there is none.

    response, at  the newest one that said something new, and its tick
    news          whether no event has told of it yet
    escalated     by cause: the tick, NEVER if it has not
    """

    responded: int = NEVER
    response: Response | None = None
    at: int = 0
    news: bool = False
    escalated: list[int] = field(default_factory=lambda: [NEVER] * len(CAUSES))

    def answer(self, response: Response, tick: int) -> bool:
        """A response of a tick, to act from the next one. Whether it says something new."""
        if self.responded == NEVER:
            self.responded = tick
        if response == self.response:
            return False
        self.response, self.at, self.news = response, tick, True
        return True

    def escalate(self, passes: Passes, tick: int) -> bool:
        """Whether there is a new cause to escalate at a tick; it then has."""
        there_is = (
            self.responded == NEVER and tick >= passes.respond,
            self.response is not None and self.response.status == REJECTED,
            tick >= passes.resolve,
        )
        new = [cause for cause, true in enumerate(there_is) if true and self.escalated[cause] == NEVER]
        for cause in new:
            self.escalated[cause] = tick
        return bool(new)

    def next(self, passes: Passes) -> int:
        """The first tick at which there is something to tell, if nobody answers before."""
        waits = (
            passes.respond if self.responded == NEVER and self.escalated[UNANSWERED] == NEVER else NEVER,
            passes.resolve if self.escalated[UNRESOLVED] == NEVER else NEVER,
        )
        return min(waits)

    def severity(self, plain: str) -> str:
        """As grave as what is found, and one step more for each of: nobody came to it, it is still there."""
        unmet = self.escalated[UNANSWERED] != NEVER or self.escalated[REFUSED] != NEVER
        steps = unmet + (self.escalated[UNRESOLVED] != NEVER)
        return SEVERITIES[min(SEVERITIES.index(plain) + steps, len(SEVERITIES) - 1)]

    def fields(self, tick_ms: int) -> dict[str, Any]:
        """What a body has of it: keys only for what there is."""
        fields: dict[str, Any] = {}
        if self.response is not None:
            status, eta_ms, reason = self.response
            fields["response"] = {
                "status": status,
                "at": rfc3339(end_of(self.at, tick_ms)),
                "eta": None if eta_ms is None else rfc3339(eta_ms),
                "reason": reason,
            }
        causes = sorted((tick, cause) for cause, tick in enumerate(self.escalated) if tick != NEVER)
        if causes:
            fields["escalations"] = [{"cause": CAUSES[cause], "at": rfc3339(end_of(tick, tick_ms))} for tick, cause in causes]
        return fields
