"""Which operators are silent, and how long each has been speaking: step 2 of a city's tick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Voice:
    """One operator in one city."""

    last: int  # L
    last_heard: bool = False  # L was a heard tick
    gaps: list[int] = field(default_factory=list)  # the last 32, oldest first
    silent: bool = False
    spoken: int = 0  # S, in ms


@dataclass
class Change:
    """Who became silent and who returned at a tick."""

    silenced: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)


def threshold(voice: Voice, override: int | None, tick_ms: int) -> int:
    if override is not None:
        return override
    usual = sorted(voice.gaps)[15] * tick_ms if len(voice.gaps) == 32 else 600_000
    return max(600_000, 8 * usual)


def work(
    voices: dict[str, Voice],
    watched: set[str],
    heard: Mapping[str, int],
    silent_after: Mapping[str, int],
    tick: int,
    tick_ms: int,
) -> Change:
    """One tick of every operator; who is not watched is never silent."""
    change = Change()
    for operator, voice in sorted(voices.items()):
        if operator in watched:
            if heard.get(operator, 0) > 0:
                if voice.silent:
                    voice.silent = False
                    change.returned.append(operator)
                elif voice.last_heard:
                    voice.gaps = [*voice.gaps, tick - voice.last][-32:]
                voice.last, voice.last_heard = tick, True
            elif not voice.silent:
                limit = threshold(voice, silent_after.get(operator), tick_ms)
                if (tick - voice.last) * tick_ms >= limit:
                    voice.silent = True
                    change.silenced.append(operator)
        if not voice.silent:
            voice.spoken += tick_ms
    return change
