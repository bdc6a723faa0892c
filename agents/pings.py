"""The source agent of bikes: pings in, frames out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from streams.keeper import Keeper
from streams.pings_stage import PingsStage


def register(app: Any, *, topics: Iterable[str], keeper: Keeper, stage: PingsStage) -> None:
    """One agent for all feeds. Its concurrency is 1: the order of a partition is the order of its log."""

    async def pings(stream: Any) -> None:
        async for event in stream.events():
            await keeper.work(event.message.tp, partial(stage.take, runs=event.value))
            await asyncio.sleep(0)  # nothing above need wait, and the city and the network want their turns in a backlog too

    app.agent(app.topic(*topics), name="pings", concurrency=1)(pings)
