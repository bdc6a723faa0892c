"""What judging finds worth telling, before it is put into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from geo.episodes import Episode


class Relative(NamedTuple):
    """Another incident of the same rule and operator, by what its id is made of: founding cell and opening tick."""

    founder: int
    opened: int


@dataclass(frozen=True, slots=True)
class Extent:
    """What an incident is beside an episode. pairs: of its cells, by cell; of one that is cleared those that it had."""

    founder: int
    pairs: tuple[int, ...]
    split_from: Relative | None = None
    merged_into: Relative | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be told of one episode at a tick, and what was found there. Of an incident: its extent, and any pair of it."""

    episode: Episode
    pair: int
    state: str
    limit: int
    count: int
    excess: int
    cleared_by: str | None
    extent: Extent | None = None
