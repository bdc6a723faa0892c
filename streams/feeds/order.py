"""Rows in file order -> records in order of record time, with times moved if wished. Memory stays bounded."""

from __future__ import annotations

import heapq
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import IO

from streams.feeds.readers import Row
from streams.feeds.records import FeedRecord, Router, shift_value

RUN_ROWS = 1_000_000  # sorted in memory; more are sorted in runs of so many through temporary files
_CHUNK = 2_000
_time = itemgetter(0)


def feed_records(rows: Iterable[Row], router: Router, *, spread_ms: int = 0) -> Iterator[FeedRecord]:
    """Rows of any order -> records in order of record time; of equal ones the order of the file.

    spread_ms: rows that share a time are laid evenly over [time, time + spread_ms), in file order. Their device times
    move along, as a bike's age in a crawl is not known any better.
    """
    ordered = sort_rows(rows)
    if spread_ms:
        ordered = _spread(ordered, spread_ms)
    for row in ordered:
        yield FeedRecord(row.record_ms, router.topic(row.operator), row.bike_id.encode(), row.value)


def shift_records(records: Iterable[FeedRecord], start_ms: int | None) -> Iterator[FeedRecord]:
    """All times moved so that the first record is at `start_ms`. None: as they are."""
    stream = iter(records)
    first = next(stream, None)
    if first is None:
        return
    delta = 0 if start_ms is None else start_ms - first.record_ms
    for record in chain([first], stream):
        yield (
            record
            if not delta
            else FeedRecord(record.record_ms + delta, record.topic, record.key, shift_value(record.value, delta))
        )


def sort_rows(rows: Iterable[Row], *, run_rows: int = RUN_ROWS) -> Iterator[Row]:
    """Stable sort by record time: in memory, or by merging sorted runs from temporary files."""
    stream = iter(rows)
    with ExitStack() as files:
        runs: list[Iterator[Row]] = []
        run = list(islice(stream, run_rows))
        while run:
            run.sort(key=_time)
            following = list(islice(stream, run_rows))
            if following or runs:
                runs.append(_stored(run, files.enter_context(tempfile.TemporaryFile())))
            else:
                runs.append(iter(run))
            run = following
        yield from heapq.merge(*runs, key=_time)  # of equal ones it takes that of the earlier run


def _stored(run: list[Row], file: IO[bytes]) -> Iterator[Row]:
    for start in range(0, len(run), _CHUNK):
        pickle.dump([tuple(row) for row in run[start : start + _CHUNK]], file, pickle.HIGHEST_PROTOCOL)
    file.seek(0)
    return _loaded(file)


def _loaded(file: IO[bytes]) -> Iterator[Row]:
    """Rows of a run of our own making, a chunk at a time."""
    while True:
        try:
            chunk = pickle.load(file)
        except EOFError:
            return
        for fields in chunk:
            yield Row(*fields)


def _spread(rows: Iterable[Row], spread_ms: int) -> Iterator[Row]:
    """Groups of equal times laid out evenly. Groups may come to overlap, so rows wait in a heap for earlier ones."""
    waiting: list[tuple[int, int, Row]] = []
    number = 0
    for moment, group in groupby(rows, key=_time):
        while waiting and waiting[0][0] < moment:
            yield heapq.heappop(waiting)[2]
        members = list(group)
        for place, row in enumerate(members):
            delta = place * spread_ms // len(members)
            moved = row._replace(record_ms=moment + delta, value=shift_value(row.value, delta))
            heapq.heappush(waiting, (moved.record_ms, number, moved))
            number += 1
    while waiting:
        yield heapq.heappop(waiting)[2]
