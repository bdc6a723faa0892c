"""Flat JSON objects whose keys stand in one order, read as columns: no object for a record, a field or a value.

A producer writes its records by one template, so that between the values always the same bytes stand. A `Template` is
learnt from one record; it then walks over many at once, literal by literal and value by value. What it takes is exactly
what it proved byte by byte; a record that differs in anything (another order, a space, an escape, an exponent, a null) is
not taken, and is left to a real parser. The two never disagree: that is what the tests try hardest to refute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geo.spans import Spans, blocks
from streams.swar import Words, below, bytes_below, digits, first, not_digits, not_plain, number, quotes, shared

Counts = NDArray[np.int64]
Rows = NDArray[np.int64]
Kind = Literal["text", "milliseconds", "decimal", "short decimal"]

E7 = 10_000_000
LONGEST_TEXT = 128  # bytes
_LONGEST_NAME = 31
_MOST_NAMES = 256
_TIME_DIGITS = 13
_WHOLE_DIGITS = 7
_TEMPLATES = 4
_MANY = 8  # one in so many is
_LONGEST_PAUSE = 64
_SPREAD = np.arange(1, 9) * 40_503 % 65_536  # of 65,536: places that fall in with no period (the golden ratio)
_NEAR_TIE = 100
"""Of 10**8: a remainder behind the seventh decimal that is this near to one half is left to the parser. A float below 1000
and its product with 10**7 are off by less than 3e-7 together, which is 30 of these."""

_SPACE = rb"[ \t\r\n]*"
_OPENED = re.compile(_SPACE + rb"\{")
_PAIR = re.compile(_SPACE.join([b"", rb'"([a-z_]+)"', rb":", rb'("[^"\\]*"|-?[0-9.]+)', rb"([,}])"]))
_PLAIN_NAME = re.compile(rf"""[ !#-\[\]-~]{{1,{_LONGEST_NAME}}}""")
_CLOSED = re.compile(_SPACE + rb"\Z")
_MINUS, _POINT, _BYTE = np.uint64(ord("-")), np.uint64(ord(".") ^ ord("0")), np.uint64(0xFF)
_ZERO, _ONE, _8, _24, _56, _64 = (np.uint64(n) for n in (0, 1, 8, 24, 56, 64))
_FIVE_BYTES = np.uint64(0xFF_FFFF_FFFF)


class Names:
    """A few known texts. A text's code is its index in the list; long ones, not plain ASCII, or beyond 256 are never found.

    A product of the first words, chosen by trial, tells them apart; then all bytes are compared, the closing quotation mark
    among them. With n**2 slots every second or third trial does.
    """

    def __init__(self, names: Sequence[str]) -> None:
        known = [(code, name) for code, name in enumerate(names) if _PLAIN_NAME.fullmatch(name)][:_MOST_NAMES]
        self.words = max((len(name) // 8 + 1 for _, name in known), default=1)
        text = np.array([_padded_words(name, self.words) for _, name in known], dtype=np.uint64).reshape(-1, self.words)
        mask = np.array([_mask_words(len(name) + 1, self.words) for _, name in known], np.uint64).reshape(-1, self.words)
        self._keyed = next(k for k in range(self.words + 1) if len({tuple(row[:k]) for row in text.tolist()}) == len(known))
        bits = max(1, (len(known) ** 2).bit_length())
        self._shift = np.uint64(64 - bits)
        self._factors, slots = self._tell_apart(text)
        self._text, self._mask = np.zeros((2, self.words, 1 << bits), dtype=np.uint64)
        self._mask[:] = ~_ZERO  # of a slot that no name has: no text is all zeros
        self._code, self._size = np.zeros((2, 1 << bits), dtype=np.int64)
        self._text[:, slots], self._mask[:, slots] = text.T, mask.T
        self._code[slots], self._size[slots] = [code for code, _ in known], [len(name) for _, name in known]

    def _tell_apart(self, text: Words) -> tuple[Words, Counts]:
        random = np.random.default_rng(1)
        while True:
            factors = random.integers(0, 1 << 64, max(self._keyed, 1), dtype=np.uint64) | _ONE
            slots = self._slots(text.T, factors)
            if len(np.unique(slots)) == len(text):
                return factors, slots

    def _slots(self, words: Sequence[Words] | Words, factors: Words) -> Counts:
        mixed = words[0] * factors[0]
        for j in range(1, len(factors)):
            mixed = mixed ^ words[j] * factors[j]
        slots: Counts = (mixed >> self._shift).astype(np.int64)
        return slots

    def read(self, words: Words) -> tuple[Counts, Counts, Words]:
        """Codes and sizes of n texts in uint64 (words, n), and what is not 0 where the text is none of the names."""
        keys: list[Words] = []
        going_on: Words | np.uint64 = ~_ZERO
        for word in words[: len(self._factors)]:
            mark = first(quotes(word))
            keys.append(word & ((mark << _ONE) - _ONE) & going_on)  # through the quotation mark
            going_on = going_on & ((mark != 0) - _ONE)
        slots = self._slots(keys, self._factors)
        bad: Words = np.zeros(words.shape[1], dtype=np.uint64)
        for j in range(self.words):
            bad |= (words[j] ^ self._text[j].take(slots)) & self._mask[j].take(slots)
        return self._code.take(slots), self._size.take(slots), bad


def _padded_words(name: str, words: int) -> Words:
    text = name.encode() + b'"'
    return np.frombuffer(text.ljust(8 * words, b"\0"), dtype=np.uint64)


def _mask_words(size: int, words: int) -> Words:
    return np.frombuffer((b"\xff" * size).ljust(8 * words, b"\0"), dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Field:
    """name; kind: what its value is (a short decimal is one of up to seven decimals); names: of a field of known texts."""

    name: str
    kind: Kind
    names: Names | None = None


@dataclass(slots=True)
class Table:
    """What was read of n records. ok: bool (n,); in the other rows the columns mean nothing.

    texts    by name of a field of any texts: n strings
    numbers  int64 (n,): of a field of known names, codes; milliseconds; decimals, in 1e-7 and rounded as a float would be
    """

    ok: NDArray[np.bool_]
    texts: dict[str, Spans]
    numbers: dict[str, NDArray[np.int64]]


class Template:
    """The bytes between the values, and what stands between them."""

    def __init__(self, literals: Sequence[bytes], fields: Sequence[Field], id_words: int) -> None:
        self.literals = tuple(literals)
        self.fields = tuple(fields)
        self._id_words = id_words
        # A literal ends where a word ends, so that the value behind it begins with one.
        self._leads = [-len(literal) % 8 for literal in literals]
        leads = zip(literals, self._leads, strict=True)
        self._words = [np.frombuffer(bytes(lead) + literal, dtype=np.uint64) for literal, lead in leads]

    @classmethod
    def learnt(cls, record: bytes, fields: Mapping[str, Field]) -> Template | None:
        """The template of one record; None if it is not one flat object of some of these fields.

        Only values are taken on trust, and `read` proves every one of them, of this record too.
        """
        opened = _OPENED.match(record)
        if opened is None:
            return None
        at, behind, words = opened.end(), 0, 1
        literals: list[bytes] = []
        found: list[Field] = []
        while (pair := _PAIR.match(record, at)) is not None:
            field, text = fields.get(pair[1].decode()), pair[2].startswith(b'"')
            if field is None or field in found or text != (field.kind == "text"):
                return None
            literals.append(record[behind : pair.start(2) + text])
            found.append(field)
            if text and field.names is None:
                words = max(words, len(pair[2]) // 8 + 1)
            at, behind = pair.end(), pair.end(2) - text
            if pair[3] == b"}":
                return cls([*literals, record[behind:]], found, words) if _CLOSED.match(record, at) else None
        return None

    def read(self, records: Spans) -> Table:
        """Read n records, all at once."""
        buffer, at = records.buffer, records.start.copy()
        bad = np.zeros(len(records), dtype=np.uint64)
        texts: dict[str, Spans] = {}
        numbers: dict[str, NDArray[np.int64]] = {}
        for i, field in enumerate(self.fields):
            words = self._pass_literal(buffer, at, i, bad)
            size: Counts | int
            wrong: NDArray[Any]
            if field.names is not None:
                numbers[field.name], size, wrong = field.names.read(words)
            elif field.kind == "text":
                size, wrong = _text(words, buffer, at)
                texts[field.name] = Spans(buffer, at.copy(), size)
            elif field.kind == "milliseconds":
                (numbers[field.name], wrong), size = _milliseconds(words), _TIME_DIGITS
            else:
                numbers[field.name], size, wrong = _decimal(words, rounding=field.kind == "decimal")
            bad |= wrong
            at += size
        self._pass_literal(buffer, at, len(self.fields), bad)
        return Table((bad == 0) & (at == records.start + records.size), texts, numbers)

    def _pass_literal(self, buffer: NDArray[np.uint8], at: Counts, i: int, bad: Words) -> Words:
        """Compare literal i with what stands at n places, which move behind it; gives the words of the value there."""
        literal, lead = self._words[i], self._leads[i]
        k = len(literal)
        values = 0 if i == len(self.fields) else self._value_words(self.fields[i])
        last = len(buffer) - 8 * (k + values)  # what has gone astray stays in the buffer
        block = blocks(buffer, np.minimum(at - lead, last), k + values)
        unseen = np.uint64(8 * lead)
        bad |= (block[0] ^ literal[0]) >> unseen
        for j in range(1, k):
            bad |= block[j] ^ literal[j]
        at += len(self.literals[i])
        return block[k:]

    def _value_words(self, field: Field) -> int:
        if field.names is not None:
            return field.names.words
        return {"text": self._id_words, "milliseconds": 2}.get(field.kind, 3)


def _text(words: Words, buffer: NDArray[np.uint8], at: Counts) -> tuple[Counts, Words]:
    """Sizes of n plain texts that begin with these words, and what is not 0 where there is none, or one that is too long.

    What ends a text is for the next literal to say: it begins with the quotation mark.
    """
    n = words.shape[1]
    size = np.zeros(n, dtype=np.int64)
    going_on = np.full(n, ~_ZERO)  # all bits set: no end was found yet
    done = 0
    while True:
        for word in words:
            mark = shared(first(not_plain(word)))
            size += bytes_below(mark) & going_on.view(np.int64)
            going_on &= (mark != 0) - _ONE
        done += len(words)
        if 8 * done > LONGEST_TEXT or not going_on.any():
            break
        words = blocks(buffer, np.minimum(at + 8 * done, len(buffer) - 16), 2)
    return size, going_on | (size == 0) | (size > LONGEST_TEXT)


def _milliseconds(words: Words) -> tuple[NDArray[np.int64], Words]:
    """Times of 13 digits, 2001 to 2286, and what is not 0 where there is none."""
    high, low = digits(words[0]), digits(words[1]) & _FIVE_BYTES
    bad = not_digits(high) | not_digits(low)
    bad |= (high & _BYTE) == 0  # JSON knows no leading zeros
    return number(high) * 100_000 + number(low << _24), bad


def _decimal(words: Words, *, rounding: bool) -> tuple[NDArray[np.int64], Counts, NDArray[np.bool_]]:
    """Numbers of up to 7 digits before the point, in 1e-7; their sizes in bytes; True where there is none that can be read.

    Sizes, int64 (n,) or (1,).
    """
    a, b, c = words
    minus = (a & _BYTE) == _MINUS
    signed = bool(minus.any())
    if signed:
        a, b, c = (np.where(minus, x >> _8 | y << _56, x) for x, y in ((a, b), (b, c), (c, _ZERO)))
    a, b = digits(a), digits(b)
    mark = shared(first(not_digits(a)))
    whole, size = a & below(mark), bytes_below(mark)
    bits = (size << 3).view(np.uint64)
    value = number(whole << (_64 - bits)) * E7
    bad = (size == 0) | (size > _WHOLE_DIGITS) | ((size > 1) & ((whole & _BYTE) == 0))
    point = (a >> bits) & _BYTE == _POINT
    if point.any():
        bits = bits + _8
        behind = a >> bits | b << (_64 - bits)
        e7, decimals = _decimals(behind)
        bad |= (decimals == 0) & point
        long = np.flatnonzero((decimals == 8) & point)
        if long.size:
            decimals, bits = np.broadcast_to(decimals, e7.shape).copy(), np.broadcast_to(bits, e7.shape)
            more = b[long] >> bits[long] | digits(c[long]) << (_64 - bits[long])
            up, decimals[long], wrong = _rounded(behind[long], more)
            e7[long] += up
            bad[long] |= wrong | (not rounding)
        if point.all():
            value += e7
            size = size + 1 + decimals
        else:
            value += np.where(point, e7, 0)
            size = size + np.where(point, 1 + decimals, 0)
    if signed:
        value = np.where(minus, -value, value)
        size = size + minus
    return value, size, bad


def _decimals(values: Words) -> tuple[NDArray[np.int64], Counts]:
    """The first seven decimals as a number, and how many there are, int64 (n,) or (1,); 8 means that or more."""
    mark = shared(first(not_digits(values)))
    return number((values & below(mark)) << _8), bytes_below(mark)  # the eighth is shifted out


def _rounded(values: Words, more: Words) -> tuple[NDArray[np.bool_], Counts, NDArray[np.bool_]]:
    """Of numbers with 8 to 15 decimals: whether to round up, how many they are, and True where it is not for us to say."""
    mark = first(not_digits(more))
    remainder = number(values >> _56 | (more & below(mark)) << _8)  # of 10**8
    return remainder > 50_000_000, 8 + bytes_below(mark), (np.abs(remainder - 50_000_000) < _NEAR_TIE) | (mark == 0)


class Reader:
    """Reads the records of one feed by the few templates that its producers use, which it learns on its way."""

    def __init__(self, fields: Iterable[Field], required: Iterable[str]) -> None:
        self.few = 64  # records that are not worth a template
        self._fields = {field.name: field for field in fields}
        self._required = frozenset(required)
        self._templates: list[Template] = []  # the one that took most goes first
        self._pause = 0  # calls before templates are tried again
        self._next_pause = 1

    def read(self, records: Spans) -> list[tuple[Rows, Table]]:
        """What could be read of n records: the rows in question, all different, int64, and what they say.

        A feed whose records fit no template is looked at ever more rarely.
        """
        if self._pause:
            self._pause -= 1
            return []
        read: list[tuple[Rows, Table]] = []
        left = np.arange(len(records))
        taken: dict[Template, int] = {}
        for template in self._templates:
            left, taken[template] = self._try(template, records, left, read)
            if len(left) < self.few:
                break
        new = self._learn(records, left) if len(left) >= max(self.few, len(records) // _MANY) else None
        if new is not None:
            left, taken[new] = self._try(new, records, left, read)
            self._templates.append(new)
        self._templates = sorted(self._templates, key=lambda template: -taken.get(template, 0))[:_TEMPLATES]
        if new is None and len(left) > len(records) // 2:
            self._pause, self._next_pause = self._next_pause, min(2 * self._next_pause, _LONGEST_PAUSE)
        else:
            self._next_pause = 1
        return read

    def _try(self, template: Template, records: Spans, rows: Rows, read: list[tuple[Rows, Table]]) -> tuple[Rows, int]:
        """Read by one template; gives the rows that it did not take, and how many it took."""
        table = template.read(records if len(rows) == len(records) else records[rows])
        read.append((rows, table))
        left = rows[~table.ok]
        return left, len(rows) - len(left)

    def _learn(self, records: Spans, rows: Rows) -> Template | None:
        """A template from one of some records, if it is a new one and says what is required."""
        known = {template.literals for template in self._templates}
        for record in records[rows[_SPREAD * len(rows) >> 16]].tolist():
            template = Template.learnt(record, self._fields)
            if template is None or template.literals in known:
                continue
            if self._required <= {field.name for field in template.fields}:
                return template
        return None
