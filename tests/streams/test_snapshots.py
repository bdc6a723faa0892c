"""Snapshots: what goes in comes out; the newest whole one counts, whoever wrote it; a version in the past is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from streams.errors import SnapshotError
from streams.snapshots import (
    MANIFEST_PART,
    Columns,
    Key,
    Manifest,
    PartRef,
    Shelf,
    check_epochs,
    checksum,
    encode_key,
    encode_manifest,
    pack_columns,
    tombstone_order,
    unpack_columns,
)

DTYPES = st.sampled_from([np.int64, np.int32, np.int16, np.uint8, np.bool_, np.float64])


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.one_of(
            st.binary(max_size=200),
            DTYPES.flatmap(lambda d: st_np.arrays(d, st_np.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=40))),
        ),
        max_size=6,
    )
)
def test_columns_survive_their_bytes(columns: Columns) -> None:
    got = unpack_columns(*pack_columns(columns))
    assert list(got) == list(columns)
    for name, column in columns.items():
        back = got[name]
        if isinstance(column, bytes):
            assert back == column
        else:
            assert isinstance(back, np.ndarray)
            assert back.dtype == column.dtype and back.shape == column.shape
            assert back.tobytes() == column.tobytes()


def test_large_columns_are_cut_into_parts_under_512_kib_even_if_nothing_compresses() -> None:
    noise = np.random.default_rng(1).integers(0, 2**63, (50_000, 12))
    layout, parts = pack_columns({"rows": noise, "ids": b"x" * 1_000_000})
    assert max(map(len, parts)) < 512 * 1024
    back = unpack_columns(layout, parts)["rows"]
    assert isinstance(back, np.ndarray)
    assert (back == noise).all()
    back[0, 0] = 1  # the state goes on from it: it has to be writable


def put_snapshot(
    shelf: Shelf, tick: int, writer: str, *, leave_out: int | None = None, damage: bool = False, offset: int = 0
) -> None:
    layout, parts = pack_columns({"rows": np.full(200_000, tick)})
    refs = [PartRef(len(part), checksum(part)) for part in parts]
    for i, part in enumerate(parts):
        if i != leave_out:
            shelf.put(encode_key(Key("t/0", tick, writer, i)), part[:-1] + b"!" if damage and i == 0 else part, offset + i)
    manifest = Manifest(
        source="t/0", writer=writer, tick=tick, clock=0, resume_offset=tick * 10, layout=layout, parts=refs, epochs=[]
    )
    shelf.put(encode_key(Key("t/0", tick, writer, MANIFEST_PART)), encode_manifest(manifest), offset + len(parts))


def newest_tick(shelf: Shelf) -> int | None:
    found = shelf.newest()
    return None if found is None else found[0].tick


def test_the_greatest_tick_counts_whoever_wrote_it_and_whenever() -> None:
    shelf = Shelf("t/0")
    put_snapshot(shelf, 9, "owner")
    put_snapshot(shelf, 7, "zombie")
    assert newest_tick(shelf) == 9


@pytest.mark.parametrize("wrong", ["leave_out", "damage"])
def test_the_one_before_counts_if_the_newest_is_not_whole(wrong: str) -> None:
    shelf = Shelf("t/0")
    put_snapshot(shelf, 7, "owner")
    if wrong == "damage":
        put_snapshot(shelf, 9, "owner", damage=True)
    else:
        put_snapshot(shelf, 9, "owner", leave_out=1)
    assert newest_tick(shelf) == 7


def test_a_damaged_or_unknown_manifest_is_passed_over() -> None:
    shelf = Shelf("t/0")
    put_snapshot(shelf, 7, "owner")
    shelf.put(encode_key(Key("t/0", 9, "owner", MANIFEST_PART)), b"\xc1 not msgpack", 99)
    assert newest_tick(shelf) == 7


def test_parts_without_a_manifest_are_not_a_snapshot() -> None:
    shelf = Shelf("t/0")
    shelf.put(encode_key(Key("t/0", 9, "dead", 0)), b"part", 1)
    put_snapshot(shelf, 7, "owner", offset=5)
    assert newest_tick(shelf) == 7
    assert shelf.snapshots() == [(7, "owner", 4, 5)]


def test_litter_is_what_is_older_than_what_is_kept_and_nothing_that_somebody_may_still_be_writing() -> None:
    shelf = Shelf("t/0")
    for tick in (3, 5, 7):
        put_snapshot(shelf, tick, "owner", offset=10 * tick)
    for tick, writer in ((4, "dead"), (6, "writing"), (9, "writing")):
        shelf.put(encode_key(Key("t/0", tick, writer, 0)), b"part", 100 + tick)
    put_snapshot(shelf, 8, "broken", leave_out=2)
    assert shelf.litter(3) == []
    assert shelf.litter(4) == []
    assert set(shelf.litter(2)) == {*(Key("t/0", 3, "owner", part) for part in range(-1, 4)), Key("t/0", 4, "dead", 0)}
    assert shelf.litter(2)[0] == Key("t/0", 3, "owner", MANIFEST_PART)


def test_tombstones_take_the_manifest_first() -> None:
    """Whatever is deleted between two of them, a manifest that is there has all its parts."""
    shelf = Shelf("t/0")
    put_snapshot(shelf, 7, "owner")
    put_snapshot(shelf, 9, "owner")
    for i, key in enumerate(tombstone_order("t/0", 9, "owner", 4)):
        shelf.put(key, None, 100 + i)
        assert newest_tick(shelf) == 7


def test_keys_of_another_topic_are_told_as_such() -> None:
    with pytest.raises(SnapshotError, match="which no snapshot has: is it another topic"):
        Shelf("t/0").put(b"bike-1", b"{}", 0)


def manifest_at(tick: int, epochs: list[tuple[int, str]]) -> Manifest:
    return Manifest(source="t/0", writer="w", tick=tick, clock=0, resume_offset=0, layout=[], parts=[], epochs=epochs)


def test_a_version_that_starts_later_than_the_state_may_be_added() -> None:
    check_epochs(manifest_at(100, [(-5, "a")]), [(-5, "a"), (101, "b")])


def test_a_version_in_the_past_of_the_state_is_refused_with_the_remedy() -> None:
    with pytest.raises(SnapshotError, match=r"past the start \(tick 100\).*did not know.*give it a later effective_from"):
        check_epochs(manifest_at(100, [(-5, "a")]), [(-5, "a"), (100, "b")])


def test_a_changed_version_in_the_past_of_the_state_is_refused() -> None:
    with pytest.raises(SnapshotError, match="knew with other content"):
        check_epochs(manifest_at(100, [(-5, "a"), (50, "b")]), [(-5, "a"), (50, "c")])


def test_a_version_that_was_in_force_must_stay() -> None:
    with pytest.raises(SnapshotError, match="must stay in the configuration"):
        check_epochs(manifest_at(100, [(-5, "a"), (50, "b")]), [(-5, "a")])
