"""Which records of each partition are settled, and so how far an offset may be committed."""

from __future__ import annotations

from collections.abc import Iterable

from streams.bridge.event import Place


class Ledger:
    """Records are taken in order of their offsets and settled in any order.

    What may be committed is the first offset that is not settled: after a restart everything from there on is read again.
    """

    def __init__(self) -> None:
        self._open: dict[Place, dict[int, None]] = {}  # ordered as taken: the first key is the smallest
        self._next: dict[Place, int] = {}

    def __len__(self) -> int:
        """Records that are taken and not settled."""
        return sum(map(len, self._open.values()))

    def take(self, place: Place, offset: int) -> None:
        self._open.setdefault(place, {})[offset] = None
        self._next[place] = offset + 1

    def settle(self, place: Place, offset: int) -> None:
        """A record that is not taken (any more) is nobody's affair: its partition has left."""
        self._open.get(place, {}).pop(offset, None)

    def positions(self) -> dict[Place, int]:
        """The offset to commit, of each partition of which anything was taken."""
        return {place: next(iter(self._open[place]), end) for place, end in self._next.items()}

    def read_to(self, place: Place) -> int:
        """The offset after the last record that was taken; 0 if none was."""
        return self._next.get(place, 0)

    def drop(self, places: Iterable[Place]) -> None:
        """These partitions are another's now."""
        for place in places:
            self._open.pop(place, None)
            self._next.pop(place, None)
