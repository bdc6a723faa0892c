"""Stage one at the edge: runs of ping records in, frames to every facts partition, refused records to quarantine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geo.frame import Frame
from geo.packing import Column
from geo.source import Records, Source
from streams.batches import Batch
from streams.pings import Feed, PingDecoder
from streams.source_stage import Refused, SourcePartition, SourceStage


class PingPartition(SourcePartition[Source]):
    """One input partition of pings."""

    def __init__(self, topic: str, partition: int, source: Source, decoder: PingDecoder, position: int, cap: int) -> None:
        super().__init__(topic, partition, source, position, cap)
        self.decoder = decoder


class PingsStage(SourceStage[PingPartition]):
    """Every input partition of pings that this worker owns."""

    def __init__(self, *, feeds: Iterable[Feed], **common: Any) -> None:
        """common: as of `SourceStage`."""
        super().__init__(**common)
        self._feeds = {feed.topic: feed for feed in feeds}

    def _begin(self, topic: str, partition: int, packed: Mapping[str, Column] | None, position: int) -> PingPartition:
        index = self._index[topic, partition]
        source = Source(index, self._timeline) if packed is None else Source.restore(index, self._timeline, packed)
        decoder = PingDecoder(self._feeds[topic], self._timeline)
        return PingPartition(topic, partition, source, decoder, position, self._quarantine_cap)

    def _read(self, state: PingPartition, batch: Batch) -> tuple[list[Frame], list[Refused], Batch]:
        started = time.perf_counter()
        records, malformed, expanded = state.decoder.decode(batch)
        decoded = time.perf_counter()
        frames, refused = self._judge(state, records, malformed)
        self._metrics.step.labels("decode").observe(decoded - started)
        self._metrics.step.labels("judge").observe(time.perf_counter() - decoded)
        return frames, refused, expanded

    def _judge(
        self, state: PingPartition, records: Records, malformed: Sequence[tuple[int, str]]
    ) -> tuple[list[Frame], list[Refused]]:
        step = state.source.add(records)
        refused = _refused(records, malformed, step.refused) if malformed or step.refused else []
        for frame in step.frames:
            self._metrics.count_outcomes(frame.outcomes)
            for city, section in frame.sections.items():
                self._metrics.facts.labels(city).inc(len(section.facts))
                self._metrics.heard(city, section.heard, (frame.tick + 1) * self._timeline.tick_ms)
        return step.frames, refused

    def _report(self, state: PingPartition, *, complete_ms: int) -> None:
        self._metrics.source_at(
            state.topic, state.partition, clock_ms=state.clock_ms, complete_ms=complete_ms, bikes=state.source.bikes()
        )


def _refused(records: Records, malformed: Sequence[tuple[int, str]], judged: Sequence[tuple[int, int, str]]) -> list[Refused]:
    """What the decoder and the source refused, as it is to be set aside."""
    offsets = records.offsets.tolist()
    items = [-1] * len(offsets) if records.items is None else records.items.tolist()
    refused = [Refused(i, offsets[i], items[i], -1, "malformed", text) for i, text in malformed]
    if judged:
        at = {place: i for i, place in enumerate(zip(offsets, items, strict=True))}
        whose = dict(zip(records.rows.tolist(), records.operator.tolist(), strict=True))
        for offset, item, reason in judged:
            index = at.get((offset, item), -1)
            refused.append(Refused(index, offset, item, whose.get(index, -1), reason, _TEXT[reason]))
    return refused


_TEXT = {
    "unknown_operator": "the operator is not in the allow-list, or not the one whose feed this is: correct the feed, or allow the operator",
    "future": "the device time is more than a minute ahead of the record's time: check the device's clock and the unit of `ts` (ms)",
    "internal_error": "judging this record raised an exception: please report it with this record",
}
