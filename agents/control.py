"""The source agent of control topics: documents in, frames out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from streams.control_stage import ControlStage
from streams.keeper import Keeper


def register(app: Any, *, topics: Iterable[str], keeper: Keeper, stage: ControlStage) -> None:
    """One agent for all control topics. Its concurrency is 1: the order of a partition is the order of its log."""

    async def control(stream: Any) -> None:
        async for event in stream.events():
            await keeper.work(event.message.tp, partial(stage.take, runs=event.value))

    app.agent(app.topic(*topics), name="control", concurrency=1)(control)
