"""What operators answer, and what it means that they do not: section 12 of docs/policies.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.oracle import bodies

CAUSES = ("respond_by", "rejected", "resolve_by")
STEPS = ("minor", "major", "critical")


@dataclass(frozen=True)
class Answer:
    """A record of an operator's topic and what it means. city None: it is malformed."""

    record_ms: int
    topic: str
    operator: str
    value: bytes
    city: str | None = None
    episode_id: str = ""
    status: str = ""
    eta: int | None = None
    reason: str | None = None

    @property
    def says(self) -> tuple[str, int | None, str | None]:
        return self.status, self.eta, self.reason


@dataclass
class Handling:
    """How far an episode has come. news: its response is not told yet. escalations: (cause, tick)."""

    answered: int | None = None
    response: Answer | None = None
    at: int = 0
    news: bool = False
    escalations: tuple[tuple[str, int], ...] = ()

    def take(self, answer: Answer, tick: int) -> None:
        """A response of a tick has joined the episode."""
        if self.answered is None:
            self.answered = tick
        if self.response is None or self.response.says != answer.says:
            self.response, self.at, self.news = answer, tick, True

    def new_causes(self, deadlines: tuple[int, int], start: int, *, answerable: bool) -> list[str]:
        """Why it escalates at the tick of this start."""
        respond_by, resolve_by = deadlines
        true = {
            "respond_by": answerable and self.answered is None and start >= respond_by,
            "rejected": self.response is not None and self.response.status == "rejected",
            "resolve_by": start >= resolve_by,
        }
        return [cause for cause in CAUSES if true[cause] and cause not in self.causes]

    @property
    def causes(self) -> Sequence[str]:
        return [cause for cause, _ in self.escalations]

    def severity(self, plain: str) -> str:
        steps = ("respond_by" in self.causes or "rejected" in self.causes) + ("resolve_by" in self.causes)
        return STEPS[min(2, STEPS.index(plain) + steps)]

    def part(self, tick_ms: int) -> dict[str, Any]:
        """Of a body."""
        part: dict[str, Any] = {}
        if self.response is not None:
            said = self.response
            part["response"] = {
                "status": said.status,
                "at": bodies.rfc_3339((self.at + 1) * tick_ms),
                "eta": None if said.eta is None else bodies.rfc_3339(said.eta),
                "reason": said.reason,
            }
        if self.escalations:
            part["escalations"] = [
                {"cause": cause, "at": bodies.rfc_3339((tick + 1) * tick_ms)} for cause, tick in self.escalations
            ]
        return part
