"""Before the work begins: loops are compiled, or what was compiled before is loaded."""

from __future__ import annotations

from geo.params import Timeline
from geo.source import Source
from streams.batches import Body, located
from streams.pings import Feed, PingDecoder

_PINGS = 128  # enough to be worth a template
_BEGIN_MS = 1_700_000_000_000


def prepare(timeline: Timeline) -> None:
    """Send some pings of nobody through the whole of stage one. The first time on a machine it takes some seconds, which must not
    fall into a worker's membership in its group."""
    decoder, source = PingDecoder(Feed("pings", next(iter(timeline.operators), "nobody")), timeline), Source(0, timeline)
    for minute in range(3):
        ms = _BEGIN_MS + 60_000 * minute
        pings = (f'{{"bike_id":"bike-{i:04}","ts":{ms},"lat":1.5,"lng":2.25,"status":"available"}}' for i in range(_PINGS))
        records = b"".join(_record(i, ping.encode()) for i, ping in enumerate(pings))
        batch = located([Body(records, _PINGS, 0, _PINGS * minute, ms, None)])
        if batch is None:
            raise AssertionError("a record batch that was made by the book could not be read")
        source.add(decoder.decode(batch)[0])


def _record(number: int, value: bytes) -> bytes:
    """Of Kafka's format: attributes, time and offset since the batch's, no key, a value, no headers."""
    inner = b"\0" + _varint(0) + _varint(number) + _varint(-1) + _varint(len(value)) + value + _varint(0)
    return _varint(len(inner)) + inner


def _varint(number: int) -> bytes:
    left, out = number << 1 ^ number >> 63, bytearray()
    while left >= 0x80:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])
