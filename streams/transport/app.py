"""Making a Faust app over this transport, committing, and running it as a worker."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.types import TP

from streams.transport.consumer import Consumer, InHand, Owner, Transport

EXIT_CRASHED = 1
# Faust drops the whole recovery, without a word, when a seek takes longer than its request timeout; our seek loads the
# state of a city, and the client's own timeout is set apart from it.
_SEEK_MAY_TAKE_S = 24 * 3600.0
_NEVER_S = 24 * 3600.0
_SHUTDOWN_GRACE_S = 20.0  # beyond the release, which has its own limit
# mallopt(3) of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@dataclass(frozen=True, kw_only=True)
class TransportSettings:
    app_id: str
    brokers: list[str]
    batch_topics: frozenset[str]
    instance_id: str | None
    session_timeout_s: float
    heartbeat_interval_s: float
    rebalance_timeout_s: float
    max_batch_s: float  # an agent longer at one message, or an owner at `acquire`, counts as hung: the worker leaves the group
    metadata_max_age_s: float  # new partitions of a topic are noticed within this
    max_fetch_bytes: int
    records_per_message: int
    pace_s: float


class RunSchema(faust.Schema):  # type: ignore[misc]
    """Agents get `list[Run]` of one partition; the records' bytes are theirs to decode, so nothing can fail here."""

    def loads_key(self, *_: Any, **__: Any) -> None:
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:
        return message.value


class NoTables(TableManager):  # type: ignore[misc]
    """Stock first waits a second for tables that may still be made: a worker that comes back would be idle for it."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class App(faust.App):  # type: ignore[misc]
    """`failure` is why the worker ends, when it is not because somebody asked it to."""

    settings: TransportSettings
    owner: Owner
    in_hand: InHand
    failure: BaseException | None = None
    consumer: Consumer

    def topic(self, *topics: str, **options: Any) -> Any:
        """As Faust's; topics of runs get their schema, and no acknowledgements (their commits are not Faust's)."""
        if self.settings.batch_topics.intersection(topics):
            options = {"schema": RunSchema(), **options, "acks": False}
        return super().topic(*topics, **options)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Transport:
        return Transport(self.conf.broker_producer, self)


def build_app(
    *,
    app_id: str,
    brokers: str,
    owner: Owner,
    batch_topics: frozenset[str],
    instance_id: str | None = None,
    session_timeout_s: float = 10.0,
    heartbeat_interval_s: float = 3.0,
    rebalance_timeout_s: float = 60.0,
    max_batch_s: float = 300.0,
    metadata_max_age_s: float = 60.0,
    max_fetch_bytes: int = 4 << 20,
    records_per_message: int = 16_384,
    pace_s: float = 0.02,
    queue: int = 8,
    credentials: Any = None,
    datadir: Path | None = None,
) -> App:
    """A Faust app whose agents on `batch_topics` get runs, and whose state belongs to `owner`.

    `brokers` is "host:port,host:port". With `instance_id` (static membership) a restart within the session timeout is
    noticed by nobody; every worker that runs needs one of its own. `credentials` is a `faust.SASLCredentials` or an
    `ssl.SSLContext`. `queue` messages wait for an agent before fetching stops.
    """
    settings = TransportSettings(
        app_id=app_id,
        brokers=[broker.strip() for broker in brokers.split(",")],
        batch_topics=batch_topics,
        instance_id=instance_id,
        session_timeout_s=session_timeout_s,
        heartbeat_interval_s=heartbeat_interval_s,
        rebalance_timeout_s=rebalance_timeout_s,
        max_batch_s=max_batch_s,
        metadata_max_age_s=metadata_max_age_s,
        max_fetch_bytes=max_fetch_bytes,
        records_per_message=records_per_message,
        pace_s=pace_s,
    )
    app = App(
        app_id,
        broker=";".join(f"kafka://{broker}" for broker in settings.brokers),
        broker_credentials=credentials,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=heartbeat_interval_s,
        broker_request_timeout=_SEEK_MAY_TAKE_S,
        broker_commit_interval=_NEVER_S,
        consumer_group_instance_id=instance_id,
        stream_buffer_maxsize=queue,
        stream_wait_empty=True,  # the hook for giving partitions up
        stream_recovery_delay=0.0,
        agent_supervisor="mode.supervisors:CrashingSupervisor",  # an exception that leaves an agent ends the worker
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        TableManager=NoTables,
        web_enabled=False,
        **({} if datadir is None else {"datadir": str(datadir)}),
    )
    app.settings, app.owner, app.in_hand = settings, owner, InHand()
    app.sensors.add(app.in_hand)
    return app


async def commit(app: App, offsets: Mapping[TP, tuple[int, str]]) -> None:
    """Commit exactly these offsets, each with a text that `committed` gives back.

    Raises when it did not happen: `NotHeld` when the partitions are on their way to somebody else, which is no error.
    """
    await app.consumer.commit_exactly(offsets)


async def committed(app: App, tps: Iterable[TP]) -> dict[TP, tuple[int, str] | None]:
    """What was committed last, by anyone in the group; None where nothing was."""
    return await app.consumer.thread.run(app.consumer.thread.committed(list(tps)))


async def topic_ids(app: App, topics: Iterable[str]) -> dict[str, str]:
    """Topic -> its id, which another topic of the same name does not have; nothing where brokers know none."""
    return await app.consumer.thread.run(app.consumer.thread.topic_ids(topics))


async def log_bounds(app: App, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
    """The first offset of each log and the one behind its last, asked from the broker."""
    return await app.consumer.thread.run(app.consumer.thread.bounds(list(tps)))


def log_end(app: App, tp: TP) -> int | None:
    """The offset behind the last record of the log, as of the last fetch; None while there was none (also during a
    rebalance). A reader whose position is not below has taken all of it."""
    return app.consumer.thread.log_end(tp)


def pause(app: App, tps: Iterable[TP]) -> None:
    """Fetch nothing from these; what is queued still comes. A rebalance ends it."""
    app.consumer.pause_partitions(tps)


def resume(app: App, tps: Iterable[TP]) -> None:
    app.consumer.resume_partitions(tps)


async def fail(app: App, error: BaseException) -> None:
    """End the worker with a status other than 0: no release, no commit, what was not committed is read again."""
    await app.consumer.fail(error)


class _Worker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which in the end leaves: a client may wait for an answer from the group for a minute."""

    app: App
    watchdog: threading.Timer | None = None

    async def on_stop(self) -> None:
        limit_s = self.app.settings.session_timeout_s / 2 + _SHUTDOWN_GRACE_S
        self.watchdog = threading.Timer(limit_s, self._leave, (limit_s,))
        self.watchdog.daemon = True
        self.watchdog.start()

    def _gather_all(self) -> None:
        """Stock sleeps for a second, in case that what nobody has told to end does end, and only then tells it."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))

    async def _sentinel_task(self) -> None:
        """Stock sleeps for another one."""

    def _leave(self, waited_s: float) -> None:
        logging.getLogger(__name__).critical("not stopped in order within %.0f s: leaving", waited_s)
        logging.shutdown()
        os._exit(0 if self.app.failure is None else EXIT_CRASHED)


def run_worker(app: App, loglevel: str = "info", *, services: Iterable[Any] = ()) -> int:
    """Run until SIGTERM or SIGINT (status 0), or until the worker can not go on (status 1).

    `services` (of mode) start before the app and stop after it, so after the last release.
    """
    _keep_freed_memory()
    keep_passwords_out_of_the_log()
    app.finalize()
    worker = _Worker(app, *services, loglevel=loglevel, quiet=True, redirect_stdouts=False)
    worker.spinner = None  # it plays with the cursor of a terminal that belongs to the logs
    status: object = EXIT_CRASHED
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        status = ended.code
    if worker.watchdog is not None:
        worker.watchdog.cancel()
    return 0 if app.failure is None and status in (0, None) else EXIT_CRASHED


def keep_passwords_out_of_the_log() -> None:
    """At the level debug aiokafka logs every request, also the one that logs in: with PLAIN it is the password in clear."""
    logging.getLogger("aiokafka.conn").setLevel(logging.INFO)


def give_back_freed_memory() -> None:
    """What decompressing and decoding have freed, to the system: now and then, not at every batch (`_keep_freed_memory`).

    A worker with a million bikes took 610 bytes a bike before and 413 after."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep_freed_memory() -> None:
    """Decompressing batches makes and frees blocks of 50 KB to 1 MB all the time. By default glibc gives such memory back
    to the kernel and faults it in again, which costs more than LZ4 itself: 150 instead of 265 ns a record."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
