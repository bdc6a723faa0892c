"""One record after the other by a template: literal, value, literal, value. What `streams.flat_json` means, as a compiled loop.

Text is looked at eight bytes at a time, the first character in the lowest byte of a word: L. Lamport, "Multiple byte processing
with full-word instructions" (1975); the zero byte and the digits as in H. S. Warren, "Hacker's Delight", 6-1, and D. Lemire,
"Quickly parsing eight digits" (2018). A test of this kind answers with the highest bit of each byte that passes; it may be wrong
above the lowest one that passes, so only the first is ever used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geo.compiled import compiled, inlined
from geo.spans import Words

Longs = NDArray[np.int64]
Number = int | np.int64

TEXT, MILLISECONDS, DECIMAL, SHORT_DECIMAL, NAME = range(5)

E7 = 10_000_000
LONGEST_TEXT = 128  # bytes
LONGEST_NAME = 31
NAME_WORDS = LONGEST_NAME // 8 + 1
_WHOLE_DIGITS = 7
_TIME_DIGITS = 13
NEAR_TIE = 100
"""Of 10**8: a remainder behind the seventh decimal that is this near to one half is left to the parser. A float below 1000
and its product with 10**7 are off by less than 3e-7 together, which is 30 of these."""
_HALF = 50_000_000

_ONES = np.uint64(0x0101_0101_0101_0101)
_HIGH, _LOW7, _TO_HIGH = _ONES * np.uint64(0x80), _ONES * np.uint64(0x7F), _ONES * np.uint64(0x80 - 10)
_QUOTES, _BACKSLASHES, _SPACES, _ZEROS = (_ONES * np.uint64(ord(c)) for c in '"\\ 0')
_PAIRS = np.uint64(0x0000_00FF_0000_00FF)
_OUTER = np.uint64(0x000F_4240_0000_0064)  # 1_000_000 and 100
_INNER = np.uint64(0x0000_2710_0000_0001)  # 10_000 and 1
_MINUS, _POINT = np.uint64(ord("-")), np.uint64(ord("."))
_BYTE, _FIVE_BYTES = np.uint64(0xFF), np.uint64(0xFF_FFFF_FFFF)
_0, _1, _8, _16, _24, _32, _56, _64 = (np.uint64(n) for n in (0, 1, 8, 16, 24, 32, 56, 64))
_MIX = np.uint64(11400714819323198485)  # 2**64 / golden ratio, odd

FIRST_BYTES = np.array([2 ** (8 * n) - 1 for n in range(9)], dtype=np.uint64)
_POWERS = np.array([10**n for n in range(9)], dtype=np.int64)


@compiled
def read(
    words: Words,
    start: Longs,
    size: Longs,
    literals: Words,
    literal_sizes: Longs,
    kinds: Longs,
    tables: Longs,
    names: Words,
    numbers: Longs,
    text_start: Longs,
    text_size: Longs,
    ok: NDArray[np.bool_],
) -> None:
    """Read n records by a template of f fields; fills the last four.

    words          of the buffer that the records stand in, with 128 bytes more at either end, as `geo.spans.words_of` gives
    literals       one behind the other, each padded to whole words; literal_sizes: int64 (f + 1,), bytes, at least 1
    kinds          int64 (f,)
    tables         int64 (f, 2): of a field of names, where its table begins and how many places it has, a power of two
    names          uint64 (places, NAME_WORDS + 2): by hash, as `_name` looks for them: text, size in bytes (0: nobody's), code
    numbers        int64 (f, n), as of `streams.flat_json.Table`
    text_start, text_size   int64 (f, n), of texts
    ok             bool (n,): proved byte by byte to fit the template, and the values to be what they must be
    """
    fields = len(kinds)
    for i in range(len(start)):
        at: Number = start[i]
        behind: Number = at
        end, word, good = start[i] + size[i], 0, True
        for f in range(fields + 1):
            left = literal_sizes[f]
            if at + left > end:
                good = False
                break
            different = _0
            while left > 8:
                different |= words[at] ^ literals[word]
                at += 8
                left -= 8
                word += 1
            different |= (words[at] ^ literals[word]) & FIRST_BYTES[left]
            at += left
            word += 1
            if different != _0:
                good = False
                break
            if f == fields:
                break
            kind = kinds[f]
            if kind == TEXT:
                behind = _plain_end(words, at, end)
                text_start[f, i], text_size[f, i] = at, behind - at
                good = bool(0 < behind - at <= LONGEST_TEXT)
            elif kind == NAME:
                behind, numbers[f, i] = _name(words, at, names, tables[f, 0], tables[f, 1])
                good = bool(numbers[f, i] >= 0)
            elif kind == MILLISECONDS:
                behind, numbers[f, i], good = _milliseconds(words, at)
            else:
                behind, numbers[f, i], good = _decimal(words, at, kind == DECIMAL)
            at = behind
            if not good or at > end:
                good = False
                break
        ok[i] = good and at == end


@compiled
def mixed(words: Words, at: Number) -> tuple[np.uint64, Number]:
    """Of the text there through its quotation mark: a hash of its bytes, and its size; -1: it is longer than a name may be."""
    hashed = _0
    for j in range(NAME_WORDS):
        word = words[at + 8 * j]
        x = word ^ _QUOTES
        mark = _first((x - _ONES) & ~x & _HIGH)
        if mark != _0:
            hashed = (hashed ^ (word & ((mark << _1) - _1))) * _MIX
            return hashed, 8 * j + _bytes_below(mark)
        hashed = (hashed ^ word) * _MIX
    return hashed, -1


@inlined
def _first(found: np.uint64) -> np.uint64:
    """The lowest bit, or 0."""
    return found & (~found + _1)


@inlined
def _bytes_below(mark: np.uint64) -> Number:
    """How many bytes there are below the one whose highest bit alone is set; 8 if none is."""
    return np.int64(((mark - _1) & _ONES) * _ONES >> _56) - 1 if mark != _0 else 8


@inlined
def _not_digits(values: np.uint64) -> np.uint64:
    """Where bytes are above 9. Exact."""
    return (((values & _LOW7) + _TO_HIGH) | values) & _HIGH


@inlined
def _number(values: np.uint64) -> Number:
    """The number that eight digits make, the lowest byte being the first digit."""
    tens = values * np.uint64(10) + (values >> _8)
    both = (tens & _PAIRS) * _OUTER + ((tens >> _16) & _PAIRS) * _INNER
    return np.int64(both >> _32)


@inlined
def _plain_end(words: Words, at: Number, end: Number) -> Number:
    """Where the printable ASCII characters end that stand for themselves in JSON; perhaps behind `end`."""
    while at < end:
        text = words[at]
        x, y = text ^ _QUOTES, text ^ _BACKSLASHES
        other = ((x - _ONES) & ~x) | ((y - _ONES) & ~y) | ((text - _SPACES) & ~text) | (text + _ONES) | text
        other &= _HIGH
        if other != _0:
            return at + _bytes_below(_first(other))
        at += 8
    return at


@inlined
def _name(words: Words, at: Number, names: Words, begin: Number, places: Number) -> tuple[Number, Number]:
    """Where a text of the table ends, and its code; -1: it is none of them. All its bytes are compared, the mark behind it too."""
    hashed, size = mixed(words, at)
    place = np.int64(hashed >> _32) & (places - 1)
    while size > 0 and names[begin + place, NAME_WORDS] != _0:
        if names[begin + place, NAME_WORDS] == np.uint64(size):
            different = _0
            for j in range(size // 8):
                different |= names[begin + place, j] ^ words[at + 8 * j]
            last = size // 8
            different |= (names[begin + place, last] ^ words[at + 8 * last]) & FIRST_BYTES[size % 8 + 1]
            if different == _0:
                return at + size, np.int64(names[begin + place, NAME_WORDS + 1])
        place = (place + 1) & (places - 1)
    return at, -1


@inlined
def _milliseconds(words: Words, at: Number) -> tuple[Number, Number, bool]:
    """Times of 13 digits, 2001 to 2286: where it ends, the number, and whether it is one."""
    high, low = words[at] ^ _ZEROS, (words[at + 8] ^ _ZEROS) & _FIVE_BYTES
    good = (_not_digits(high) | _not_digits(low)) == _0 and (high & _BYTE) != _0  # JSON knows no leading zeros
    return at + _TIME_DIGITS, _number(high) * 100_000 + _number(low << _24), good


@inlined
def _decimal(words: Words, at: Number, rounding: bool) -> tuple[Number, Number, bool]:
    """Numbers of up to 7 digits before the point and 15 behind it, in 1e-7: where it ends, the number, and whether it can be read."""
    minus = (words[at] & _BYTE) == _MINUS
    if minus:
        at += 1
    whole = words[at] ^ _ZEROS
    n = _bytes_below(_first(_not_digits(whole)))
    if n == 0 or n > _WHOLE_DIGITS or (n > 1 and (whole & _BYTE) == _0):
        return at, 0, False
    value = _number(whole << np.uint64(64 - 8 * n)) * E7
    at += n
    if (words[at] & _BYTE) == _POINT:
        at += 1
        behind = words[at] ^ _ZEROS
        n = _bytes_below(_first(_not_digits(behind)))
        if n == 0:
            return at, 0, False
        if n < 8:
            value += _number(behind << np.uint64(64 - 8 * n)) * _POWERS[7 - n]
        else:
            more = words[at + 8] ^ _ZEROS
            m = _bytes_below(_first(_not_digits(more)))
            remainder = _number(behind >> _56 | (more & FIRST_BYTES[m]) << _8)  # of 10**8
            if not rounding or m == 8 or -NEAR_TIE < remainder - _HALF < NEAR_TIE:
                return at, 0, False
            value += _number(behind << _8) + (1 if remainder > _HALF else 0)
            n += m
        at += n
    return at, -value if minus else value, True
