"""Five crawls of every parked bike of one operator in Beijing, 335,818 rows, told as live pings."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby, pairwise
from pathlib import Path

import polars as pl
import pytest

from geo.city import Event
from streams.feeds.order import feed_records
from streams.feeds.producing import produce
from streams.feeds.readers import Format, read_rows
from streams.feeds.records import FeedRecord, ReadReport, Router
from streams.settings import Settings, loads
from tests.system.configuring import RULE, configuration
from tests.system.conftest import MakeSystem
from tests.system.harness import ROOT, System, Worker

FILE = Path(os.environ.get("URBAN_BRAIN_DATA", ROOT.parent / "shared/data")) / "beijing-mobike-parked-2018-02.csv.gz"
RULES = RULE.format(per_hectare="1.2")
OPERATORS = ("alpha", "beta", "gamma")
SPREAD_S = 600
TICK_MS = 5_000
STANDING = [57_823, 65_157, 69_615, 84_750, 94_044]
"""Distinct bikes at the end of each crawl."""

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.slow,
    pytest.mark.timeout(300),  # beside two other tests on two cores
    pytest.mark.skipif(not FILE.exists(), reason=f"{FILE.name} is not here: set URBAN_BRAIN_DATA to the folder that holds it"),
]


def records_of(settings: Settings, *, spread_s: int = 0) -> list[FeedRecord]:
    """The file as records; the bikes split over the operators that the configuration allows."""
    operators = settings.timeline.operators
    report = ReadReport()
    form = Format("mobike", {"operator": f":{operators[0]}"}, None, operators if len(operators) > 1 else ())
    records = list(feed_records(read_rows([FILE], form, report), Router(settings), spread_ms=spread_s * 1000))
    assert not report.skipped
    return records


def standing_bikes(ttl_s: int) -> list[int]:
    """Distinct bikes at the end of each crawl, by expiry in speaking time, straight from the file.

    The one operator counts as silent from 80 minutes after a crawl on; what a bike has not been heard for counts without that.
    """
    frame = pl.read_csv(FILE).with_columns(pl.col("ts").str.to_datetime("%+").dt.epoch("s"))
    times = frame["ts"].unique().sort()
    spoken = times.diff().fill_null(0).clip(upper_bound=4800).cum_sum()
    heard = frame.join(pl.DataFrame({"ts": times, "spoken": spoken}), on="ts")
    return [
        heard.filter(pl.col("ts") <= now)
        .group_by("bike_id")
        .agg(pl.col("spoken").max())
        .filter(at - pl.col("spoken") < ttl_s)
        .height
        for now, at in zip(times, spoken, strict=True)
    ]


def rosters(records: list[FeedRecord], ttl_s: int) -> list[int]:
    """The same by our rules."""
    settings = loads(configuration("nowhere:9092", "crawl", network=f'ttl = "{ttl_s}s"', rules=RULE.format(per_hectare="1000")))
    run = System("", Path(), settings, Path()).backtester()
    found = []
    for now, crawl in groupby(records, key=lambda record: record.record_ms):
        run._take(list(crawl), (now // TICK_MS + 1) * TICK_MS)
        found.append(run.cities["rivertown"].roster_count())
    return found


def test_the_roster_at_each_crawls_end_is_a_few_lines_of_polars_on_the_file() -> None:
    records = records_of(loads(configuration("nowhere:9092", "crawl")))
    assert standing_bikes(18_000) == STANDING
    assert rosters(records, 18_000) == STANDING
    # A bike that stays where it was is told of anew after an hour, so it may expire up to an hour before its newest fix says:
    # with a short ttl the crawls in between differ, the last one, after a day, must not.
    assert rosters(records, 7_200)[-1] == standing_bikes(7_200)[-1] == 59_455


@contextmanager
def told(system: System, records: list[FeedRecord]) -> Iterator[None]:
    """A crawl that is being produced while the block lasts, ten minutes of it in three seconds."""
    failed: list[BaseException] = []

    def tell() -> None:
        try:
            produce(system.settings, records, speed=SPREAD_S / 3)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failed


def kill_and_replace(system: System, workers: list[Worker]) -> None:
    workers.pop(0).kill()
    workers.append(system.worker())


def stop_past_the_session_and_wake(system: System, workers: list[Worker]) -> None:
    victim = workers[0]
    victim.send(signal.SIGSTOP)
    system.until(lambda: system.members() == len(workers) - 1, "the group goes on without it")
    if len(workers) > 1:
        system.wait_progress(system.newest_input_ms() // TICK_MS - 1)
    victim.send(signal.SIGCONT)
    system.until(lambda: system.members() == len(workers), "it is back in the group")


TROUBLE: dict[int, Callable[[System, list[Worker]], None]] = {
    1: kill_and_replace,
    2: stop_past_the_session_and_wake,
    3: kill_and_replace,
}
"""What happens in the middle of which crawl."""


@pytest.fixture(scope="module")
def spread() -> tuple[list[FeedRecord], list[Event]]:
    """The crawls laid over ten minutes each, the bikes split over three operators; and what the backtest makes of them."""
    settings = loads(configuration("nowhere:9092", "crawl", operators=OPERATORS, rules=RULES))
    records = records_of(settings, spread_s=SPREAD_S)
    return records, list(System("", Path(), settings, Path()).backtester().run(records))


@pytest.mark.kafka
@pytest.mark.parametrize("count", [1, 2, 3])
def test_workers_that_are_killed_and_stopped_in_mid_stream_agree_with_the_backtest(
    deploy: MakeSystem, spread: tuple[list[FeedRecord], list[Event]], count: int
) -> None:
    """One of so many workers is killed twice, and one is stopped for longer than its session and woken."""
    system = deploy(operators=OPERATORS, partitions=2 * count, session="3s", rules=RULES)
    topic = system.settings.feeds[0].topic
    crawls = cut_at_gaps([record._replace(topic=topic) for record in spread[0]])
    workers = [system.worker() for _ in range(count)]
    system.wait_ready(*workers)
    for number, crawl in enumerate(crawls):
        with told(system, crawl):
            if number in TROUBLE:
                system.wait_progress(crawl[len(crawl) // 3].record_ms // TICK_MS)
                TROUBLE[number](system, workers)
        system.wait_progress(crawl[-1].record_ms // TICK_MS)
        wait_roster(system, workers, STANDING[number])
    assert system.assert_events_are(spread[1]) > 2000
    for worker in workers:
        worker.stop()


def wait_roster(system: System, workers: list[Worker], bikes: int) -> None:
    system.until(lambda: system.roster(*workers) == bikes, f"{bikes} bikes in the city")


def cut_at_gaps(records: list[FeedRecord]) -> list[list[FeedRecord]]:
    """The crawls: between any two lies more than half an hour."""
    cuts = [i for i, (one, other) in enumerate(pairwise(records), 1) if other.record_ms - one.record_ms > 1_800_000]
    return [records[start:stop] for start, stop in pairwise([0, *cuts, len(records)])]
