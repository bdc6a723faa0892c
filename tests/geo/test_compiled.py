"""Compiled loops run wherever the program does."""

from __future__ import annotations

from typing import Any

from geo.compiled import compiled


def test_what_can_be_kept_nowhere_is_compiled_all_the_same() -> None:
    """Of a source that is no file there is no place beside it, as in an archive that cannot be written to."""
    there: dict[str, Any] = {}
    exec("def twice(number):\n    return 2 * number", there)
    loop: Any = compiled(there["twice"])
    assert loop(21) == 42
    assert len(loop.signatures) == 1
