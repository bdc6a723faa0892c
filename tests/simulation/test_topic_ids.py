"""An input topic that was deleted and made anew has its old name and another id: a state of the old log is refused."""

from __future__ import annotations

import pytest

from streams.errors import SnapshotError
from tests.simulation.city import FEEDS, SOURCES, TICK_MS, TPS, fill, pings, timeline
from tests.simulation.world import FACTS, Kafka, SimWorker, Stored

PINGS = FEEDS[0].topic
ANEW = "the topic was made anew. Remedy: "


async def started(kafka: Kafka) -> SimWorker:
    worker = SimWorker(kafka, timeline(), FEEDS, SOURCES)
    await worker.own(TPS)
    return worker


async def saved(worker: SimWorker) -> None:
    """All that the logs hold is worked on and written down."""
    await worker.drain()
    await worker.keeper.release(frozenset(TPS))


def go_on(kafka: Kafka) -> None:
    """Time passes: there is something new to write down."""
    for place in SOURCES:
        kafka.log(*place).append(Stored(None, None, {}, kafka.log(*place)[-1].timestamp_ms + 5 * TICK_MS))


@pytest.fixture
def kafka() -> Kafka:
    kafka = Kafka()
    fill(kafka, pings(1, n=300))
    return kafka


@pytest.mark.parametrize("topic", [PINGS, FACTS])
async def test_a_log_that_is_as_long_as_the_old_one_is_not_taken_for_it(kafka: Kafka, topic: str) -> None:
    await saved(await started(kafka))
    await started(kafka)
    kafka.made = {topic: 2}
    with pytest.raises(SnapshotError, match=f"the state of {topic}/0 .* {ANEW}"):
        await started(kafka)


async def test_what_a_worker_writes_belongs_to_the_log_that_it_has_read_also_when_that_is_gone(kafka: Kafka) -> None:
    worker = await started(kafka)
    await saved(worker)
    kafka.made = {PINGS: 2}
    go_on(kafka)
    await worker.own(TPS)  # a rebalance that leaves it what it has
    await saved(worker)
    with pytest.raises(SnapshotError, match=ANEW):
        await started(kafka)


async def test_a_state_of_before_there_were_ids_is_accepted_and_from_then_on_has_one(kafka: Kafka) -> None:
    kafka.tells_ids = False
    await saved(await started(kafka))
    kafka.tells_ids = True
    go_on(kafka)
    await saved(await started(kafka))
    kafka.made = {PINGS: 2}
    with pytest.raises(SnapshotError, match=ANEW):
        await started(kafka)


async def test_a_broker_that_tells_no_ids_is_no_reason_to_refuse_nor_to_forget_what_was_known(kafka: Kafka) -> None:
    await saved(await started(kafka))
    kafka.tells_ids = False
    worker = await started(kafka)
    go_on(kafka)
    await saved(worker)
    kafka.tells_ids, kafka.made = True, {PINGS: 2}
    with pytest.raises(SnapshotError, match=ANEW):
        await started(kafka)
