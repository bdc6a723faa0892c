"""A pause that aiokafka leaves out.

When the metadata that a client has names a partition without a leader and no broker can be reached, aiokafka's producer and its
fetcher ask for new metadata again at once, for ever: a core is busy, and 6,000 lines a second go to the log.
"""

from __future__ import annotations

import asyncio
from typing import Any

PAUSE_S = 0.5


def pace_metadata(client: Any) -> None:
    """Let an update that failed take a moment. client: the `AIOKafkaClient` of a producer or consumer."""
    stock = client._metadata_update

    async def paced(*arguments: Any) -> bool:
        updated: bool = await stock(*arguments)
        if not updated:
            await asyncio.sleep(PAUSE_S)
        return updated

    client._metadata_update = paced
