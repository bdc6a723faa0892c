"""One record's value to the pings that it holds, with the standard library's JSON."""

from __future__ import annotations

import json
from typing import Any

from tests.oracle.ping import Malformed, _only_unicode, _refuse

BLANK = " \t\r\n"


def pings_in(value: bytes) -> list[bytes] | None:
    """The pings of a record that holds several, or none; None: the record is a ping by itself, or broken as a whole."""
    text = value.decode("utf-8", "surrogateescape")
    pings = _items(text) if text.lstrip(BLANK).startswith("[") else _lines(text)
    if pings is None or len(pings) > min(10_000, 64 + len(value) // 16):
        return None
    return [ping.encode("utf-8", "surrogateescape") for ping in pings]


def _items(text: str) -> list[str] | None:
    if not _is_json(text):
        return None
    items: list[str] = []
    decoder = json.JSONDecoder()
    at = _past_blanks(text, text.index("[") + 1)
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        items.append(text[at:end])
        at = _past_blanks(text, end)
        at = _past_blanks(text, at + 1) if text[at] == "," else at
    return items


def _past_blanks(text: str, at: int) -> int:
    while text[at] in BLANK:
        at += 1
    return at


def _lines(text: str) -> list[str] | None:
    lines = [line.strip(BLANK) for line in text.split("\n") if line.strip(BLANK)]
    if len(lines) < 2 or not any(line[0] == "{" and line[-1] == "}" for line in lines) or _is_json(text):
        return None
    return lines


def _is_json(text: str) -> bool:
    """Bytes that are no UTF-8 are the affair of the ping that they are in; half of a surrogate pair is not JSON."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        whole: Any = json.loads(text, parse_constant=_refuse)
        _only_unicode(whole)
    except (Malformed, ValueError, RecursionError):
        return False
    return True
