"""One rule of the core, broken."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """file: relative to the project. old: stands there exactly once. breaks: in words, which are its name."""

    file: str
    old: str
    new: str
    breaks: str
