"""Loops over columns, one record or bike after the other, that numba compiles: what array operations would say in thirty passes
over memory is said in one, and as one would say it of one record.

Such a loop takes arrays and numbers, fills arrays that its caller made, and uses nothing but what stands *in its own file*: the
compiled code is kept for the next process with the constants as they were, and only a change of the file itself makes it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

inlined = njit(inline="always")
"""A small function that becomes part of each loop that calls it."""


def compiled(function: Function) -> Function:
    """The function, compiled when it is first called. It lets go of Python's lock while it runs."""
    try:
        return njit(function, nogil=True, cache=True)  # type: ignore[no-any-return]
    except RuntimeError:  # neither the place of the source nor the user's cache can be written to
        return njit(function, nogil=True)  # type: ignore[no-any-return]
