"""Stage one at the edge for control topics: documents in, frames to every facts partition, what is none to quarantine."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

from geo.control import Addressed, ControlSource
from geo.frame import Document, Frame
from geo.packing import Column
from geo.params import Timeline
from streams.batches import Batch
from streams.control import DocumentRefused, decoder_of
from streams.settings import ControlSettings
from streams.source_stage import Refused, SourcePartition, SourceStage

log = logging.getLogger(__name__)

_RAISED = "reading this record raised an exception: please report it with this record"

ControlPartition = SourcePartition[ControlSource]


class ControlReader:
    """Reads the records of one control topic into documents, addressed to cities."""

    def __init__(self, control: ControlSettings, timeline: Timeline) -> None:
        self._kind = control.kind
        self._sender = -1 if control.operator is None else timeline.operators.index(control.operator)
        self._decoder = decoder_of(control.kind, timeline)

    def read(self, batch: Batch) -> tuple[dict[int, Addressed], list[Refused]]:
        """Documents by index among the records, and those that are none."""
        documents: dict[int, Addressed] = {}
        refused: list[Refused] = []
        values, offsets = batch.values.tolist(), batch.offsets.tolist()
        for i, (value, offset) in enumerate(zip(values, offsets, strict=True)):
            if batch.has_value is not None and not batch.has_value[i]:
                continue
            try:
                told = self._decoder.decode(value)
            except DocumentRefused as error:
                refused.append(Refused(i, offset, -1, self._sender, "malformed", str(error)))
            except Exception:  # a bug of ours: the record is set aside, the rest goes on
                log.exception("a record of a control topic at offset %d could not be read", offset)
                refused.append(Refused(i, offset, -1, self._sender, "internal_error", _RAISED))
            else:
                documents[i] = {city: Document(self._kind, self._sender, body, offset) for city, body in told.items()}
        return documents, refused


class ControlStage(SourceStage[ControlPartition]):
    """Every partition of control topics that this worker owns."""

    def __init__(self, *, controls: Iterable[ControlSettings], **common: Any) -> None:
        """common: as of `SourceStage`."""
        super().__init__(**common)
        self._readers = {control.topic: ControlReader(control, self._timeline) for control in controls}

    def _begin(self, topic: str, partition: int, packed: Mapping[str, Column] | None, position: int) -> ControlPartition:
        index = self._index[topic, partition]
        if packed is None:
            source = ControlSource(index, self._timeline)
        else:
            source = ControlSource.restore(index, self._timeline, packed)
        return ControlPartition(topic, partition, source, position, self._quarantine_cap)

    def _read(self, state: ControlPartition, batch: Batch) -> tuple[list[Frame], list[Refused], Batch]:
        started = time.perf_counter()
        documents, refused = self._readers[state.topic].read(batch)
        self._metrics.step.labels("decode").observe(time.perf_counter() - started)
        self._metrics.documents(state.topic, taken=len(documents), refused=len(refused))
        return state.source.add(batch.record_ms, batch.offsets, batch.has_value, documents), refused, batch
