"""Incidents at a terminal: what a rule that merges says of itself, and how many more cells an alert has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from agents.commands.alert_text import line
from tests.agents.conftest import Run


def check(run: Run, config: Path, tmp_path: Path, **words: Any) -> tuple[int, str, str]:
    rule = {"rule_id": "few", "name": "Few", "rule_type": "count", "maximum": 2, "urban_brain": {"merge": True, **words}}
    path = tmp_path / "policies.json"
    path.write_bytes(orjson.dumps({"policies": [{"policy_id": "square", "name": "Square", "rules": [rule]}]}))
    return run("policy", "check", path, "--config", config)


def test_a_rule_that_merges_says_so(run: Run, config: Path, tmp_path: Path) -> None:
    code, out, _ = check(run, config, tmp_path, area="cell")
    assert code == 0
    assert "Few: at most 2 (cell of resolution 9, whole city), cells that touch as one alert" in out


def test_a_rule_that_can_not_merge_is_refused_with_the_remedy(run: Run, config: Path, tmp_path: Path) -> None:
    code, _, err = check(run, config, tmp_path, area="zone")
    assert code == 2
    assert "must not merge areas that are no cells, got area zone" in err and 'Set area to "cell"' in err


def test_an_alert_on_several_cells_says_how_many_more_there_are() -> None:
    cells = ["89283082803ffff", "89283082807ffff", "8928308280fffff"]
    area: dict[str, Any] = {"h3": cells[0], "type": "cells", "cells": cells}
    assert f"{cells[0]} +2 " in line({"area": area, "state": "raised"}).plain + " "
    assert " +" not in line({"area": area | {"cells": cells[:1]}, "state": "raised"}).plain
