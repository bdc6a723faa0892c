"""Draining a backlog: the whole job on one core, beside (a) a bare drain and (b) a hand-written loop on the same log."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from benchmarks.answer import TICK_MS, TICK_S, Answer, Event, answer
from benchmarks.feed import START_MS, WARM_S, World
from benchmarks.rig import FEED_TOPIC, MEASURED, PARTITIONS, Rig, Worker, require, say, wait_for

SNAPSHOTS = 2
"""Of every partition within the window, at least. It lasts some 16 s and the default interval is 30 s: with that, the
figure would hide what snapshots cost."""
EXPECTED_PER_S = (
    850_000  # only to choose the interval; the city closes the warm-up when a good part of the rest is read already
)
HAND_ALERTS = "hand.alerts"


@dataclass(frozen=True)
class Speed:
    """Past the warm-up: pings per second of wall time and of CPU time."""

    per_s: float
    per_cpu_s: float


@dataclass(frozen=True)
class Round:
    drain: Speed
    hand: Speed
    ours: Speed
    snapshots: float  # of each partition within the window, and of the city if that is fewer
    snapshot_bytes_per_ping: float


@dataclass(frozen=True)
class Log:
    """The backlog in Kafka and what is right about it."""

    pings: int
    seconds: int
    answer: Answer

    @property
    def records(self) -> int:
        return self.pings + PARTITIONS

    @property
    def warm(self) -> int:
        return self.pings * WARM_S // self.seconds


def prepare(rig: Rig, *, bikes: int, pings: int) -> Log:
    """Fill the topic. It takes a minute, and the answer is computed meanwhile."""
    world = World(bikes)
    seconds = int(pings / world.per_second()) // TICK_S * TICK_S
    require(seconds >= 2 * WARM_S, f"{pings} pings are less than two minutes of {bikes} bikes: take more --pings")
    say(f"feed: {seconds} s of stream of {bikes:,} bikes, about {world.per_second():,.0f} pings/s")
    never = {"retention_ms": "-1", "message_timestamp_type": "CreateTime", "message_timestamp_after_max_ms": str(2**63 - 1)}
    rig.topic(FEED_TOPIC, PARTITIONS, **never)
    rig.topic(HAND_ALERTS, 1)
    where = ("--topic", FEED_TOPIC, "--bikes", str(bikes), "--seconds", str(seconds))
    feed = rig.module("produce", "backlog", *where, "--partitions", str(PARTITIONS), core=None)
    right = answer(world, seconds)
    done = json.loads(feed.line())
    say(f"feed: {done['pings']:,} pings in {done['seconds']} s; {len(right.events)} alert events are right")
    return Log(done["pings"], seconds, right)


def measure(rig: Rig, log: Log, rounds: int) -> list[Round]:
    """The three one after the other, several times over: the machine may be busy with other things."""
    done = []
    for number in range(1, rounds + 1):
        drain, hand = run_drain(rig, log), run_hand(rig, log)
        ours, snapshots, bytes_per_ping = run_ours(rig, log, f"round{number}")
        say(
            f"round {number}: drain {_text(drain)}, hand loop {_text(hand)}, ours {_text(ours)} "
            f"({ours.per_s / drain.per_s:.2f} x drain, {ours.per_s / hand.per_s:.2f} x hand loop; "
            f"by CPU {ours.per_cpu_s / drain.per_cpu_s:.2f} and {ours.per_cpu_s / hand.per_cpu_s:.2f}), {snapshots:.1f} snapshots of each partition"
        )
        done.append(Round(drain, hand, ours, snapshots, bytes_per_ping))
    return done


def figures(rounds: list[Round]) -> dict[str, float]:
    """Medians; ratios are taken within each round."""
    return {
        "pings_per_s": round(median(r.ours.per_s for r in rounds)),
        "pings_per_cpu_s": round(median(r.ours.per_cpu_s for r in rounds)),
        "ratio_to_drain": round(median(r.ours.per_s / r.drain.per_s for r in rounds), 3),
        "ratio_to_hand_loop": round(median(r.ours.per_s / r.hand.per_s for r in rounds), 3),
        "cpu_ratio_to_drain": round(median(r.ours.per_cpu_s / r.drain.per_cpu_s for r in rounds), 3),
        "cpu_ratio_to_hand_loop": round(median(r.ours.per_cpu_s / r.hand.per_cpu_s for r in rounds), 3),
        "drain_per_s": round(median(r.drain.per_s for r in rounds)),
        "hand_loop_per_s": round(median(r.hand.per_s for r in rounds)),
        "snapshots_in_window": round(min(r.snapshots for r in rounds), 1),
        "snapshot_bytes_per_ping": round(median(r.snapshot_bytes_per_ping for r in rounds), 2),
    }


def run_drain(rig: Rig, log: Log) -> Speed:
    return _speed(rig.result("drain", *_log(log), core=MEASURED))


def run_hand(rig: Rig, log: Log) -> Speed:
    found = rig.result("hand_loop", *_log(log), "--alerts-topic", HAND_ALERTS, core=MEASURED)
    right = log.answer
    require(found["standing"] == right.standing, f"hand loop: {found['standing']} bikes stand, right is {right.standing}")
    require(found["digest"] == right.digest, "hand loop: its counts per cell and operator are wrong")
    # Of its alerts no more can be asked: partitions of a backlog are read unevenly, and it judges whatever has come so far.
    say(f"hand loop: {found['alerts']} raised or cleared, right is {sum(event[3] != 'updated' for event in right.events)}")
    return _speed(found)


def _log(log: Log) -> tuple[str, ...]:
    return "--topic", FEED_TOPIC, "--records", str(log.records), "--warm", str(log.warm)


def _speed(result: dict[str, Any]) -> Speed:
    return Speed(result["per_s"], result["per_cpu_s"])


def run_ours(rig: Rig, log: Log, name: str) -> tuple[Speed, float, float]:
    """A new worker with a new consumer group works through the log. Also snapshots, and their bytes per ping, of the window."""
    interval_ms = 1000 * (log.pings - log.warm) // EXPECTED_PER_S // (2 * SNAPSHOTS)
    deployed = rig.deploy(name, clock="replay", feed=FEED_TOPIC, snapshot_interval=f"{interval_ms}ms")
    names, first = deployed.settings.topics, START_MS // TICK_MS
    worker, progress = deployed.start(), deployed.tail(names.progress)
    newest: int = -1

    def reached(tick: int) -> bool:
        nonlocal newest
        newest = max([newest, *(int(json.loads(message.value())["tick"]) for message in progress.poll())])
        return newest >= tick

    try:
        wait_for("the warm-up", lambda: reached(first + WARM_S // TICK_S - 1), worker.process)
        before = worker.metrics()
        wall, cpu = time.perf_counter(), worker.process.cpu_s()
        wait_for("the end of the log", lambda: reached(first + log.seconds // TICK_S - 1), worker.process)
        wall, cpu = time.perf_counter() - wall, worker.process.cpu_s() - cpu
        after = worker.metrics()
        _check(worker, log, [message.value() for message in deployed.tail(names.alerts).rest()])
    finally:
        progress.close()
        worker.process.stop()
    pings = log.records - before["batch_records_sum"]
    say(f"the window is {pings:,.0f} pings, {wall:.1f} s")
    speed = Speed(pings / wall, pings / cpu)
    count = "snapshot_duration_seconds_count/"
    snapshots = {kind: after.get(count + kind, 0) - before.get(count + kind, 0) for kind in ("source", "city")}
    size = sum(value for key, value in after.items() if key.startswith("snapshot_bytes/source/")) / PARTITIONS
    city = sum(value for key, value in after.items() if key.startswith("snapshot_bytes/city/"))
    return (
        speed,
        min(snapshots["source"] / PARTITIONS, snapshots["city"]),
        (snapshots["source"] * size + snapshots["city"] * city) / pings,
    )


def _check(worker: Worker, log: Log, alerts: list[bytes]) -> None:
    right = log.answer
    metrics = worker.metrics()
    accepted = sum(value for key, value in metrics.items() if key.startswith("pings_total/") and key.endswith("/accepted"))
    require(accepted == log.pings, f"{accepted:,.0f} of {log.pings:,} pings were accepted")
    roster = worker.roster(metrics)
    require(roster == right.standing, f"{roster} bikes stand, right is {right.standing}")
    found = sorted(event_of(alert) for alert in alerts)
    missing, more = set(right.events) - set(found), set(found) - set(right.events)
    require(len(found) == len(set(found)), "an alert event was sent twice")
    require(not missing and not more, f"{len(missing)} alert events are missing, {len(more)} are wrong: {missing or more}")


def event_of(body: bytes) -> Event:
    """What `answer` knows of an alert."""
    alert = json.loads(body)
    end_ms = round(datetime.fromisoformat(alert["observed_at"]).timestamp() * 1000)
    tick = (end_ms - START_MS) // TICK_MS - 1
    return tick, alert["area"]["h3"], alert["operator"], alert["state"], alert["count"], alert["excess"]


def _text(speed: Speed) -> str:
    return f"{speed.per_s / 1000:.0f} k/s ({speed.per_cpu_s / 1000:.0f} k per CPU second)"
