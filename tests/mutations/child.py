"""Looks for worlds in a tree that may be broken: a process of its own for each, forked from one that has what they all import."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

LIBRARIES = ("numba", "numpy", "orjson", "pydantic", "shapely", "h3.api.basic_int", "ortools.graph.python.min_cost_flow")
"""What takes long to import and is in no tree."""

AGREED = "agreed"


def look(tree: str, seeds: Sequence[int]) -> int | str:
    """AGREED, or the first of the seeds at which core and oracle of the tree disagree; anything else that is said is no answer."""
    os.chdir(tree)
    for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "geo", "streams", "agents")]:
        del sys.modules[name]
    sys.path.insert(0, tree)
    try:
        import geo.city
        from tests.laws.check import disagreement
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    assert Path(geo.city.__file__).is_relative_to(tree), "the core that is not broken would be looked at"
    for seed in seeds:
        try:
            if disagreement(seed) is not None:
                return seed
        except Exception:  # the core or the harness gave up: as bad as a wrong answer
            return seed
    return AGREED
