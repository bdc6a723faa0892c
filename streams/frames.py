"""Frames as bytes: the wire of `city.facts`.

One Kafka record holds a header (which source, which configuration) and any number of entries; an entry is a part of a frame
or a "complete through". Many small frames share a record, for at full replay speed there are hundreds of ticks in a batch;
a large frame is cut into parts under 512 KiB. How entries are grouped into records depends on how the log was read and
means nothing: a frame is known by (source, tick), its parts by the frame's digest.

The body of a frame is msgpack of named columns. A reader ignores columns that it does not know, so a later version may add
some; it must not change the meaning of one. Names of operators and cities stand in the frame itself: no index of one
process means anything to another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from geo.frame import OUTCOMES, Document, Facts, Frame, Section
from geo.params import Timeline
from streams.errors import NewerFormat, WireError

MAGIC = b"UBF1"
PART_BYTES = 480 * 1024
RECORD_BYTES = 256 * 1024  # records are filled up to about this with small frames

_HEADER = struct.Struct("<4sH16sHiH")  # magic, length of the header, config hash, semantics, partition, length of topic
_ENTRY = struct.Struct("<BI")  # kind, length of the payload
_PART = struct.Struct("<qq16sHH")  # tick, previous, digest, part, parts
_COMPLETE = struct.Struct("<qq")  # through, last
_KIND_PART, _KIND_COMPLETE = 1, 2

_COLUMNS: tuple[tuple[str, str], ...] = (
    ("operator", "<i2"),
    ("lat", "<i4"),
    ("lng", "<i4"),
    ("stands", "|b1"),
    ("state", "|u1"),
    ("vehicle", "|u1"),
    ("rode", "|b1"),
    ("since", "<i8"),
    ("version", "<i8"),
)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks: an input partition, under which configuration (16 bytes of its hash) and meaning of `geo/`."""

    topic: str
    partition: int
    config: bytes
    semantics: int


@dataclass(frozen=True, slots=True)
class Part:
    tick: int
    previous: int
    digest: bytes
    part: int
    parts: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Complete:
    through: int
    last: int


@dataclass(frozen=True, slots=True)
class Message:
    sender: Sender
    entries: list[Part | Complete]


# --- bodies -------------------------------------------------------------------------------------------------------------


def encode_frame(frame: Frame, timeline: Timeline, cities: Iterable[str]) -> bytes:
    """The body of a frame as it is told to some cities: only what concerns them, with the operators that occur in it."""
    sections = {name: frame.sections[name] for name in sorted(cities) if name in frame.sections}
    used = np.zeros(len(timeline.operators), bool)
    for section in sections.values():
        used[section.facts.operator] = True
        used |= section.heard > 0
        used[[document.sender for document in section.documents if document.sender >= 0]] = True
    used |= frame.outcomes[:-1].any(axis=1)
    index = np.cumsum(used) - 1
    return msgspec.msgpack.encode(
        {
            "operators": [name for name, there in zip(timeline.operators, used.tolist(), strict=True) if there],
            "outcomes": frame.outcomes[np.append(used, True)].astype("<i8").tobytes(),
            "cities": {name: _encode_section(section, used, index) for name, section in sections.items()},
        }
    )


def _encode_section(section: Section, used: NDArray[np.bool_], index: NDArray[np.int64]) -> dict[str, Any]:
    facts = section.facts
    columns = {name: getattr(facts, name).astype(dtype, copy=False).tobytes() for name, dtype in _COLUMNS[1:]}
    columns["operator"] = index[facts.operator].astype("<i2").tobytes()
    told = {"heard": section.heard[used].astype("<i8").tobytes(), "ids": "\n".join(facts.ids), "facts": columns}
    if not section.documents:
        return told  # as before there were any: a log may hold frames of both versions of the program
    return told | {
        "documents": [
            [document.kind, int(index[document.sender]) if document.sender >= 0 else -1, document.body, document.place]
            for document in section.documents
        ]
    }


def decode_frame(body: bytes, timeline: Timeline) -> tuple[dict[str, Section], NDArray[np.int64]]:
    """Sections by city and outcomes, by this process' operator indices. Operators that it does not know are an error."""
    document = msgspec.msgpack.decode(body)
    known = {name: i for i, name in enumerate(timeline.operators)}
    unknown = [name for name in document["operators"] if name not in known]
    if unknown:
        raise WireError(
            f"a frame names operators {unknown} that this worker's configuration does not have: give every worker the "
            "same network configuration before a version that adds an operator comes into force"
        )
    mapping = np.array([known[name] for name in document["operators"]], np.int16)
    outcomes = np.zeros((len(timeline.operators) + 1, len(OUTCOMES)), np.int64)
    told = np.frombuffer(document["outcomes"], "<i8").reshape(len(mapping) + 1, -1)
    width = min(told.shape[1], len(OUTCOMES))
    outcomes[mapping, :width] = told[:-1, :width]
    outcomes[-1, :width] = told[-1, :width]
    return {name: _decode_section(s, mapping, len(timeline.operators)) for name, s in document["cities"].items()}, outcomes


def _decode_section(document: dict[str, Any], mapping: NDArray[np.int16], operators: int) -> Section:
    columns = {name: np.frombuffer(document["facts"][name], dtype) for name, dtype in _COLUMNS}
    ids = document["ids"].split("\n") if document["ids"] else []
    if any(len(column) != len(ids) for column in columns.values()):
        raise WireError(f"a frame's columns differ in length: {len(ids)} ids, { ({k: len(v) for k, v in columns.items()}) }")
    heard = np.zeros(operators, np.int64)
    heard[mapping] = np.frombuffer(document["heard"], "<i8")
    operator = columns.pop("operator")
    operator = mapping[operator] if len(ids) else np.zeros(0, np.int16)
    documents = tuple(
        Document(kind, int(mapping[sender]) if sender >= 0 else -1, body, place)
        for kind, sender, body, place in document.get("documents", ())
    )
    return Section(Facts(operator=operator, ids=ids, **columns), heard, documents)


# --- records ------------------------------------------------------------------------------------------------------------


class Writer:
    """Packs entries into record values, in order."""

    def __init__(self, sender: Sender) -> None:
        topic = sender.topic.encode()
        length = _HEADER.size + len(topic)
        self._header = _HEADER.pack(MAGIC, length, sender.config, sender.semantics, sender.partition, len(topic)) + topic
        self._values: list[bytes] = []
        self._open: list[bytes] = []
        self._size = 0

    def frame(self, tick: int, previous: int, body: bytes) -> None:
        digest = blake2b(body, digest_size=16).digest()
        parts = max(1, -(-len(body) // PART_BYTES))
        for part in range(parts):
            piece = body[part * PART_BYTES : (part + 1) * PART_BYTES]
            self._entry(_KIND_PART, _PART.pack(tick, previous, digest, part, parts) + piece)

    def complete(self, through: int, last: int) -> None:
        self._entry(_KIND_COMPLETE, _COMPLETE.pack(through, last))

    def _entry(self, kind: int, payload: bytes) -> None:
        if self._open and self._size + len(payload) > RECORD_BYTES:
            self._cut()
        self._open += [_ENTRY.pack(kind, len(payload)), payload]
        self._size += len(payload)

    def _cut(self) -> None:
        self._values.append(self._header + b"".join(self._open))
        self._open, self._size = [], 0

    def values(self) -> list[bytes]:
        """The record values so far; the writer is empty again."""
        if self._open:
            self._cut()
        values, self._values = self._values, []
        return values


def decode_message(value: bytes) -> Message:
    """A record value of `city.facts`. Raises WireError on what is not one, or is of a format that is not known here."""
    try:
        magic, length, config, semantics, partition, topic_length = _HEADER.unpack_from(value)
        topic = value[_HEADER.size : _HEADER.size + topic_length].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise WireError(f"not a frame: {error}; only source agents may write this topic") from error
    if magic[:3] != MAGIC[:3]:
        raise WireError(f"not a frame: it begins with {magic!r}; only source agents may write this topic")
    if magic != MAGIC:
        raise NewerFormat(f"frame format {magic!r} is not known here, only {MAGIC!r}: upgrade this worker first")
    return Message(Sender(topic, partition, config, semantics), list(_entries(value, length)))


def _entries(value: bytes, at: int) -> Iterator[Part | Complete]:
    end = len(value)
    while at < end:
        if at + _ENTRY.size > end:
            raise WireError(f"a frame record is cut off at byte {at} of {end}")
        kind, length = _ENTRY.unpack_from(value, at)
        at += _ENTRY.size
        if at + length > end:
            raise WireError(f"a frame record is cut off: an entry of {length} bytes at byte {at} of {end}")
        if kind == _KIND_PART:
            tick, previous, digest, part, parts = _PART.unpack_from(value, at)
            yield Part(tick, previous, digest, part, parts, value[at + _PART.size : at + length])
        elif kind == _KIND_COMPLETE:
            yield Complete(*_COMPLETE.unpack_from(value, at))
        else:
            raise NewerFormat(f"entry kind {kind} of a frame record is not known here: upgrade this worker first")
        at += length


@dataclass(slots=True)
class Assembler:
    """Puts frames together from parts, whoever sent them: equal digest means equal bytes."""

    _partial: dict[tuple[str, int, int, bytes], tuple[int, dict[int, bytes]]] = field(default_factory=dict)

    def add(self, sender: Sender, part: Part, offset: int) -> tuple[int, bytes] | None:
        """(offset of the first part, body) once all parts are here."""
        if part.parts == 1:
            return offset, part.body
        key = (sender.topic, sender.partition, part.tick, part.digest)
        first, pieces = self._partial.setdefault(key, (offset, {}))
        pieces[part.part] = part.body
        if len(pieces) < part.parts:
            return None
        del self._partial[key]
        body = b"".join(pieces[i] for i in range(part.parts))
        if blake2b(body, digest_size=16).digest() != part.digest:
            raise WireError(f"frame {key[:3]} does not match its digest: the log is damaged at offset {offset}")
        return first, body

    def forget(self, topic: str, partition: int, tick: int) -> None:
        """Parts of ticks up to `tick` of a source are not needed any more."""
        for key in [k for k in self._partial if k[0] == topic and k[1] == partition and k[2] <= tick]:
            del self._partial[key]

    def first_position(self) -> int | None:
        return min((first for first, _ in self._partial.values()), default=None)
