"""Kafka through Faust, a record batch at a time: the only place that knows Faust's and aiokafka's insides.

Versions of both are pinned; `tests/transport` has a test for each inside that is touched here.
"""

from faust.types import TP

from streams.transport.app import (
    App,
    RunSchema,
    build_app,
    commit,
    committed,
    fail,
    give_back_freed_memory,
    keep_passwords_out_of_the_log,
    log_bounds,
    log_end,
    pause,
    resume,
    run_worker,
    topic_ids,
)
from streams.transport.closing import close_consumer, close_producer
from streams.transport.consumer import Owner
from streams.transport.errors import Fenced, NotHeld, OffsetOutOfLog, TransportError
from streams.transport.metadata import pace_metadata
from streams.transport.runs import CREATE_TIME, LOG_APPEND_TIME, Run

__all__ = [
    "CREATE_TIME",
    "LOG_APPEND_TIME",
    "TP",
    "App",
    "Fenced",
    "NotHeld",
    "OffsetOutOfLog",
    "Owner",
    "Run",
    "RunSchema",
    "TransportError",
    "build_app",
    "close_consumer",
    "close_producer",
    "commit",
    "committed",
    "fail",
    "give_back_freed_memory",
    "keep_passwords_out_of_the_log",
    "log_bounds",
    "log_end",
    "pace_metadata",
    "pause",
    "resume",
    "run_worker",
    "topic_ids",
]
