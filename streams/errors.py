"""The one family of errors. Each message says the rule, the offending value, and the remedy."""

from __future__ import annotations


class UrbanBrainError(Exception):
    """Anything that this software refuses, with a message for a person."""


class ConfigurationError(UrbanBrainError):
    """Settings that can not be used. `problems` holds all of them, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class WireError(UrbanBrainError):
    """Bytes on one of our own topics that we did not write, or can not read any more."""


class NewerFormat(WireError):
    """Written by a newer version of this software: going on would lose it, so the worker stops until it is upgraded."""


class SnapshotError(UrbanBrainError):
    """A state that can not be loaded or saved."""


class OutputError(UrbanBrainError):
    """A record that could not be written: nothing more may be sent, the worker ends."""
