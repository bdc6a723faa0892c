"""The city agent: frames in, alerts out."""

from __future__ import annotations

from functools import partial
from typing import Any

from streams.city_stage import CityStage
from streams.keeper import Keeper


def register(app: Any, *, topic: str, keeper: Keeper, stage: CityStage) -> None:
    """One agent for all cities of this worker, each with its facts partition."""

    async def city(stream: Any) -> None:
        async for event in stream.events():
            await keeper.work(event.message.tp, partial(stage.take, runs=event.value))

    app.agent(app.topic(topic), name="city", concurrency=1)(city)
