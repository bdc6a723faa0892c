"""Snapshots: the whole state of a partition at a tick's end, in a compacted topic.

A snapshot is a run of *parts* (under 512 KiB each, zstd) and then a *manifest* that names them with their checksums. A reader
takes the newest manifest whose parts are all there and whole, whoever wrote it: states are a function of the log, so the one
of a worker that should be dead is as true as any. Keys hold the writer's random name, so two writers never overwrite each
other's parts. The two newest complete snapshots are kept; older ones get tombstones, the manifest's first: a manifest that
is there always has its parts.

Columns (numpy arrays or bytes by name) are laid out one behind the other; arrays are byte-transposed first, which halves what
zstd makes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from streams.errors import SnapshotError

Columns = Mapping[str, NDArray[np.generic] | bytes]

FORMAT = 1
RAW_PART_BYTES = 480 * 1024
"""Of a part before compression: zstd may grow what it can not shrink, and a part has to stay under 512 KiB."""

_SHUFFLE_FROM = 1024  # elements; below, transposing is not worth a copy
_SHUFFLED_ROWS = 512  # at a time: they stay in the cache until all their bytes are read
_LEVEL = -1  # of zstd: two thirds of the time of level 1 for a tenth more bytes


class Layout(msgspec.Struct, frozen=True):
    """One column in the raw bytes. dtype "" is plain bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class PartRef(msgspec.Struct, frozen=True):
    nbytes: int
    checksum: bytes  # blake2b-8 of the record's value


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What makes parts a snapshot. `extra` is the owner's own (of a city: the merger's state)."""

    format: int = FORMAT
    source: str
    writer: str
    tick: int
    clock: int
    resume_offset: int
    layout: list[Layout]
    parts: list[PartRef]
    epochs: list[tuple[int, str]]  # (from_tick, hash) of every configuration version that the writer knew
    extra: bytes = b""
    topic_id: str = ""  # of the input topic, as Kafka tells it; "": it was not known to the writer


class Key(msgspec.Struct, frozen=True, array_like=True):
    """Record key: source, tick, writer, part; the manifest is part -1."""

    source: str
    tick: int
    writer: str
    part: int


MANIFEST_PART = -1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A manifest and its columns, read back."""

    manifest: Manifest
    columns: dict[str, NDArray[np.generic] | bytes]


# --- columns <-> parts --------------------------------------------------------------------------------------------------


def pack_columns(columns: Columns) -> tuple[list[Layout], list[bytes]]:
    """Layout and compressed parts. Pure work, made for another thread: it holds the GIL only briefly."""
    layout: list[Layout] = []
    blobs: list[bytes | memoryview] = []
    for name, column in columns.items():
        if isinstance(column, bytes):
            layout.append(Layout(name, "", (), len(column)))
            blobs.append(column)
            continue
        array = np.ascontiguousarray(column)
        layout.append(Layout(name, array.dtype.str, array.shape, array.nbytes))
        blobs.append(_shuffle(array).data.cast("B") if array.nbytes else b"")
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return layout, [compressor.compress(piece) for piece in _pieces(blobs)]


def _shuffle(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Bytes of equal significance together; rows of a matrix as one long element each."""
    raw = array.reshape(-1).view(np.uint8)
    if array.size < _SHUFFLE_FROM:
        return raw
    width = array.itemsize * (array.shape[1] if array.ndim == 2 else 1)
    rows = raw.reshape(-1, width)
    shuffled = np.empty((width, len(rows)), dtype=np.uint8)
    for at in range(0, len(rows), _SHUFFLED_ROWS):
        shuffled[:, at : at + _SHUFFLED_ROWS] = rows[at : at + _SHUFFLED_ROWS].T
    return shuffled.reshape(-1)


def _unshuffle(raw: NDArray[np.uint8], layout: Layout) -> NDArray[np.generic]:
    dtype = np.dtype(layout.dtype)
    size = layout.nbytes // dtype.itemsize
    if size >= _SHUFFLE_FROM:
        width = dtype.itemsize * (layout.shape[1] if len(layout.shape) == 2 else 1)
        raw = np.ascontiguousarray(raw.reshape(width, -1).T).reshape(-1)
    return raw.view(dtype).reshape(layout.shape)


def _pieces(blobs: Iterable[bytes | memoryview]) -> Iterable[bytes]:
    """The blobs as one run of bytes, cut evenly."""
    open_: list[bytes | memoryview] = []
    size = 0
    for blob in blobs:
        view = memoryview(blob)
        while len(view):
            taken = view[: RAW_PART_BYTES - size]
            open_.append(taken)
            size += len(taken)
            view = view[len(taken) :]
            if size == RAW_PART_BYTES:
                yield b"".join(open_)
                open_, size = [], 0
    if open_:
        yield b"".join(open_)


def unpack_columns(layout: list[Layout], parts: Iterable[bytes]) -> dict[str, NDArray[np.generic] | bytes]:
    """The columns again; arrays may be written to."""
    decompressor = zstandard.ZstdDecompressor()
    raw = bytearray(b"".join(decompressor.decompress(part) for part in parts))
    columns: dict[str, NDArray[np.generic] | bytes] = {}
    at = 0
    for one in layout:
        piece = memoryview(raw)[at : at + one.nbytes]
        at += one.nbytes
        if not one.dtype:
            columns[one.name] = bytes(piece)
        elif one.nbytes:
            columns[one.name] = _unshuffle(np.frombuffer(piece, np.uint8), one)
        else:
            columns[one.name] = np.zeros(one.shape, one.dtype)
    if at != len(raw):
        raise SnapshotError(f"a snapshot holds {len(raw)} bytes where its manifest describes {at}")
    return columns


def checksum(value: bytes) -> bytes:
    return blake2b(value, digest_size=8).digest()


# --- what a changelog partition holds -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Shelf:
    """The snapshots of one source as its changelog partition shows them, record by record."""

    source: str
    values: dict[Key, tuple[int, bytes]] = field(default_factory=dict)  # key -> (offset, value)

    def put(self, key: bytes, value: bytes | None, offset: int) -> None:
        """Take one record in log order. Records of other sources are not ours to judge."""
        decoded = decode_key(key)
        if decoded.source != self.source:
            return
        if value is None:
            self.values.pop(decoded, None)
        else:
            self.values[decoded] = (offset, value)

    def newest(self) -> tuple[Manifest, list[bytes]] | None:
        """The newest snapshot that is whole, whoever wrote it."""
        return next(self._whole(), None)

    def _whole(self) -> Iterator[tuple[Manifest, list[bytes]]]:
        """Snapshots of which nothing is missing or damaged, newest first."""
        for manifest in self.manifests():
            parts = [self.values.get(Key(self.source, manifest.tick, manifest.writer, i)) for i in range(len(manifest.parts))]
            values = [part[1] for part in parts if part is not None]
            if len(values) == len(parts) and all(
                len(value) == ref.nbytes and checksum(value) == ref.checksum
                for value, ref in zip(values, manifest.parts, strict=True)
            ):
                yield manifest, values

    def manifests(self) -> list[Manifest]:
        """Readable manifests, newest first."""
        raw = [value for key, (_, value) in self.values.items() if key.part == MANIFEST_PART]
        found = [manifest for value in raw if (manifest := decode_manifest(value)) is not None]
        return sorted(found, key=lambda m: (m.tick, m.resume_offset, m.writer), reverse=True)

    def snapshots(self) -> list[tuple[int, str, int, int]]:
        """(tick, writer, number of parts, offset of its first record) of every one that is whole, newest first."""
        return [(m.tick, m.writer, len(m.parts), self._first_offset(m)) for m, _ in self._whole()]

    def litter(self, kept: int) -> list[Key]:
        """What nobody will ever need, manifests first: all that is older than the `kept` newest whole snapshots.

        What is newer is left alone, whole or not. Parts without a manifest may be those of a writer that is not done yet: of a
        worker that still has the partition, or believes so. To delete them would break its snapshot after the fact; two of these
        would be the two that it keeps.
        """
        whole = self.snapshots()[:kept]
        if len(whole) < kept:
            return []
        keep, oldest = {(tick, writer) for tick, writer, _, _ in whole}, whole[-1][0]
        found = [key for key in self.values if key.tick <= oldest and (key.tick, key.writer) not in keep]
        return sorted(found, key=lambda key: key.part)

    def _first_offset(self, manifest: Manifest) -> int:
        mine = [
            offset for key, (offset, _) in self.values.items() if (key.tick, key.writer) == (manifest.tick, manifest.writer)
        ]
        return min(mine)


def encode_key(key: Key) -> bytes:
    return msgspec.json.encode(key)


def decode_key(key: bytes) -> Key:
    try:
        return msgspec.json.decode(key, type=Key)
    except msgspec.MsgspecError as error:
        raise SnapshotError(
            f"a changelog holds the key {key[:80]!r}, which no snapshot has: is it another topic? ({error})"
        ) from error


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.msgpack.encode(manifest)


def decode_manifest(value: bytes) -> Manifest | None:
    """None where the manifest is damaged or of a format that is not known here: the one before it then counts."""
    try:
        manifest = msgspec.msgpack.decode(value, type=Manifest)
    except msgspec.MsgspecError:
        return None
    return manifest if manifest.format == FORMAT else None


def tombstone_order(source: str, tick: int, writer: str, parts: int) -> list[bytes]:
    """Keys to delete, the manifest's first: what has a manifest is always whole."""
    return [encode_key(Key(source, tick, writer, part)) for part in (MANIFEST_PART, *range(parts))]


def check_topic(manifest: Manifest, topic_id: str) -> None:
    """Refuse a state that belongs to another log: of a topic of the same name that is gone. topic_id: "" if it is not known."""
    if manifest.topic_id and topic_id and manifest.topic_id != topic_id:
        raise SnapshotError(
            f"the state of {manifest.source} belongs to the topic with the id {manifest.topic_id}, the topic that is there now has "
            f"{topic_id}: the topic was made anew. Remedy: reset the state, which belongs to a log that is gone: start with another "
            "application id (or delete the changelog topics and the consumer group) to compute everything from the new log"
        )


def check_epochs(manifest: Manifest, known: list[tuple[int, str]]) -> None:
    """Refuse a state that went past the start of a version which its writer did not know, or knew differently.

    `known` are (from_tick, hash) of this worker's configuration.
    """
    theirs = dict(manifest.epochs)
    for from_tick, digest in known:
        if from_tick > manifest.tick:
            continue
        if theirs.get(from_tick) != digest:
            told = "did not know" if from_tick not in theirs else "knew with other content"
            raise SnapshotError(
                f"the state of {manifest.source} stands at tick {manifest.tick}, past the start (tick {from_tick}) of a configuration "
                f"version that its writer {told}. A version has to start later than every clock at the time it is added: give it a later "
                "effective_from, or start from an empty state (new changelog topics and consumer group) to apply it to the past"
            )
    gone = [f for f, _ in manifest.epochs if f <= manifest.tick and f not in dict(known)]
    if gone:
        raise SnapshotError(
            f"the state of {manifest.source} was made under a configuration version (from tick {gone[0]}) that is missing here: "
            "versions that have been in force must stay in the configuration"
        )
