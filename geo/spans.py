"""Many byte strings in one buffer: where each starts and how long it is. Work on all of them at once needs no object for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAD = 128
"""Bytes before the first and behind the last string, so that words around either end may be read without a look."""

Index = slice | NDArray[np.int64] | NDArray[np.bool_]
Words = NDArray[np.uint64]

_PADDING = bytes(PAD)


class Spans:
    """n byte strings. buffer: uint8, PAD bytes longer at either end than what the strings take; start, size: int64 (n,)."""

    __slots__ = ("buffer", "size", "start")

    def __init__(self, buffer: NDArray[np.uint8], start: NDArray[np.int64], size: NDArray[np.int64]) -> None:
        self.buffer = buffer
        self.start = start
        self.size = size

    @classmethod
    def of(cls, strings: Sequence[bytes]) -> Spans:
        """The strings, copied into a buffer of their own."""
        size = np.fromiter(map(len, strings), dtype=np.int64, count=len(strings))
        return cls(padded(strings), np.cumsum(size) - size + PAD, size)

    @classmethod
    def of_lines(cls, text: bytes) -> Spans:
        """The lines of a text, each with a line break behind it."""
        buffer = padded([text])
        ends = np.flatnonzero(buffer == ord("\n"))
        start = np.append(PAD, ends[:-1] + 1) if len(ends) else ends
        return cls(buffer, start, ends - start)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, which: Index) -> Spans:
        return Spans(self.buffer, self.start[which], self.size[which])

    def tolist(self) -> list[bytes]:
        """Every string as an object of its own."""
        data = self.buffer.tobytes() if self.buffer.size < 1 << 16 else self.buffer.data
        ends = (self.start + self.size).tolist()
        return [bytes(data[start:end]) for start, end in zip(self.start.tolist(), ends, strict=True)]


def padded(strings: Sequence[bytes | bytearray]) -> NDArray[np.uint8]:
    """The strings one behind the other, with PAD bytes at either end."""
    return np.frombuffer(b"".join((_PADDING, *strings, _PADDING)), dtype=np.uint8)


def words_of(buffer: NDArray[np.uint8]) -> Words:
    """The word of 8 bytes, the first byte lowest, at every place of n bytes but the last seven: uint64 (n - 7,), not aligned.

    A view that cannot be written to.
    """
    words: Words = np.ndarray((len(buffer) - 7,), np.uint64, buffer, 0, (1,))
    words.flags.writeable = False
    return words
