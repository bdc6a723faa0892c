"""What an operator runs: reads its own alerts and keeps the list of what is open. Copy it, and put your work into `act`.

    pip install confluent-kafka
    python consumer_python.py --brokers kafka-1:9092 --topic alerts.amber --state amber.sqlite
    python consumer_python.py --state amber.sqlite --list          # what is open, one JSON object a line

Kafka's own settings go in by --set: --set security.protocol=SASL_SSL --set sasl.mechanism=SCRAM-SHA-256
--set sasl.username=amber; the password only by the environment: KAFKA_SASL_PASSWORD.

The rules that make it right:

1. *At least once.* An offset is committed after the event was acted upon and remembered. After a crash some events come again.
2. *The event id tells.* An event that comes again has the same `event_id`, which is `episode_id`/`sequence`. So whoever keeps the
   highest sequence of each episode knows every event that it has seen.
3. *Each event is whole.* The newest event of an episode says all there is to know; older ones are history.
4. *Be ready for more.* Fields, kinds and states that you do not know may come: ignore what you do not need.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException

OVER = ("cleared", "cancelled")
FORGET_AFTER_DAYS = 30
"""Episodes that are over are remembered for longer than the topic keeps its records: later none can come again."""

Event = dict[str, Any]


def act(event: Event) -> None:
    """YOUR WORK: make a task, move it, close it. May be called twice for one `event_id`, after a crash in between."""
    print(
        json.dumps({key: event[key] for key in ("event_id", "state", "severity", "count", "excess", "respond_by")}), flush=True
    )


class Episodes:
    """The newest event of each episode, in a file that survives us. Every change is on the disk when its `with` ends."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS episodes "
            "(episode_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, open INTEGER NOT NULL, observed_at TEXT NOT NULL, event TEXT)"
        )

    def is_new(self, event: Event) -> bool:
        """False: we have had this event, or a newer one of its episode."""
        row = self._db.execute("SELECT sequence FROM episodes WHERE episode_id = ?", (event["episode_id"],)).fetchone()
        return row is None or event["sequence"] > row[0]

    def remember(self, events: Iterable[Event]) -> None:
        with self._db:
            for event in events:
                self._db.execute(
                    "INSERT OR REPLACE INTO episodes VALUES (?, ?, ?, ?, ?)",
                    (
                        event["episode_id"],
                        event["sequence"],
                        event["state"] not in OVER,
                        event["observed_at"],
                        json.dumps(event),
                    ),
                )
            self._db.execute(
                "DELETE FROM episodes WHERE NOT open AND julianday(observed_at) < "
                "(SELECT max(julianday(observed_at)) FROM episodes) - ?",
                (FORGET_AFTER_DAYS,),
            )

    def open(self) -> Iterator[Event]:
        """What is open, the longest first."""
        for (text,) in self._db.execute(
            "SELECT event FROM episodes WHERE open ORDER BY json_extract(event, '$.opened_at'), episode_id"
        ):
            yield json.loads(text)


def run(consumer: Consumer, topic: str, episodes: Episodes, *, once: bool) -> None:
    """Until SIGTERM or Ctrl-C; with `once` until the end of the topic."""
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stop.append(received))
    consumer.subscribe([topic])
    at_end: set[int] = set()
    while not stop:
        events = []
        for message in consumer.consume(100, timeout=1.0):
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                at_end.add(message.partition())
                continue
            at_end.discard(message.partition())
            if (event := parse(message)) is not None:
                events.append(event)
        for event in events:
            if episodes.is_new(event):
                act(event)
                episodes.remember([event])
        if events:
            consumer.commit(asynchronous=False)
        elif once and at_end and at_end >= {place.partition for place in consumer.assignment()}:
            return


def parse(message: Any) -> Event | None:
    """The event; None for what is none. One bad record must not stop the others."""
    try:
        event = json.loads(message.value() or b"")
        if event["schema"] == "urban-brain/alert/1":
            return dict(event)
        reason = f"its schema is {event['schema']}"
    except (ValueError, KeyError, TypeError) as error:
        reason = repr(error)
    print(f"{message.topic()}/{message.partition()} at {message.offset()} is no alert: {reason}", file=sys.stderr)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", default="localhost:9092", help="host:port, with commas")
    parser.add_argument("--topic", default="alerts.amber")
    parser.add_argument(
        "--group", default="amber.dispatch", help="a name of yours; one process at a time, the list is one file"
    )
    parser.add_argument("--state", required=True, metavar="FILE", help="where to keep what is known")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of librdkafka")
    parser.add_argument("--once", action="store_true", help="end at the end of the topic")
    parser.add_argument("--list", action="store_true", help="print what is open, and end")
    options = parser.parse_args()
    episodes = Episodes(options.state)
    if options.list:
        for event in episodes.open():
            print(json.dumps(event))
        return 0
    settings = {
        "bootstrap.servers": options.brokers,
        "group.id": options.group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": options.once,
        **dict(setting.split("=", 1) for setting in options.set),
    }
    if password := os.environ.get("KAFKA_SASL_PASSWORD"):
        settings["sasl.password"] = password
    consumer = Consumer(settings)
    try:
        run(consumer, options.topic, episodes, once=options.once)
    finally:
        consumer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
