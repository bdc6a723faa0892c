"""The layers hold, and the contracts that say so can fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("agents", "geo", "streams")


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([command, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False)


def test_no_module_reaches_into_a_layer_above_it() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("geo/params.py", "import streams", "agents may import streams, streams may import geo"),
        ("streams/frames.py", "import agents", "agents may import streams, streams may import geo"),
        ("geo/params.py", "import time", "geo is pure"),
        ("geo/frame.py", "import pathlib", "geo is pure"),
        ("geo/frame.py", "import aiokafka", "geo is pure"),
    ],
)
def test_an_import_against_the_rules_is_refused(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    broken = [row for row in result.stdout.splitlines() if row.endswith("BROKEN")]
    assert result.returncode == 1, result.stdout + result.stderr
    assert [contract in row for row in broken] == [True]
