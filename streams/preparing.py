"""Before the work begins: loops are compiled, or what was compiled before is loaded."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from geo.params import Timeline
from geo.source import Source
from streams.batches import Body, located
from streams.pings import Feed, PingDecoder

_PINGS = 128  # enough to be worth a template
_BEGIN_MS = 1_700_000_000_000
_HEADER = 61  # bytes of a record batch before its records


def prepare(timeline: Timeline) -> None:
    """Send some pings of nobody through the whole of stage one. The first time on a machine it takes some seconds, which must not
    fall into a worker's membership in its group."""
    decoder, source = PingDecoder(Feed("pings", next(iter(timeline.operators), "nobody")), timeline), Source(0, timeline)
    for minute in range(3):
        ms = _BEGIN_MS + 60_000 * minute
        builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 20)
        for i in range(_PINGS):
            ping = f'{{"bike_id":"bike-{i:04}","ts":{ms},"lat":1.5,"lng":2.25,"status":"available"}}'
            builder.append(i, ms, None, ping.encode(), [])
        batch = located([Body(bytes(builder.build())[_HEADER:], _PINGS, 0, _PINGS * minute, ms, None)])
        if batch is None:
            raise AssertionError("a record batch as aiokafka makes it could not be read")
        source.add(decoder.decode(batch)[0])
