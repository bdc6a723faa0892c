"""Flat JSON objects whose keys stand in one order, read as columns: no object for a record, a field or a value.

A producer writes its records by one template, so that between the values always the same bytes stand. A `Template` is
learnt from one record; it then walks over others (streams.flat_json_loop), literal by literal and value by value. What it takes
is exactly what it proved byte by byte; a record that differs in anything (another order, a space, an escape, an exponent, a null) is
not taken, and is left to a real parser. The two never disagree: that is what the tests try hardest to refute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geo.spans import PAD, Spans, Words, padded, words_of
from streams import flat_json_loop as loop
from streams.flat_json_loop import E7, LONGEST_NAME, NAME_WORDS

__all__ = ["E7", "Field", "Names", "Reader", "Table", "Template"]

Rows = NDArray[np.int64]
Kind = Literal["text", "milliseconds", "decimal", "short decimal"]

_MOST_NAMES = 256
_TEMPLATES = 4
_MANY = 8  # one in so many is
_LONGEST_PAUSE = 64
_SPREAD = np.arange(1, 9) * 40_503 % 65_536  # of 65,536: places that fall in with no period (the golden ratio)

_SPACE = rb"[ \t\r\n]*"
_OPENED = re.compile(_SPACE + rb"\{")
_PAIR = re.compile(_SPACE.join([b"", rb'"([a-z_]+)"', rb":", rb'("[^"\\]*"|-?[0-9.]+)', rb"([,}])"]))
_PLAIN_NAME = re.compile(rf"""[ !#-\[\]-~]{{1,{LONGEST_NAME}}}""")
_CLOSED = re.compile(_SPACE + rb"\Z")
_KINDS = {"text": loop.TEXT, "milliseconds": loop.MILLISECONDS, "decimal": loop.DECIMAL, "short decimal": loop.SHORT_DECIMAL}


class Names:
    """A few known texts. A text's code is its index in the list; long ones, not plain ASCII, or beyond 256 are never found.

    table: uint64 (a power of two of places, at most half of them taken; NAME_WORDS + 2), as streams.flat_json_loop reads it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        known = [(code, name) for code, name in enumerate(names) if _PLAIN_NAME.fullmatch(name)][:_MOST_NAMES]
        places = 1 << (2 * len(known)).bit_length()
        self.table = np.zeros((places, NAME_WORDS + 2), dtype=np.uint64)
        for code, name in known:
            text = name.encode() + b'"'
            hashed, size = loop.mixed(words_of(padded([text])), PAD)
            place = int(hashed) >> 32 & places - 1
            while self.table[place, NAME_WORDS]:
                place = (place + 1) % places
            words = np.frombuffer(text.ljust(8 * NAME_WORDS, b"\0"), dtype=np.uint64)
            self.table[place] = [*words.tolist(), size, code]


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

    def __init__(self, literals: Sequence[bytes], fields: Sequence[Field]) -> None:
        self.literals = tuple(literals)
        self.fields = tuple(fields)
        self._sizes = np.array([len(literal) for literal in literals])
        self._words = np.concatenate([_padded(literal) for literal in literals])
        self._kinds = np.array([loop.NAME if field.names else _KINDS[field.kind] for field in fields])
        tables = [np.zeros((0, NAME_WORDS + 2), np.uint64), *(field.names.table for field in fields if field.names)]
        self._names = np.concatenate(tables)
        places = np.array([len(field.names.table) if field.names else 0 for field in fields])
        self._tables = np.stack((np.cumsum(places) - places, places), axis=1)

    @classmethod
    def learnt(cls, record: bytes, fields: Mapping[str, Field]) -> Template | None:
        """The template of one record; None if it is not one flat object of some of these fields.

        Only values are taken on trust, and `read` proves every one of them, of this record too.
        """
        opened = _OPENED.match(record)
        if opened is None:
            return None
        at, behind = opened.end(), 0
        literals: list[bytes] = []
        found: list[Field] = []
        while (pair := _PAIR.match(record, at)) is not None:
            field, text = fields.get(pair[1].decode()), pair[2].startswith(b'"')
            if field is None or field in found or text != (field.kind == "text"):
                return None
            literals.append(record[behind : pair.start(2) + text])
            found.append(field)
            at, behind = pair.end(), pair.end(2) - text
            if pair[3] == b"}":
                return cls([*literals, record[behind:]], found) if _CLOSED.match(record, at) else None
        return None

    def read(self, records: Spans) -> Table:
        """Read n records."""
        shape = len(self.fields), len(records)
        numbers, start, size = np.zeros((3, *shape), dtype=np.int64)
        ok = np.zeros(len(records), dtype=np.bool_)
        template = self._words, self._sizes, self._kinds, self._tables, self._names
        loop.read(words_of(records.buffer), records.start, records.size, *template, numbers, start, size, ok)
        texts = {
            field.name: Spans(records.buffer, start[f], size[f])
            for f, field in enumerate(self.fields)
            if self._kinds[f] == loop.TEXT
        }
        columns = {field.name: numbers[f] for f, field in enumerate(self.fields) if field.name not in texts}
        return Table(ok, texts, columns)


def _padded(literal: bytes) -> Words:
    return np.frombuffer(literal.ljust(-(-len(literal) // 8) * 8, b"\0"), dtype=np.uint64)


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
