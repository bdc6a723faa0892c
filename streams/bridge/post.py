"""One request, and what is to be made of its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol

import aiohttp

from streams.bridge.event import Event, request_headers

Verdict = Literal["delivered", "failed", "later"]

_LONGEST_PAUSE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    delivered: 2xx. later: the endpoint lives and asks to be left alone for a while (429, or 503 with Retry-After). failed: all else.
    result: a short word for metrics. detail: for people. retry_after_s: how long it wants to be left alone.
    """

    verdict: Verdict
    result: str
    detail: str
    retry_after_s: float = 0.0


class Post(Protocol):
    """Sends one event. Never raises for what the network or the endpoint does."""

    async def __call__(self, event: Event) -> Answer: ...


class HttpPost:
    """The one that is HTTP. Use it within `async with`."""

    def __init__(self, url: str, key: bytes, *, timeout_s: float, agent: str, now_s: Callable[[], float] = time.time) -> None:
        self._url = url
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._agent = agent
        self._now_s = now_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpPost:
        # Cookies would let one answer change the next request.
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0),  # the lanes know how many at once
            headers={"User-Agent": self._agent},
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, event: Event) -> Answer:
        assert self._session is not None
        headers = request_headers(event, self._key, int(self._now_s()))
        try:
            # Not to where a redirect leads: the signature is for the one who was configured.
            async with self._session.post(self._url, data=event.value, headers=headers, allow_redirects=False) as response:
                return judge(response.status, response.headers.get("Retry-After"), self._now_s())
        except TimeoutError:
            return Answer("failed", "timeout", f"no answer within {self._timeout.total:g} s")
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            return Answer("failed", "unreachable", f"{type(error).__name__}: {error}")


def judge(status: int, retry_after: str | None, now_s: float) -> Answer:
    """What an HTTP status means. now_s: seconds since the epoch, for a Retry-After that names a date."""
    detail = f"HTTP {status}"
    if 200 <= status < 300:
        return Answer("delivered", "2xx", detail)
    pause_s = retry_after_s(retry_after, now_s)
    if status == 429 or (status == 503 and pause_s is not None):
        return Answer("later", str(status), detail, pause_s or 0.0)
    return Answer("failed", f"{status // 100}xx", detail)


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """The header Retry-After, seconds or a date, as seconds from now; an hour at most. None: there is none that can be read."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return min(float(text), _LONGEST_PAUSE_S)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:  # "-0000": a time in UTC that says nothing of its place
        when = when.replace(tzinfo=UTC)
    return min(max((when - datetime.fromtimestamp(now_s, UTC)).total_seconds(), 0.0), _LONGEST_PAUSE_S)
