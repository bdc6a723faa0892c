"""Reading the days: of each the record that counts."""

from __future__ import annotations

from typing import Any

import orjson

from streams.alert_log import Logged
from streams.report_log import newest_days


def day(operator: str, date: str, observed: str, **more: Any) -> bytes:
    names = {"city": "rivertown", "operator": operator, "date": date, "observed_at": observed}
    return orjson.dumps(names | {"total": {}, "rules": []} | more)


def record(value: bytes | None, key: str = "") -> Logged:
    body = orjson.loads(value or b"{}") if not key else {}
    return Logged(0, 0, 0, (key or f"{body['operator']}/{body['date']}").encode(), value, 0)


def test_of_a_day_the_record_told_last_counts_not_the_one_written_last() -> None:
    log = [record(day("amber", "2026-01-01", "2026-01-0" + at, n=at)) for at in ("2", "4", "3")]
    assert [body["n"] for body, _ in newest_days(log)] == ["4"]


def test_days_are_shown_by_date_then_by_operator() -> None:
    log = [
        record(day(operator, "2026-01-" + date, "")) for operator, date in (("jade", "01"), ("amber", "02"), ("amber", "01"))
    ]
    assert [(body["date"][-2:], body["operator"]) for body, _ in newest_days(log)] == [
        ("01", "amber"),
        ("01", "jade"),
        ("02", "amber"),
    ]


def test_what_is_no_report_is_left_out() -> None:
    values = [
        None,
        b"{",
        b"[]",
        b'{"date": 5}',
        day("amber", "2026-01-01", "", total=7),
        day("amber", "2026-01-01", "", rules=None),
    ]
    assert newest_days(record(value, "k") for value in values) == []
