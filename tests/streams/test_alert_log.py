"""Reading alerts: each event once, and of the open ones the newest."""

from __future__ import annotations

import orjson

from streams.alert_log import Logged, distinct, newest_open


def event(episode: str, sequence: int, opened: str = "2026-01-01T00:00:00.000Z") -> bytes:
    return orjson.dumps({"event_id": f"{episode}/{sequence}", "opened_at": opened})


def record(key: str, value: bytes | None, sequence: int = 0) -> Logged:
    return Logged(0, 0, 0, key.encode(), value, sequence)


def test_an_event_that_was_sent_again_is_shown_once() -> None:
    log = [record("a", event("a", 1)), None, record("a", event("a", 2)), record("a", event("a", 1))]
    seen = [item and item[0]["event_id"] for item in distinct(log)]
    assert seen == ["a/1", None, "a/2"]


def test_what_is_no_event_is_left_out() -> None:
    log = [record("a", None), record("a", b"{"), record("a", b"[]"), record("a", b'{"event_id": 5}')]
    assert list(distinct(log)) == []


def test_of_an_open_episode_the_highest_sequence_counts_not_the_last_record() -> None:
    log = [record("a", event("a", 1), 1), record("a", event("a", 3), 3), record("a", event("a", 2), 2)]
    assert [body["event_id"] for body, _ in newest_open(log)] == ["a/3"]


def test_a_record_without_value_closes_an_episode_even_if_an_old_one_comes_after_it() -> None:
    log = [record("a", event("a", 2), 2), record("a", None), record("a", event("a", 2), 2), record("b", event("b", 1), 1)]
    assert [body["event_id"] for body, _ in newest_open(log)] == ["b/1"]


def test_open_episodes_are_shown_oldest_first() -> None:
    log = [record("a", event("a", 1, "2026-01-02"), 1), record("b", event("b", 1, "2026-01-01"), 1)]
    assert [body["event_id"] for body, _ in newest_open(log)] == ["b/1", "a/1"]
