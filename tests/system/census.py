"""A ledger that is a city: every ping is a bike of its own that parks. Who loses or doubles a ping counts wrong.

Most bikes spread over many places; one in ten goes to one of a few, so that alerts are raised and updated all the time.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

import orjson
from confluent_kafka import KafkaError, Message, Producer

from tests.system.harness import System, Worker

PLACES, CROWDED = 1009, 8
RULES = """
[[city.rules]]
id = "crowded"
name = "Crowded"
per_hectare = "4"
for = "2s"
keep_firing_for = "2s"
cooldown = "5s"
update_interval = "1s"
bikes_cap = 20
"""
OPTIONS: dict[str, Any] = {"clock": "live", "tick": "1s", "rules": RULES}
"""For a deployment under a census."""

_ROUND_S = 0.02


def ping(number: int, now_ms: int) -> bytes:
    place = number % PLACES if number % 10 else PLACES + number // 10 % CROWDED
    lat, lng = 39.5 + 0.01 * (place // 100), 115.5 + 0.01 * (place % 100)
    return orjson.dumps(
        {"bike_id": f"b{number}", "operator": "alpha", "ts": now_ms, "lat": lat, "lng": lng, "status": "available"}
    )


class Census:
    """Pings of ever new bikes from a thread, while a `with` lasts; at its end all are acknowledged.

    Its client is replaced if nothing of it is acknowledged for a minute though the brokers are there. That happened once, after a
    restart of the only broker to which the worker had long come back; why is not known, and a dozen restarts did not bring it about
    again (issue 3009 of librdkafka tells of the like). If broker or topic were to blame, the new client would wait as well. What the
    old one did not see acknowledged is sent again; what was in the log all the same is there twice, as when a feed starts anew.
    """

    def __init__(self, system: System, per_second: int = 3000) -> None:
        self._system = system
        self._topic = system.settings.feeds[0].topic
        self._per_second = per_second
        self._failed: list[str] = []
        self._made = 0
        self._sent: dict[bytes, bytes] = {}  # what is not acknowledged yet, by key
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._lock = threading.RLock()  # over the client and what was sent by it
        self._producer = self._client()

    @property
    def acknowledged(self) -> int:
        return self._made - len(self._sent)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        left = self._producer.flush(5 if kind else 170)
        assert kind or (not left and not self._sent and not self._failed), (left, len(self._sent), self._failed[:3])

    def wait(self, count: int) -> None:
        """Until so many more were acknowledged."""
        due = self.acknowledged + count
        try:
            self._system.until(lambda: self.acknowledged >= due, "pings are acknowledged", 60)
        except AssertionError:
            self._replace_client()
            self._system.until(lambda: self.acknowledged >= due, f"{due} of {self._made} pings are acknowledged", 90)

    def watch(self, worker: Worker) -> None:
        """Until the worker is at it, and has been for some time."""
        self._system.wait_ready(worker)
        self.wait(2500)

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(_ROUND_S):
            due = int((time.monotonic() - began) * self._per_second)
            self.produce(due - self._made)

    def produce(self, count: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        with self._lock:
            for number in range(self._made, self._made + count):
                key, value = f"b{number}".encode(), ping(number, now_ms)
                self._sent[key] = value
                self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
            self._made += count
            self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._sent.pop(message.key(), None)
        elif error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._failed.append(str(error))

    def _replace_client(self) -> None:
        with self._lock:
            print(f"{len(self._sent)} pings were not acknowledged for a minute: the feed starts its client anew")
            self._producer.purge()
            self._producer.flush(10)
            self._producer = self._client()
            for key, value in list(self._sent.items()):
                self._producer.produce(self._topic, value, key, on_delivery=self._delivered)

    def _client(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._system.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 2_000_000,
                "message.timeout.ms": 170_000,  # more than any outage of a test
                "log_level": 0,
            }
        )


def assert_nothing_is_lost(system: System, census: Census, timeout_s: float = 60.0) -> None:
    """Every acknowledged ping has its bike in the city, and the events are those of the log, to the byte.

    All workers but one must have ended; that one is stopped here, in order.
    """
    (last,) = (worker for worker in system.workers if worker.running)
    counted = f"{census.acknowledged} bikes in the city"
    system.until(lambda: system.roster(last) == census.acknowledged, counted, timeout_s)
    last.stop()
    log = system.input_log()
    assert len({record.key for record in log if record.value is not None}) == census.acknowledged
    assert system.assert_events_are_the_backtests(log) > 15, "the log must raise alerts, or this proves nothing"
