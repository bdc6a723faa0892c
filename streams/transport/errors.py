"""What the transport refuses, and says before the worker ends."""

from __future__ import annotations

from aiokafka.errors import ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError
from faust.types import TP

from streams.errors import UrbanBrainError

NO_RIGHT = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
"""What Kafka says to a user that may not do something. Asking again does not help."""
GRANT = "Remedy: grant the workers' user what it needs (docs/operations.md, Security)."


class TransportError(UrbanBrainError, RuntimeError):
    """Reading from Kafka can not go on; the worker ends with a status other than 0."""


class OffsetOutOfLog(TransportError):
    """A partition should be read from a place that its log does not have (any more)."""

    def __init__(self, tp: TP, offset: int, start: int, end: int) -> None:
        self.tp, self.offset, self.start, self.end = tp, offset, start, end
        if offset < start:
            what = f"{start - offset} records were deleted before they were read"
            remedy = "lengthen the topic's retention; to go on without them, reset this partition's state"
        else:
            what = "the topic was made anew, or its newest records were lost with a broker"
            remedy = "restore the topic; or reset the state, which belongs to a log that is gone"
        super().__init__(
            f"{tp.topic}[{tp.partition}] must be read from offset {offset}, but its log is [{start}, {end}): "
            f"{what}. Remedy: {remedy}."
        )


class Fenced(TransportError):
    """The group no longer knows this worker: another one runs under its instance id, or it was away for too long."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(
            f"Kafka no longer knows this worker as {instance_id!r}: another process joined under the same instance id, "
            "or this one did not answer for longer than the session timeout. Its partitions may be with others, so it "
            "stops. Remedy: give every running worker an instance id of its own, and let a supervisor start it again."
        )


class NotHeld(TransportError):
    """A commit for partitions that are being handed over, or have been. Harmless: they are read again from the commit
    before, by whoever has them."""
