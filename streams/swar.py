"""Eight bytes at a time: text in 64-bit words, the first character in the lowest byte, whole columns of words at once.

The technique is SIMD within a register: L. Lamport, "Multiple byte processing with full-word instructions" (1975);
the zero byte and the digits as in H. S. Warren, "Hacker's Delight", 6-1, and D. Lemire, "Quickly parsing eight digits" (2018).
A test of this kind answers with the highest bit of each byte that passes. Where it may be wrong above the lowest one that
passes, the function says so: who looks for the first one only may use it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]


def every(byte: int) -> np.uint64:
    """The byte eight times."""
    return np.uint64(byte * 0x0101_0101_0101_0101)


_ONES, _HIGH, _LOW7 = every(0x01), every(0x80), every(0x7F)
_ZERO_CHARACTERS, _TO_HIGH = every(ord("0")), every(0x80 - 10)
_QUOTE, _BACKSLASH, _SPACE = every(ord('"')), every(ord("\\")), every(ord(" "))
_ONE: Final = np.uint64(1)
_SEVEN: Final = np.uint64(7)
_EIGHT: Final = np.uint64(8)
_SIXTEEN: Final = np.uint64(16)
_PAIRS = np.uint64(0x0000_00FF_0000_00FF)
_OUTER = np.uint64(0x000F_4240_0000_0064)  # 1_000_000 and 100
_INNER = np.uint64(0x0000_2710_0000_0001)  # 10_000 and 1


def first(found: Words) -> Words:
    """The lowest bit of each word, or 0."""
    lowest: Words = found & (~found + _ONE)
    return lowest


def shared(mark: Words) -> Words:
    """The marks, or only one where all of n > 0 are the same: what is computed from it is then computed once."""
    return mark[:1] if (mark == mark[0]).all() else mark


def below(mark: Words) -> Words:
    """All bits of the bytes below the one whose highest bit is set; all bits if none is."""
    bits: Words = (mark >> _SEVEN) - _ONE
    return bits


def bytes_below(mark: Words) -> Counts:
    """How many bytes there are below the one whose highest bit is set; 8 if none is."""
    counts: Counts = (np.bitwise_count(mark - _ONE) >> 3).astype(np.int64)
    return counts


def quotes(text: Words) -> Words:
    """Where quotation marks are. May be wrong above the first one."""
    x = text ^ _QUOTE
    found: Words = (x - _ONES) & ~x & _HIGH
    return found


def not_plain(text: Words) -> Words:
    """Where something else is than a printable ASCII character that stands for itself in JSON. May be wrong above the first."""
    x, y = text ^ _QUOTE, text ^ _BACKSLASH
    found: Words = (x - _ONES) & ~x
    found |= (y - _ONES) & ~y
    found |= (text - _SPACE) & ~text
    found |= text + _ONES  # DEL
    found |= text
    found &= _HIGH
    return found


def digits(text: Words) -> Words:
    """Digits become 0 to 9, everything else more than 9."""
    values: Words = text ^ _ZERO_CHARACTERS
    return values


def not_digits(values: Words) -> Words:
    """Where `digits` found none. Exact."""
    found: Words = (((values & _LOW7) + _TO_HIGH) | values) & _HIGH
    return found


def number(values: Words) -> NDArray[np.int64]:
    """The number that eight values of `digits` make, the lowest byte being the first digit; int64."""
    tens = values * np.uint64(10) + (values >> _EIGHT)
    both = (tens & _PAIRS) * _OUTER + ((tens >> _SIXTEEN) & _PAIRS) * _INNER
    return (both >> np.uint64(32)).view(np.int64)
