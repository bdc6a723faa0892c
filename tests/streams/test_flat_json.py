"""What is read by template is what the parser reads: every byte of a ping spoilt in every way, and producers of all kinds."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.records import Records
from geo.spans import Spans
from geo.states import STATES, VEHICLES
from streams.batches import Batch
from streams.flat_json import E7, Field, Names, Reader, Template
from streams.pings import Coordinates, Feed, PingDecoder
from tests.geo.story import epoch, timeline
from tests.laws.garbage import spoil

OPERATORS = timeline(epoch()).operators
NUMBER = Field("x", "decimal")


class ByTemplate(PingDecoder):
    """Says how many records were read by template."""

    taken = 0

    def _take(self, table: Any, rows: Any, batch: Any) -> None:
        before = int(batch.good.sum())
        super()._take(table, rows, batch)
        self.taken += int(batch.good.sum()) - before


class ByParser(PingDecoder):
    """Knows no templates."""

    def __init__(self, feed: Feed, *args: Any) -> None:
        super().__init__(feed, *args)
        self._reader._pause = 10**9


def decode(decoder: PingDecoder, values: list[bytes]) -> tuple[Records, list[tuple[int, str]]]:
    records, malformed, _ = decoder.decode(Batch.of(values, np.full(len(values), 5), np.arange(len(values))))
    return records, malformed


def agree(values: list[bytes], operator: str | None = None, coordinates: Coordinates = "wgs84", sample: bytes = b"") -> int:
    """Both ways give the same; answers how many records were read by template."""
    feed = Feed("bike.pings", operator, coordinates)
    quick, slow = ByTemplate(feed, timeline(epoch())), ByParser(feed, timeline(epoch()))
    if sample:
        decode(quick, [sample] * 100)
        assert quick.taken == 100
    for _ in range(3):  # a template is learnt at each
        quick.taken = 0
        got, why = decode(quick, values)
    want, because = decode(slow, values)
    assert why == because
    assert got.rows.tolist() == want.rows.tolist()
    assert got.ids.tolist() == want.ids.tolist()
    for name in Records.__dataclass_fields__.keys() - {"ids", "has_value"}:
        different = np.flatnonzero(getattr(got, name) != getattr(want, name))
        assert not different.size, (name, values[got.rows[different[0]]], getattr(got, name)[different[0]])
    return quick.taken


COMPACT = b'{"bike_id":"b0155691","operator":"alfa","ts":1700000038785,"lat":39.7578965,"lng":-116.2555795,"accuracy":3,"status":"available"}'
SPACED = (
    b'{ "ts": 1700000038785, "lng": 0.0010005, "lat": -9.75789654321, "accuracy": 12.5, "operator": "bravo",'
    b' "bike_id": "3f0c4c5e-0f3a-4c8a-9f51-2f6b7f6d8a01", "vehicle_type": "cargo_bicycle", "battery": 0.25, "status": "non_operational" }\n'
)


@pytest.mark.parametrize("ping", [COMPACT, SPACED])
@pytest.mark.parametrize("operator", [None, "alfa"])
def test_a_ping_with_any_byte_changed_means_what_the_parser_says(ping: bytes, operator: str | None) -> None:
    if operator is not None:
        ping = ping.replace(b"bravo", b"alfa")
    changed = [ping[:i] + bytes([byte]) + ping[i + 1 :] for i in range(len(ping)) for byte in range(256)]
    taken = agree(changed, operator, sample=ping)
    assert len(ping) < taken < len(changed)


@pytest.mark.parametrize("ping", [COMPACT, SPACED])
def test_a_ping_with_a_byte_more_or_less_means_what_the_parser_says(ping: bytes) -> None:
    shorter = [ping[:i] + ping[j:] for i in range(len(ping)) for j in range(i + 1, min(i + 20, len(ping)) + 1)]
    longer = [
        ping[:i] + bytes([byte]) * n + ping[i:]
        for i in range(len(ping) + 1)
        for byte in b'0159.-+eE,:"\\{} a\n\x00\x7f'
        for n in (1, 3)
    ]
    for values in (shorter, longer, [ping[:i] for i in range(len(ping))], [ping[i:] for i in range(len(ping))]):
        agree(values, sample=ping)


def test_accuracies_are_rounded_to_millimetres_as_their_floats_are() -> None:
    metres = ["0.0005", "0.0015", "2.0005", "12.34550000", "12.34549999", "3.00050001", "99.9995", "1.00049995", "7.0014999999"]
    pings = [COMPACT.replace(b'"accuracy":3', b'"accuracy":' + text.encode()) for text in metres]
    pings += [COMPACT.replace(b'"accuracy":3', b'"accuracy":%d.%04d' % (i, 10 * i % 1000 + 5)) for i in range(500)]
    agree(pings, sample=COMPACT)


def numeral(r: random.Random, low: float, high: float) -> str:
    number = r.uniform(low, high)
    return r.choice(
        [
            repr(number),
            f"{number:.{r.randrange(0, 18)}f}",
            f"{number:.7f}5",
            f"{number:.7f}49999999",
            f"{number:.7f}500000{r.randrange(100):02d}",
            str(round(number)),
            f"{number:.3e}",
            "-0.0",
            "0",
            f"0{number:.5f}",
            f"{number:.4f}.",
            "1" * r.randrange(1, 12),
        ]
    )


def producer(r: random.Random) -> Any:
    """Someone who writes pings in their own way: keys in some order, some spaces, numerals of one kind or of many."""
    comma, colon = r.choice([(",", ":"), (", ", ": "), (" ,", " :\t"), (",\r\n", ":")])
    optional = ["accuracy", "status", "vehicle_type", "operator", "speed", "heading", "battery", "event", "telemetry_id"]
    if r.random() < 0.8:
        optional = optional[:-2]
    keys = ["bike_id", "ts", "lat", "lng", *r.sample(optional, r.randrange(6))]
    if r.random() < 0.8 and "operator" not in keys:
        keys.append("operator")
    r.shuffle(keys)
    wild = r.choice([0.0, 0.02, 0.5])
    decimals = r.randrange(1, 12)

    def one() -> bytes:
        odd = r.random() < wild
        texts = {
            "bike_id": r.choice([str(r.randrange(10**r.randrange(1, 40))), "x" * r.randrange(140), 'a"b', "日本", "a\\b", "a\nb", "~ !"]) if odd else f"bike-{r.randrange(10**6):07d}",
            "operator": r.choice([*OPERATORS, "nobody", "", "alfa "]) if odd else r.choice(OPERATORS),
            "status": r.choice([*STATES[1:], "", "parked"]) if odd else r.choice(STATES[1:]),
            "vehicle_type": r.choice([*VEHICLES[1:], *["rocket"] * odd]),
            "event": r.choice(["lock", "trip_start"]),
            "telemetry_id": "t",
        }  # fmt: skip
        numbers = {
            "ts": str(1_700_000_000_000 + r.randrange(10**9)) if not odd else r.choice(["0", "17", "4102444800000", "1e12", "01700000000000", "-1700000000000"]),
            "lat": numeral(r, -95, 95) if odd else f"{r.uniform(-90, 90):.{decimals}f}",
            "lng": numeral(r, -185, 185) if odd else f"{r.uniform(-180, 180):.{decimals}f}",
            "accuracy": numeral(r, -1, 500) if odd else f"{r.uniform(0, 99):.{r.randrange(4)}f}",
            "speed": numeral(r, -1, 50) if odd else f"{r.uniform(0, 9):.1f}",
            "heading": numeral(r, 0, 360) if odd else str(r.randrange(360)),
            "battery": numeral(r, 0, 1) if odd else f"{r.random():.2f}",
        }  # fmt: skip
        pairs = [
            f'"{key}"{colon}{json.dumps(texts[key], ensure_ascii=False) if key in texts else numbers[key]}' for key in keys
        ]
        value = ("{" + comma.join(pairs) + "}").encode()
        return spoil(r, value) if r.random() < wild / 4 else value

    return one


@pytest.mark.parametrize("coordinates", ["wgs84", "gcj02"])
@pytest.mark.parametrize("operator", [None, OPERATORS[0]])
def test_whatever_producers_write_means_what_the_parser_says(operator: str | None, coordinates: Coordinates) -> None:
    r, taken = random.Random(f"{operator} {coordinates}"), 0
    for _ in range(60):
        producers = [producer(r) for _ in range(r.randrange(1, 4))]
        taken += agree([r.choice(producers)() for _ in range(700)], operator, coordinates)
    assert taken > 60 * 700 // 6


def read(field: Field, texts: list[str]) -> list[int | None]:
    template = Template.learnt(b'{"x":"a"}' if field.kind == "text" else b'{"x":1}', {"x": field})
    assert template is not None
    quote = '"' if field.kind == "text" else ""
    table = template.read(Spans.of([f'{{"x":{quote}{text}{quote}}}'.encode() for text in texts]))
    return [value if ok else None for value, ok in zip(table.numbers["x"].tolist(), table.ok.tolist(), strict=True)]


@given(st.lists(st.floats(-999, 999, allow_nan=False), min_size=1, max_size=20), st.integers(0, 16))
def test_a_decimal_is_rounded_as_its_float_is(numbers: list[float], places: int) -> None:
    for texts in ([f"{x:.{places}f}" for x in numbers], [repr(x) for x in numbers]):
        for text, got in zip(texts, read(NUMBER, texts), strict=True):
            assert got in (None, round(float(text) * E7)), text
            if len(text.partition(".")[2]) <= 7 and "e" not in text:
                assert got is not None


def test_what_is_near_to_a_tie_is_left_to_the_parser() -> None:
    texts = ["39.12345675", "39.123456750000", "39.123456749999990", "39.12345674", "39.12345676", "39.123456750001"]
    assert read(NUMBER, texts) == [None, None, None, 391234567, 391234568, 391234568]
    assert read(Field("x", "short decimal"), [*texts[3:], "39.1234567"]) == [None, None, None, 391234567]


def test_names_are_told_apart_however_alike_they_are() -> None:
    names = ["a", "aa", "aaaaaaa", "aaaaaaaa", "aaaaaaaab", "aaaaaaaaaaaaaaaac", "aaaaaaaaaaaaaaaad", "b c", "x" * 31]
    field = Field("x", "text", Names(names))
    others = ["", "A", "aaa", "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaae", "b", "x" * 32, "x" * 30, "\x00"]
    assert read(field, names + others) == [*range(len(names)), *[None] * len(others)]
    unusable = ["", 'q"', "back\\", "é", "y" * 32]
    assert read(Field("x", "text", Names([*unusable, "z"])), [*unusable, "z"]) == [None] * 5 + [5]
    assert read(Field("x", "text", Names([])), ["", "a"]) == [None, None]


def test_many_names_are_told_apart_as_well() -> None:
    names = [f"operator-{i}" for i in range(300)]
    assert read(Field("x", "text", Names(names)), names) == [*range(256), *[None] * 44]


@pytest.mark.parametrize(
    "record", [b"", b"{}", b"[1]", b'{"x":1', b'{"x":1}}', b'{"x":1,}', b'{"x":1,"x":2}', b'{"y":1}', b'{"x":null}', b'{"x":"1"}', b'{"x":1}\x0b']
)  # fmt: skip
def test_from_what_is_not_one_flat_object_of_known_fields_nothing_is_learnt(record: bytes) -> None:
    assert Template.learnt(record, {"x": NUMBER}) is None


def test_producers_with_several_templates_are_read_by_all_of_them() -> None:
    reader = Reader([NUMBER, Field("y", "decimal")], ["x"])
    kinds = [b'{"x":%d}', b'{"x": %d}', b'{"x":%d,"y":1}', b'{"y":2,"x":%d}', b'{"y":2}%d']
    records = Spans.of([kinds[i % 5] % i for i in range(2000)])
    for _ in range(5):
        read = reader.read(records)
    rows = np.concatenate([rows[table.ok] for rows, table in read])
    assert sorted(rows.tolist()) == [i for i in range(2000) if i % 5 < 4]
    for rows, table in read:
        assert (table.numbers["x"][table.ok] == rows[table.ok] * E7).all()


def test_a_feed_that_fits_no_template_is_looked_at_ever_more_rarely() -> None:
    reader = Reader([NUMBER], ["x"])
    for _ in range(3):
        reader.read(Spans.of([b'{"x":1}'] * 100))
    other = Spans.of([b'{"x":null}'] * 100)
    assert sum(bool(reader.read(other)) for _ in range(300)) < 12
    assert any(len(reader.read(Spans.of([b'{"x":1}'] * 100))) for _ in range(70))
    assert reader.read(Spans.of([b'{"x":1}'] * 100))
