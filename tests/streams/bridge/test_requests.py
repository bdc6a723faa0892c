"""What a request says, how it is signed, and what is made of answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.bridge.event import Event, Place, request_headers, signature
from streams.bridge.ledger import Ledger
from streams.bridge.metrics import RESULTS
from streams.bridge.post import judge, retry_after_s
from streams.settings.webhook import secret_bytes

NOW_S = 1_700_000_000


def event(**headers: str) -> Event:
    return Event(Place("alerts.amber", 2), 17, b"e", b"{}", [(name, value.encode()) for name, value in headers.items()])


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    """Standard Webhooks and its libraries test with this one."""
    key = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_check_in_the_guide_for_operators_takes_what_is_signed_and_nothing_else() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "operators.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.S)
    modules = {"base64": base64, "hmac": hmac, "hashlib": hashlib, "time": time}
    now_s = int(time.time())
    headers = request_headers(event(ce_id="a/1"), b"k" * 24, now_s)
    exec(code, {**modules, "headers": headers, "body": b"{}", "secret": b"k" * 24})
    old = request_headers(event(ce_id="a/1"), b"k" * 24, now_s - 301)
    for wrong in ({"body": b"{ }"}, {"secret": b"x" * 24}, {"headers": headers | {"webhook-id": "a/2"}}, {"headers": old}):
        with pytest.raises(AssertionError):
            exec(code, {**modules, "headers": headers, "body": b"{}", "secret": b"k" * 24, **wrong})


def test_cloudevents_headers_become_http_headers() -> None:
    given = event(ce_id="a-b/3", ce_type="urban-brain.alert.raised", late_ms="31000")
    given = Event(given.place, given.offset, given.key, given.value, [*given.headers, ("content-type", b"application/json")])
    headers = request_headers(given, b"k" * 24, NOW_S)
    assert headers == {
        "ce-id": "a-b/3",
        "ce-type": "urban-brain.alert.raised",
        "late-ms": "31000",
        "content-type": "application/json",
        "webhook-id": "a-b/3",
        "webhook-timestamp": "1700000000",
        "webhook-signature": signature(b"k" * 24, "a-b/3", NOW_S, b"{}"),
    }


def test_a_record_without_an_event_id_is_known_by_its_place() -> None:
    assert request_headers(event(), b"k", NOW_S)["webhook-id"] == "alerts.amber/2/17"


def test_what_no_http_header_can_hold_is_percent_encoded_as_cloudevents_says() -> None:
    headers = request_headers(event(ce_subject="K\u00f6ln 100%\r\nx: y", ce_id='a"b'), b"k", NOW_S)
    assert headers["ce-subject"] == "K%C3%B6ln%20100%25%0D%0Ax:%20y"
    assert headers["webhook-id"] == headers["ce-id"] == "a%22b"


@pytest.mark.parametrize(
    ("status", "retry_after", "verdict", "result", "pause_s"),
    [
        (200, None, "delivered", "2xx", 0), (204, None, "delivered", "2xx", 0), (302, None, "failed", "3xx", 0),
        (400, None, "failed", "4xx", 0), (410, None, "failed", "4xx", 0), (500, "7", "failed", "5xx", 0),
        (503, None, "failed", "5xx", 0), (503, "7", "later", "503", 7), (429, None, "later", "429", 0),
        (429, "7", "later", "429", 7), (429, "soon", "later", "429", 0), (503, "soon", "failed", "5xx", 0),
    ],
)  # fmt: skip
def test_what_an_answer_means(status: int, retry_after: str | None, verdict: str, result: str, pause_s: float) -> None:
    answer = judge(status, retry_after, NOW_S)
    assert (answer.verdict, answer.result, answer.retry_after_s) == (verdict, result, pause_s)
    assert result in RESULTS, "a label that exists before it counts"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0), (" 12 ", 12.0), ("99999999", 3600.0), ("-3", None), ("1.5", None), ("", None), (None, None),
        (format_datetime(datetime.fromtimestamp(NOW_S + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW_S - 90, UTC), usegmt=True), 0.0),
        ("Tue, 14 Nov 2023 22:14:20 -0000", 60.0), ("Someday, 99 Foo 2023 22:14:20 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_never_more_than_an_hour(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, NOW_S) == seconds


PLACE = Place("t", 0)


@given(order=st.permutations(range(12)), taken=st.integers(1, 12))
def test_an_offset_is_committed_once_all_before_it_are_settled(order: list[int], taken: int) -> None:
    ledger, offsets = Ledger(), [3 * n + 5 for n in range(taken)]  # compacted topics have gaps
    for offset in offsets:
        ledger.take(PLACE, offset)
    settled: set[int] = set()
    for index in (i for i in order if i < taken):
        ledger.settle(PLACE, offsets[index])
        settled.add(offsets[index])
        position = ledger.positions()[PLACE]
        assert all(offset in settled for offset in offsets if offset < position)
        assert position == offsets[-1] + 1 or position in set(offsets) - settled
        assert len(ledger) == taken - len(settled)
    assert ledger.positions() == {PLACE: offsets[-1] + 1}


def test_a_partition_that_left_is_forgotten_whatever_is_settled_later() -> None:
    ledger = Ledger()
    ledger.take(PLACE, 1)
    ledger.take(Place("t", 1), 4)
    ledger.drop([PLACE])
    ledger.settle(PLACE, 1)
    assert ledger.positions() == {Place("t", 1): 4}
    assert len(ledger) == 1
