"""Single values of a configuration: durations, exact numbers, names, times. Each refuses what it is not, with a remedy."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache, partial
from importlib.resources import files
from typing import Annotated

from pydantic import BeforeValidator

from streams.settings.problems import RefusedError

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+)(ms|s|m|h|d)")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ms(value: object) -> int:
    """ "90s", "5m", "1h30m" -> milliseconds. A bare number is refused: nobody can see its unit."""
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise RefusedError("must be a duration with a unit", 'Write it like "60s", "5m", "1h30m" or "250ms", in quotes.')
    return sum(int(number) * _UNITS_MS[unit] for number, unit in _PART.findall(value))


def positive_duration_ms(value: object) -> int:
    """A duration that is longer than nothing."""
    length = duration_ms(value)
    if length == 0:
        raise RefusedError("must be longer than zero", 'Write a duration like "60s".')
    return length


def exact(value: object) -> Decimal:
    """A number exactly as written. Floats never come here: TOML is read with Decimal, so 0.1 is one tenth."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
            raise InvalidOperation
        number = Decimal(value)
    except InvalidOperation:
        raise RefusedError("must be a number", "Write it as a decimal number like 2.5.") from None
    if not number.is_finite():
        raise RefusedError("must be a finite number", "Write it as a decimal number like 2.5.")
    return number


def positive(value: object) -> Decimal:
    """An exact number above zero."""
    number = exact(value)
    if number <= 0:
        raise RefusedError("must be greater than zero", "Write a positive number like 2.5.")
    return number


def ratio(value: object) -> Fraction:
    """An exact share in (0, 1]."""
    number = exact(value)
    if not 0 < number <= 1:
        raise RefusedError("must be greater than 0 and at most 1", "Write a share like 0.8.")
    return Fraction(number)


def thousandths(value: object, *, most: int) -> int:
    """A positive number of metres (or m/s) -> whole millimetres (or mm/s), at most `most` of them."""
    scaled = positive(value) * 1000
    if scaled != scaled.to_integral_value():
        raise RefusedError("must not be finer than 0.001", "Round it to three decimals.")
    if scaled > most:
        raise RefusedError(f"must be at most {most // 1000}", "Write a smaller number.")
    return int(scaled)


def name(value: object) -> str:
    """A name that becomes part of topic names and metric labels."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise RefusedError(
            "must be a name of 1 to 64 of a-z 0-9 . _ - that begins with a letter or digit",
            "It becomes part of topic names; rename it, for example to river-bikes.",
        )
    return value


def identifier(value: object) -> str:
    """An id that becomes part of the ids of alerts: no separators of theirs in it."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise RefusedError(
            "must be an id of 1 to 64 of A-Z a-z 0-9 . _ - that begins with a letter or digit",
            "It becomes part of the ids of alerts; rename it, for example to crowded-cell.",
        )
    return value


def text(value: object) -> str:
    """1 to 200 printable characters for people to read."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value) <= 200:
        raise RefusedError("must be 1 to 200 printable characters", "Write a short text in quotes.")
    return value


def instant_ms(value: object) -> int:
    """An aware time, as TOML has it or as an RFC 3339 string -> milliseconds of stream time (floor)."""
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise RefusedError("must be a time with its offset (RFC 3339)", "Write it like 2026-03-01T00:00:00+08:00.")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


@cache
def _zones() -> frozenset[str]:
    """All names of the pinned tzdata wheel, never the host's: every machine must know the same ones."""
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


def time_zone(value: object) -> str:
    """A name of the IANA database."""
    if not isinstance(value, str) or value not in _zones():
        raise RefusedError("must be a time zone of the IANA database", "Write it like Asia/Shanghai or UTC.")
    return value


Duration = Annotated[timedelta, BeforeValidator(lambda value: timedelta(milliseconds=duration_ms(value)))]
PositiveDuration = Annotated[timedelta, BeforeValidator(lambda value: timedelta(milliseconds=positive_duration_ms(value)))]
DurationMs = Annotated[int, BeforeValidator(duration_ms)]
PositiveDurationMs = Annotated[int, BeforeValidator(positive_duration_ms)]
Ratio = Annotated[Fraction, BeforeValidator(ratio)]
Millimetres = Annotated[int, BeforeValidator(partial(thousandths, most=1_000_000))]
MillimetresPerSecond = Annotated[int, BeforeValidator(partial(thousandths, most=1_000_000))]
Name = Annotated[str, BeforeValidator(name)]
Identifier = Annotated[str, BeforeValidator(identifier)]
Text = Annotated[str, BeforeValidator(text)]
InstantMs = Annotated[int, BeforeValidator(instant_ms)]
TimeZone = Annotated[str, BeforeValidator(time_zone)]
