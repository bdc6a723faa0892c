"""What fields of payloads are made of: types with what they mean, as the schemas tell it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

TIME_PATTERN = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"
UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def time(description: str) -> Meta:
    """A time as we write them."""
    return Meta(description=description, pattern=TIME_PATTERN, extra_json_schema={"format": "date-time"})


def word(description: str, *words: str) -> Meta:
    """An open word: those of today are examples."""
    return Meta(description=description, examples=list(words))


def text(description: str) -> Meta:
    """Any text, or whatever its type says."""
    return Meta(description=description)


Number = Annotated[int, Meta(ge=0)]
Time = Annotated[str, Meta(pattern=TIME_PATTERN, extra_json_schema={"format": "date-time"})]
H3 = Annotated[str, Meta(description="H3 index as lower-case hex.", pattern="^8[0-9a-f]{14}$")]
