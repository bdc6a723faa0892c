"""Frames as bytes: what goes in comes out, in any grouping, cut into parts, and nothing else is taken for a frame."""

from __future__ import annotations

import numpy as np
import pytest

from geo.frame import OUTCOMES, Document, Facts, Frame, Section
from geo.params import FOR_EVER, BikeParams, Epoch, Timeline
from streams.errors import NewerFormat, WireError
from streams.frames import PART_BYTES, Assembler, Complete, Part, Sender, Writer, decode_frame, decode_message, encode_frame

SENDER = Sender("bike.pings", 3, b"0123456789abcdef", 1)


def timeline(*operators: str) -> Timeline:
    return Timeline(5000, (Epoch(FOR_EVER, "00", BikeParams(), operators, (), ()),))


def make_frame(n: int, operators: int = 3, tick: int = 7) -> Frame:
    facts = Facts(
        operator=np.full(n, 2, np.int16),
        ids=[f"bike {i} é" for i in range(n)],
        lat=np.arange(n, dtype=np.int32) - 900_000_000,
        lng=np.arange(n, dtype=np.int32),
        stands=np.arange(n) % 2 == 0,
        state=np.full(n, 1, np.uint8),
        vehicle=np.full(n, 10, np.uint8),
        rode=np.arange(n) % 3 == 0,
        since=np.arange(n, dtype=np.int64) * 1000,
        version=np.arange(n, dtype=np.int64) * 1000 + 1,
    )
    outcomes = np.zeros((operators + 1, len(OUTCOMES)), np.int64)
    outcomes[2, 0], outcomes[-1, 1] = n, 4
    return Frame(0, tick, -1, {"rivertown": Section(facts, np.array([0, 0, n][:operators]))}, outcomes)


def test_a_frame_survives_its_bytes_also_with_other_operators_in_the_configuration() -> None:
    frame = make_frame(5)
    body = encode_frame(frame, timeline("a", "b", "c"), ["rivertown"])
    sections, outcomes = decode_frame(body, timeline("a", "aa", "b", "bb", "c"))
    facts = sections["rivertown"].facts
    assert facts.ids == frame.sections["rivertown"].facts.ids
    assert facts.operator.tolist() == [4] * 5
    assert facts.lat.tolist() == frame.sections["rivertown"].facts.lat.tolist()
    assert facts.rode.tolist() == frame.sections["rivertown"].facts.rode.tolist()
    assert sections["rivertown"].heard.tolist() == [0, 0, 0, 0, 5]
    assert outcomes[4, 0] == 5
    assert outcomes[-1, 1] == 4


def test_a_section_may_hold_no_facts_only_that_somebody_was_heard() -> None:
    sections, _ = decode_frame(encode_frame(make_frame(0), timeline("a", "b", "c"), ["rivertown"]), timeline("a", "b", "c"))
    assert len(sections["rivertown"].facts) == 0


def test_documents_survive_the_bytes_of_their_frame_in_order_with_their_senders() -> None:
    documents = (Document("policy", 2, b'{"x": 1}', 8), Document("policy", -1, bytes(range(256)), 9))
    frame = make_frame(0)
    frame.sections["rivertown"] = Section.of_documents(documents, 3)
    sections, _ = decode_frame(encode_frame(frame, timeline("a", "b", "c"), ["rivertown"]), timeline("a", "aa", "b", "c"))
    assert sections["rivertown"].documents == (Document("policy", 3, b'{"x": 1}', 8), documents[1])
    assert len(sections["rivertown"].facts) == 0
    assert not sections["rivertown"].heard.any()


def test_a_frame_without_documents_is_as_before_there_were_any() -> None:
    import msgspec

    document = msgspec.msgpack.decode(encode_frame(make_frame(2), timeline("a", "b", "c"), ["rivertown"]))
    assert document["cities"]["rivertown"].keys() == {"heard", "ids", "facts"}


def test_a_city_is_not_told_of_another_city() -> None:
    body = encode_frame(make_frame(5), timeline("a", "b", "c"), ["hilltown"])
    assert decode_frame(body, timeline("a", "b", "c"))[0] == {}
    assert b"bike" not in body


def test_an_operator_that_is_not_configured_here_is_an_error_with_a_remedy() -> None:
    body = encode_frame(make_frame(1), timeline("a", "b", "c"), ["rivertown"])
    with pytest.raises(WireError, match=r"operators \['c'\].*give every worker the same network configuration"):
        decode_frame(body, timeline("a", "b"))


def test_columns_that_a_later_version_adds_are_ignored() -> None:
    import msgspec

    document = msgspec.msgpack.decode(encode_frame(make_frame(2), timeline("a", "b", "c"), ["rivertown"]))
    document["cities"]["rivertown"]["facts"]["battery"] = b"\x01\x02"
    document["novelty"] = 1
    sections, _ = decode_frame(msgspec.msgpack.encode(document), timeline("a", "b", "c"))
    assert len(sections["rivertown"].facts) == 2


def test_small_frames_share_a_record_and_a_large_one_is_cut() -> None:
    writer = Writer(SENDER)
    writer.frame(1, -1, b"small")
    writer.frame(2, 1, b"x" * (2 * PART_BYTES + 1))
    writer.complete(9, 2)
    values = writer.values()
    assert max(map(len, values)) < 512 * 1024
    entries = [entry for value in values for entry in decode_message(value).entries]
    assert [(e.tick, e.part, e.parts) for e in entries if isinstance(e, Part)] == [(1, 0, 1), (2, 0, 3), (2, 1, 3), (2, 2, 3)]
    assert entries[-1] == Complete(9, 2)
    assert writer.values() == []


def test_parts_of_two_writers_make_one_frame() -> None:
    """A worker dies in the middle of a frame's parts; the one that goes on sends all of them again."""
    body = bytes(range(256)) * 4000
    writer = Writer(SENDER)
    writer.frame(2, 1, body)
    parts = [e for v in writer.values() for e in decode_message(v).entries if isinstance(e, Part)]
    assembler = Assembler()
    assert assembler.add(SENDER, parts[0], 10) is None
    assert assembler.first_position() == 10
    got = [assembler.add(SENDER, part, 11 + i) for i, part in enumerate(parts)]
    assert [g for g in got if g] == [(10, body)]
    assert assembler.first_position() is None


def test_parts_of_an_old_frame_do_not_hold_the_log_for_ever() -> None:
    writer = Writer(SENDER)
    writer.frame(2, 1, b"y" * (PART_BYTES + 1))
    part = next(e for v in writer.values() for e in decode_message(v).entries if isinstance(e, Part))
    assembler = Assembler()
    assembler.add(SENDER, part, 10)
    assembler.forget("bike.pings", 3, 2)
    assert assembler.first_position() is None


@pytest.mark.parametrize("value", [b"", b"{}", b"\x00" * 200, b"UBF1", b"hello " * 20])
def test_what_is_not_a_frame_is_refused(value: bytes) -> None:
    with pytest.raises(WireError, match="not a frame"):
        decode_message(value)


def test_a_newer_format_stops_the_reader() -> None:
    writer = Writer(SENDER)
    writer.complete(1, 0)
    value = writer.values()[0]
    with pytest.raises(NewerFormat, match="upgrade this worker first"):
        decode_message(b"UBF2" + value[4:])


def test_a_record_that_is_cut_off_is_refused() -> None:
    writer = Writer(SENDER)
    writer.frame(1, -1, b"small")
    value = writer.values()[0]
    with pytest.raises(WireError, match="cut off"):
        decode_message(value[:-1])
