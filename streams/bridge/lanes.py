"""Delivery: each episode has a lane, in which its events wait for each other. A lane that fails holds up no other.

An event is settled when the endpoint has taken it (2xx), or when it was refused `attempts` times and lies in the dead letters.
Requests for more time (429, or 503 with Retry-After) are no refusals: they hold all lanes, and are obeyed for as long as they come.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from streams.bridge.dead_letters import DeadLetters, Death
from streams.bridge.event import Event, Place
from streams.bridge.ledger import Ledger
from streams.bridge.metrics import BridgeMetrics
from streams.bridge.post import Answer, Post

log = logging.getLogger(__name__)

LaneName = tuple[Place, bytes]


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long. parallel: requests at the same time, of all lanes."""

    attempts: int
    first_s: float
    longest_s: float
    parallel: int

    def wait_s(self, failures: int, chance: float) -> float:
        """Before the next request, after so many failures in a row: doubled each time, and cut short by up to a half.

        chance: in [0, 1). Without it, whatever failed at the same moment would come again at the same moment.
        """
        doubled: float = self.first_s * 2 ** min(failures - 1, 60)
        return min(doubled, self.longest_s) * (1 - chance / 2)


@dataclass(eq=False, slots=True)
class _Lane:
    """The events of one episode that are not settled, oldest first, each with the time at which it came."""

    waiting: deque[tuple[Event, float]] = field(default_factory=deque)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Lanes:
    """Everything that is on its way."""

    def __init__(
        self,
        post: Post,
        dead: DeadLetters,
        patience: Patience,
        metrics: BridgeMetrics,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.ledger = Ledger()
        self._post = post
        self._dead = dead
        self._patience = patience
        self._metrics = metrics
        self._chance = chance
        self._slots = asyncio.Semaphore(patience.parallel)
        self._quiet_until = 0.0
        self._lanes: dict[LaneName, _Lane] = {}
        self._failure: BaseException | None = None

    def take(self, event: Event) -> None:
        """Begin with an event; returns at once."""
        self.ledger.take(event.place, event.offset)
        name = (event.place, event.key if event.key is not None else b"offset %d" % event.offset)
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane()
        lane.waiting.append((event, time.monotonic()))
        if lane.task is None:
            lane.task = asyncio.create_task(self._run(name, lane))
            lane.task.add_done_callback(self._ended)

    def check(self) -> None:
        """Raises what ended a lane, if anything did: a dead letter that could not be kept."""
        if self._failure is not None:
            raise self._failure

    def oldest_s(self) -> float:
        """How long the oldest event that is not settled has waited."""
        first = min((lane.waiting[0][1] for lane in self._lanes.values() if lane.waiting), default=None)
        return 0.0 if first is None else time.monotonic() - first

    async def close(self, places: Iterable[Place] | None = None) -> None:
        """Let the requests end that are under way in these partitions (None: in all), and begin no others.

        What is settled then is in the ledger; the rest will be read again by whoever has the partitions next.
        """
        wanted = None if places is None else set(places)
        names = [name for name in self._lanes if wanted is None or name[0] in wanted]
        lanes = [self._lanes.pop(name) for name in names]
        for lane in lanes:
            lane.closed.set()
        tasks = [lane.task for lane in lanes if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self._failure is None:
            self._failure = error

    async def _run(self, name: LaneName, lane: _Lane) -> None:
        while lane.waiting:
            event = lane.waiting[0][0]
            if not await self._settle(event, lane):
                return
            lane.waiting.popleft()
            self.ledger.settle(event.place, event.offset)
        if self._lanes.get(name) is lane:
            del self._lanes[name]

    async def _settle(self, event: Event, lane: _Lane) -> bool:
        """Until the event is delivered or a dead letter. False: the lane was closed before."""
        failures = pauses = 0
        while (answer := await self._request(event, lane)) is not None:
            if answer.verdict == "delivered":
                self._metrics.events.labels("delivered").inc()
                return True
            if answer.verdict == "later":
                pauses += 1
                pause_s = max(answer.retry_after_s, self._patience.wait_s(pauses, self._chance()))
                self._quiet_until = max(self._quiet_until, time.monotonic() + pause_s)
                log.warning("the endpoint asks for time (%s): nothing is sent for %.1f s", answer.detail, pause_s)
                continue
            failures += 1
            if failures >= self._patience.attempts:
                await self._bury(event, answer, failures)
                return True
            wait_s = self._patience.wait_s(failures, self._chance())
            log.warning("event %s, request %d: %s; again in %.1f s", event.id, failures, answer.detail, wait_s)
            if not await _sleep(lane, wait_s):
                return False
        return False

    async def _request(self, event: Event, lane: _Lane) -> Answer | None:
        """One request, when there is a place for it and the endpoint does not want to be left alone. None: the lane is closed."""
        while not lane.closed.is_set():
            if (quiet_s := self._quiet_until - time.monotonic()) > 0:
                await _sleep(lane, quiet_s)
                continue
            async with self._slots:
                if lane.closed.is_set() or self._quiet_until > time.monotonic():
                    continue
                began = time.monotonic()
                answer = await self._post(event)
                self._metrics.seconds.observe(time.monotonic() - began)
                self._metrics.requests.labels(answer.result).inc()
                return answer
        return None

    async def _bury(self, event: Event, answer: Answer, attempts: int) -> None:
        log.error("event %s is a dead letter after %d requests: %s", event.id, attempts, answer.detail)
        await self._dead.put(event, Death(answer.detail, attempts, time.time()))
        self._metrics.events.labels("dead").inc()


async def _sleep(lane: _Lane, seconds: float) -> bool:
    """False: the lane was closed meanwhile."""
    with suppress(TimeoutError):
        await asyncio.wait_for(lane.closed.wait(), seconds)
    return not lane.closed.is_set()
