"""Faust's consumer with four things changed: what a message is, who commits, when reading starts, how a partition is given up.

1. A message is a list of runs of one partition (`runs.py`); Faust's price of a message is paid once per thousands of records.
2. Faust never commits. Its topics are made without acknowledgements, so none of its ledgers (acks, gaps, read offsets)
   grows; `commit_exactly` is the only way.
3. Reading starts where the owner of the state says, and only there (`perform_seek`; the gate of `thread.py`).
4. Before partitions go, the flow stops, the message in hand is finished, and the owner writes down the state
   (`wait_empty`: Faust calls it at revocation and at shutdown, after it has stopped the flow).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any, ClassVar, Protocol

import faust
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.transport import producer as base_producer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.transport.errors import NotHeld, OffsetOutOfLog, TransportError
from streams.transport.runs import Run
from streams.transport.thread import ConsumerThread, RebalanceListener

TAKE_TIMEOUT_S = 0.25  # how long a fetch waits for news; bounds how late a pause or a stop is noticed


class Owner(Protocol):
    """Keeps the state of input partitions. The calls never overlap.

    An owner may also have `async def lost(self, tps: frozenset[TP]) -> None`: these went to somebody else and may be
    dropped from memory; it comes before the `acquire` of the same assignment. Some of them may never have been loaded,
    when the `acquire` that should have done so was cancelled.
    """

    async def acquire(self, tps: frozenset[TP]) -> Mapping[TP, int]:
        """All partitions now assigned; answer where each is to be read from, once its state is in memory.

        Nothing of them is delivered before. The call is cancelled when another rebalance begins meanwhile; then there is
        no `release` for it, the next `acquire` follows."""

    async def release(self, tps: frozenset[TP]) -> None:
        """Write down the state and commit: these partitions are about to be taken away (some may come back at once).

        The flow stands still. Cancelled after half of the session timeout; what was not committed is read again."""


class InHand(faust.Sensor):  # type: ignore[misc]
    """Counts the messages that an agent has taken and not finished."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = 0
        self._none = asyncio.Event()
        self._none.set()

    def on_stream_event_in(self, tp: TP, offset: int, stream: Any, event: Any) -> None:
        self.messages += 1
        self._none.clear()

    def on_stream_event_out(self, tp: TP, offset: int, stream: Any, event: Any, state: Any = None) -> None:
        self.messages -= 1
        if not self.messages:
            self._none.set()

    async def finished(self) -> None:
        await self._none.wait()


class Consumer(driver.Consumer):  # type: ignore[misc]
    RebalanceListener: ClassVar[type[RebalanceListener]] = RebalanceListener
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owner: Owner = self.app.owner
        self._in_hand: InHand = self.app.in_hand
        self._held: frozenset[TP] = frozenset()  # acquired, and not released since
        self._releasing: frozenset[TP] = frozenset()
        self._known: frozenset[TP] = frozenset()  # what the owner may have in memory
        self._acquiring: asyncio.Future[Mapping[TP, int]] | None = None
        self._handing_over = asyncio.Lock()
        self._next_round = 0.0

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def thread(self) -> ConsumerThread:
        return self._thread

    # -- failing: exceptions in Faust's hooks are logged and forgotten, or end one task in silence

    async def fail(self, error: BaseException) -> None:
        if self.app.failure is None:
            self.app.failure = error
            self.log.critical("The worker can not go on: %s", error, exc_info=error)
            await self.app.crash(error)

    def fail_soon(self, error: BaseException) -> None:
        self.add_future(self.fail(error))

    # -- reading

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._round()
        except asyncio.CancelledError:
            # In the middle of a rebalance Faust takes the end of its fetcher for a crash, also when somebody asked for it.
            if not self.app.should_stop:
                raise
        except ConsumerStoppedError as error:
            if not self.app.should_stop:
                await self.fail(error)
        except Exception as error:
            await self.fail(error)
            raise

    async def _round(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        # Fetches are paced: few large messages instead of many small ones, for each has its fixed price.
        await self.sleep(max(0.0, self._next_round - monotonic()))
        self._next_round = monotonic() + self.app.settings.pace_s
        epoch, taken = await self._thread.run(self._thread.take(set(self._get_active_partitions()), TAKE_TIMEOUT_S))
        for place, runs in taken.items():
            if epoch is None or epoch != self.app.consumer_generation_id or self.should_stop:
                return
            # Waits while the agent's queue is full, which is all the back-pressure there is. A message that waits here
            # across a rebalance is skipped by the stream, for its epoch is over.
            await self.callback(self._message(TP(place.topic, place.partition), runs, epoch))

    def _message(self, tp: TP, runs: list[Run], epoch: int) -> ConsumerMessage:
        last = runs[-1]
        return ConsumerMessage(
            tp.topic, tp.partition, last.next_offset - 1, int(last.timestamps()[-1]) / 1000.0, last.timestamp_type,
            None, None, runs, None, 0, 0, tp, generation_id=epoch,
        )  # fmt: skip

    def on_buffer_full(self, tp: TP) -> None:
        """Stock takes the partition out of the fetches, and sleeps a second when all of them are out."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Stock complains about partitions that nobody writes to, and about commits that it did not make."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """The one entry to Faust's own commits: timer, revocation, shutdown, error."""
        return False

    async def commit_exactly(self, offsets: Mapping[TP, tuple[int, str]]) -> None:
        """Only for what is held or just being released: a commit that arrives while the group forms anew carries the old
        generation, and the group would throw its sender out."""
        if not offsets.keys() <= self._held | self._releasing:
            raise NotHeld(f"{sorted(offsets.keys() - self._held - self._releasing)} are being handed over")
        await self._thread.run(self._thread.commit_exactly(offsets))

    # -- rebalances

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        strangers = {tp.topic for tp in assigned} - self.app.settings.batch_topics
        if strangers:
            await self.fail(TransportError(f"agents read {sorted(strangers)}, which are not among `batch_topics`"))
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:  # else it is done before the next `acquire`; Faust seeks nothing when there is nothing
            self.add_future(self._drop_lost(frozenset()))

    async def _drop_lost(self, assigned: frozenset[TP]) -> None:
        lost, self._known = self._known - assigned, assigned
        drop = getattr(self._owner, "lost", None)
        if lost and drop is not None:
            try:
                await drop(lost)
            except Exception as error:
                await self.fail(error)

    async def perform_seek(self) -> None:
        """Called by Faust's recovery, once after every assignment, before it lets the flow go on."""
        epoch, tps = self._thread.epoch, frozenset(self.assignment())
        try:
            # A message of the last assignment that took too long for the release would change the state while the owner
            # answers for it.
            await self._in_hand.finished()
            await self._drop_lost(tps)
            starts = await self._acquire(tps)
            await self._check_bounds(starts)
            await self._thread.run(self._thread.open_gate(epoch, starts))
        except IllegalStateError:
            raise  # recovery knows it: another rebalance has begun, and will come here again
        except Exception as error:
            await self.fail(error)
            raise

    async def _acquire(self, tps: frozenset[TP]) -> Mapping[TP, int]:
        self._acquiring = asyncio.ensure_future(self._owner.acquire(tps))
        try:
            await asyncio.wait([self._acquiring])
            if self._acquiring.cancelled():
                raise IllegalStateError("a new rebalance has begun")
            starts = self._acquiring.result()
        finally:
            self._acquiring.cancel()
        self._held = tps
        if set(starts) != tps:
            raise TransportError(f"acquire must answer for {sorted(tps)}, it did for {sorted(starts)}")
        return starts

    async def _check_bounds(self, starts: Mapping[TP, int]) -> None:
        bounds = await self._thread.run(self._thread.bounds(starts))
        for tp, offset in sorted(starts.items()):
            start, end = bounds[tp]
            if not start <= offset <= end:
                raise OffsetOutOfLog(tp, offset, start, end)

    async def wait_empty(self) -> None:
        async with self._handing_over:
            if self._acquiring is not None and not self._acquiring.done():
                self._acquiring.cancel()
                await asyncio.wait([self._acquiring])
            held, self._held = self._held, frozenset()
            # After a failure the state in memory may be half of something: what was committed stays the truth.
            if held and self.app.failure is None and not self.app.crashed:
                await self._release(held)

    async def _release(self, held: frozenset[TP]) -> None:
        limit_s = self.app.settings.session_timeout_s / 2
        self._releasing = held
        try:
            async with asyncio.timeout(limit_s) as clock:
                await self._in_hand.finished()
                await self._owner.release(held)
        except NotHeld as error:
            self.log.warning("not released: %s", error)
        except Exception as error:
            if clock.expired():
                self.log.warning("not released within %.1f s: what was not committed will be read again", limit_s)
            else:
                await self.fail(error)
        finally:
            self._releasing = frozenset()


class NoProducer(driver.Producer):  # type: ignore[misc]
    """Faust wants a producer. Outputs go another way (every send's result is checked), so this one never connects."""

    async def on_start(self) -> None:
        await base_producer.Producer.on_start(self)

    async def send(self, topic: str, *_: Any, **__: Any) -> Any:
        raise TransportError(f"nothing is sent through Faust (to {topic!r}): use the outputs' own producer")

    send_and_wait = send


class Transport(driver.Transport):  # type: ignore[misc]
    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[NoProducer]] = NoProducer
