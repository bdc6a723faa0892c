"""A worker for the tests: its state is a ledger of what it read, a file per snapshot, next to an optional misbehaviour.

Value i of partition p of a topic with n partitions is the number i * n + p, so every run can be checked where it arrives:
it must start at the very offset that is due, and hold the very numbers that belong there. Usage: toy_worker.py JSON
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streams.transport import TP, App, Run, build_app, commit, committed, log_end, run_worker


def log(*words: object) -> None:
    print(f"{time.time():.3f}", *words, flush=True)


class Ledger:
    """`starts-ends` files under the directory are the snapshots; the greatest end of a partition is its state."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.directory = Path(options["directory"])
        self.app: App
        self.since: dict[TP, int] = {}  # end of the last snapshot
        self.position: dict[TP, int] = {}
        self.pending: dict[TP, list[bytes]] = {}
        self.records = 0

    def saved(self, tp: TP) -> int:
        ends = [int(file.stem.split("-")[2]) for file in self.directory.glob(f"p{tp.partition:03}-*.bin")]
        return max(ends, default=self.options.get("start", 0))

    def may_acquire(self) -> bool:
        return "acquire_when" not in self.options or Path(self.options["acquire_when"]).exists()

    async def acquire(self, tps: frozenset[TP]) -> Mapping[TP, int]:
        if self.options.get("fail_acquire"):
            raise OSError("the state can not be loaded (test)")
        await asyncio.sleep(self.options.get("acquire_s", 0.0))
        while not self.may_acquire():  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.02)
        kept = tps & self.position.keys()
        for tp in tps - kept:
            self.since[tp] = self.position[tp] = self.saved(tp)
            self.pending[tp] = []
        log("ACQUIRED", len(tps), "kept", len(kept), "committed", await committed(self.app, tps))
        return {tp: self.position[tp] for tp in tps}

    async def release(self, tps: frozenset[TP]) -> None:
        if self.options.get("fail_release"):
            raise OSError("the state can not be saved (test)")
        await asyncio.sleep(self.options.get("release_s", 0.0))
        await self.snapshot(tps)
        log("RELEASED", len(tps))

    async def lost(self, tps: frozenset[TP]) -> None:
        for tp in tps:
            for memory in (self.position, self.since, self.pending):
                memory.pop(tp, None)
        log("LOST", len(tps))

    async def snapshot(self, tps: frozenset[TP]) -> None:
        offsets = {}
        for tp in tps:
            start, end = self.since[tp], self.position[tp]
            if start == end:
                continue
            values, self.pending[tp], self.since[tp] = self.pending[tp], [], end
            name = f"p{tp.partition:03}-{start}-{end}-{os.getpid()}"
            (self.directory / f"{name}.tmp").write_bytes(b"".join(values))
            (self.directory / f"{name}.tmp").rename(self.directory / f"{name}.bin")
            offsets[tp] = (end, name)
        if offsets:
            await commit(self.app, offsets)

    def take(self, tp: TP, runs: list[Run]) -> None:
        n = self.options["partitions"]
        if self.options.get("tell_offsets"):
            log("READ", tp.partition, [int(offset) for run in runs for offset in run.offsets()])
            self.position[tp] = runs[-1].next_offset
            return
        for run in runs:
            assert run.base == self.position[tp], f"{tp}: {run.base} came, {self.position[tp]} was due"
            body = b"".join(value for value in run.values if value is not None)
            due = np.arange(run.base, run.next_offset, dtype=np.int64) * n + tp.partition
            assert body == due.astype("<i8").tobytes(), f"{tp}: wrong records at {run.base}"
            self.position[tp] = run.next_offset
            self.pending[tp].append(body)
            self.records += len(run)

    async def snapshot_often(self) -> None:
        while not self.app.should_stop:
            await asyncio.sleep(self.options.get("snapshot_s", 0.3))
            ends = {tp.partition: log_end(self.app, tp) for tp in self.position}
            if self.options.get("tell_offsets") and all(ends[tp.partition] == at for tp, at in self.position.items()):
                log("AT THE END", ends)
                continue
            if not self.app.rebalancing:
                try:
                    await self.snapshot(frozenset(self.position))
                except Exception as error:
                    log("SNAPSHOT FAILED", repr(error))


def build(options: dict[str, Any]) -> App:
    ledger = Ledger(options)
    app = build_app(
        app_id=options["group"],
        brokers=options["brokers"],
        owner=ledger,
        batch_topics=frozenset({options["topic"]}),
        instance_id=options.get("instance"),
        session_timeout_s=options.get("session_s", 6.0),
        heartbeat_interval_s=options.get("heartbeat_s", 0.5),
        records_per_message=options.get("records_per_message", 16_384),
        datadir=ledger.directory,
    )
    ledger.app = app

    @app.agent(app.topic(options["topic"]), concurrency=1)  # type: ignore[untyped-decorator]
    async def read(stream: Any) -> None:
        async for event in stream.events():
            ledger.take(event.message.tp, event.value)
            if ledger.records >= options.get("tell_at", 1 << 60):
                log("TOOK", ledger.records)
            if ledger.records > options.get("fail_after", 1 << 60):
                raise ValueError("the agent can not go on (test)")
            await asyncio.sleep(options.get("agent_s", 0.0))

    @app.task  # type: ignore[untyped-decorator]
    async def snapshots() -> None:
        log("STARTED", os.getpid())
        await ledger.snapshot_often()

    return app


if __name__ == "__main__":
    status = run_worker(build(json.loads(sys.argv[1])), "info")
    log("STATUS", status)
    sys.exit(status)
