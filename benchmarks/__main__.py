"""Every benchmark, one after the other: python -m benchmarks [--only throughput …] [--pings N] [--bikes N] [--rounds N]

Progress goes to stderr; the last line of stdout is one JSON object. An answer that is wrong ends it with status 1.
Takes about ten minutes, two cores, 2 GB of memory, 2 GB of disk, Java and Maven (docs/performance.md).
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from benchmarks import latency, memory, recovery, throughput
from benchmarks.feed import World
from benchmarks.live import live
from benchmarks.rig import BenchError, Rig, say
from deploy.kafka_local import KafkaError

PARTS = ("throughput", "memory", "recovery", "latency")
KEYS = (
    "pings_per_s", "pings_per_cpu_s", "ratio_to_drain", "ratio_to_hand_loop", "recovery_s", "bytes_per_bike", "alert_p99_s",
    "answers_checked",
)  # fmt: skip


def run(parts: set[str], options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(KEYS)
    if "throughput" in parts:
        with Rig.up() as rig:
            log = throughput.prepare(rig, bikes=options.bikes, pings=options.pings)
            found |= throughput.figures(throughput.measure(rig, log, options.rounds))
    if parts & {"memory", "recovery"}:
        with Rig.up() as rig, live(rig, "live") as one:
            held = memory.measure(rig, one, options.bikes)
            found |= {"bytes_per_bike": round(held.settled), "peak_bytes_per_bike": round(held.peak)}
            if "recovery" in parts:
                back = recovery.measure(one, World(options.bikes))
                found |= {"recovery_s": round(back.first, 2), "recovery_all_sources_s": round(back.all, 2)}
    if "latency" in parts:
        with Rig.up() as rig:
            late = latency.measure(rig)
            found |= {"alert_p99_s": round(late.beyond_p99, 3), "alert_p50_s": round(late.beyond_p50, 3)}
    return found | {"answers_checked": True}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="may be given several times; recovery includes memory")
    parser.add_argument("--pings", type=int, default=24_000_000, help="in the backlog, the first 1.2 million warm-up")
    parser.add_argument("--bikes", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2, help="of drain, hand loop and worker")
    options = parser.parse_args()
    try:
        found = run(set(options.only or PARTS), options)
    except (BenchError, KafkaError) as error:
        say(f"failed: {error}")
        print(json.dumps(dict.fromkeys(KEYS) | {"answers_checked": False}))
        return 1
    print(json.dumps(found))
    if found.get("snapshots_in_window", throughput.SNAPSHOTS) < throughput.SNAPSHOTS:
        say(f"too fast to be true: {throughput.SNAPSHOTS} snapshots of every partition must fall into the window")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
