"""The same pings in fewer records: as arrays, as lines, as Arrow streams."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from tests.laws.decrees import CONTROL
from tests.laws.worlds import Logs, World, WorldFeed, _append
from tests.oracle.packs import _is_json, pings_in
from tests.oracle.ping import Malformed, Ping, parse
from tests.oracle.stage import Record

BLANK = b" \t\r\n"
MOST = 9  # pings of a record


def coarse(logs: Logs, grain_ms: int) -> Logs:
    """The same records at fewer different times: pings of one record share its time."""
    return {
        name: [replace(record, timestamp_ms=record.timestamp_ms // grain_ms * grain_ms) for record in log]
        for name, log in logs.items()
    }


def packed(logs: Logs, r: random.Random) -> Logs:
    """Neighbours of one time in one record, mostly; here and there a record that holds no ping."""
    there: Logs = {name: log for name, log in logs.items() if name[0].startswith(CONTROL)}  # a document is a record of its own
    for name, log in logs.items():
        if name in there:
            continue
        out: list[Record] = []
        for group in _groups(log, r):
            if r.random() < 0.05:
                _append(out, group[0].timestamp_ms, b" [ ]\n")
            values = [record.value for record in group if record.value is not None]
            for value in _together(values, r) if values else [None]:
                _append(out, group[0].timestamp_ms, value)
        there[name] = out
    return there


def _groups(log: list[Record], r: random.Random) -> Iterator[list[Record]]:
    """Clock records stay alone."""
    group: list[Record] = []
    most = 1
    for record in log:
        if group and (record.value is None or record.timestamp_ms != group[0].timestamp_ms or len(group) >= most):
            yield group
            group = []
        if not group:
            most = 1 if record.value is None else r.randint(1, MOST)
        group.append(record)
    if group:
        yield group


def _together(values: list[bytes], r: random.Random) -> list[bytes]:
    """One record, if there is a way to say all of it in one."""
    if any(pings_in(value) is not None for value in values):
        return values
    ways = []
    if all(_is_json(value.decode("utf-8", "surrogateescape")) for value in values):
        ways.append(b"[" + r.choice((b",", b" ,\n")).join(values) + b"]")
    lines = [value.strip(BLANK) for value in values]
    objects = any(line.startswith(b"{") and line.endswith(b"}") for line in lines)
    if len(lines) > 1 and objects and all(line and b"\n" not in line for line in lines):
        ways.append(r.choice((b"\n", b"\r\n", b"\n \n")).join(lines) + r.choice((b"", b"\n")))
    return [r.choice(ways)] if ways else values


# --- Arrow --------------------------------------------------------------------------------------------------------------


def in_arrow(here: World, logs: Logs, r: random.Random) -> tuple[World, Logs, Logs]:
    """The world with feeds in Arrow; its logs with only the pings that a table can say; and these in streams."""
    plain: Logs = {name: log for name, log in logs.items() if name[0].startswith(CONTROL)}
    streams = dict(plain)
    for name, log in logs.items():
        if name in plain:
            continue
        feed = here.feeds[name[0]]
        plain[name] = [record for record in log if record.value is None or _ping(record.value, feed) is not None]
        out: list[Record] = []
        for group in _groups(plain[name], r):
            values = [record.value for record in group if record.value is not None]
            _append(out, group[0].timestamp_ms, stream(values, feed, r) if values else None)
        streams[name] = out
    feeds = {topic: replace(feed, format="arrow") for topic, feed in here.feeds.items()}
    return replace(here, feeds=feeds, origin=f"{here.origin} in Arrow"), plain, streams


def _ping(value: bytes, feed: WorldFeed) -> Ping | None:
    try:
        ping = parse(value, feed.coordinates)
    except Malformed:
        return None
    return ping if ping.operator is not None or feed.operator is not None else None


def stream(values: list[bytes], feed: WorldFeed, r: random.Random) -> bytes:
    """Good pings as a stream, in one of the ways in which data frames write it."""
    rows = []
    for value in values:
        ping, fields = _ping(value, feed), json.loads(value)
        assert ping is not None
        row = {"bike_id": ping.bike, "operator": ping.operator, "ts": ping.ts, "other": [1, 2], "nested": {"x": "y"}}
        row |= {name: None if fields.get(name) is None else float(fields[name]) for name in ("lat", "lng", "accuracy")}
        rows.append(row | {name: fields.get(name) for name in ("status", "event", "vehicle_type")})
    texts = dict.fromkeys(("bike_id", "operator", "status", "event", "vehicle_type"), pl.String)
    frame = pl.DataFrame(
        rows, schema_overrides={**texts, "ts": pl.Int64, "lat": pl.Float64, "lng": pl.Float64, "accuracy": pl.Float64}
    )
    if r.random() < 0.5:
        frame = frame.with_columns(pl.col("ts").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"))
    if r.random() < 0.5:
        frame = frame.with_columns(pl.col("status", "vehicle_type").cast(pl.Categorical))
    if frame["operator"].null_count() == len(frame):
        frame = frame.drop("operator")
    file = io.BytesIO()
    frame.write_ipc_stream(file, compat_level=r.choice((pl.CompatLevel.oldest(), pl.CompatLevel.newest())))
    return file.getvalue()
