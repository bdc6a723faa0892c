"""What happens on a machine that lacks something: what it is told, and that CI does not pass over it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import ROOT

PRESENT = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
OLD = "#!/bin/sh\nexit 1\n"  # whatever it is asked: its version is not enough
SHIM = '#!/bin/sh\necho "python3.12: command not found" >&2\nexit 127\n'
WITHOUT_PIP = f"""#!/bin/sh
case "$2" in *ensurepip*) exit 1 ;; esac
exec "{sys.executable}" "$@"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, which is all that the machine has."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    return programs


def install(programs: Path, **scripts: str) -> None:
    for name, text in scripts.items():
        path = programs / name.replace("_", ".")
        path.write_text(text)
        path.chmod(0o755)


def find_python(programs: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", ROOT / ".ci" / "find_python.sh"],
        env={"PATH": str(programs), **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_old_python_and_a_shim_that_leads_nowhere_are_passed_over(machine: Path) -> None:
    install(machine, python3=OLD, python3_13=SHIM, python3_12=PRESENT)
    assert find_python(machine).stdout == "python3.12\n"


def test_a_machine_without_a_python_is_told_what_to_install(machine: Path) -> None:
    install(machine, python3=OLD)
    found = find_python(machine)
    assert found.returncode == 1
    assert "No Python of at least 3.11" in found.stderr
    assert "apt-get install python3 python3-venv" in found.stderr


def test_a_debian_without_its_venv_package_is_told_its_name(machine: Path) -> None:
    install(machine, python3=WITHOUT_PIP)
    found = find_python(machine)
    assert found.returncode == 1
    minor = ".".join(map(str, sys.version_info[:2]))
    assert f"apt-get install python{minor}-venv" in found.stderr


def test_a_python_that_was_named_is_the_only_one_looked_at(machine: Path) -> None:
    install(machine, python3=PRESENT, mine=OLD)
    assert find_python(machine, PYTHON="mine").returncode == 1
    install(machine, mine=PRESENT)
    assert find_python(machine, PYTHON="mine").stdout == "mine\n"


SKIPPED = """
import pytest

def test_that_passes():
    pass

{marker}
def test_that_lacks_something():
    pytest.skip("no Java here")
"""


@pytest.mark.parametrize(("marker", "forbidden", "status"), [("", "1", 1), ("", "0", 0), ("@pytest.mark.realdata", "1", 0)])
def test_where_skips_are_forbidden_a_skipped_test_fails_the_run(
    tmp_path: Path, marker: str, forbidden: str, status: int
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(SKIPPED.format(marker=marker))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = realdata: real\n")
    environment = os.environ | {"URBAN_BRAIN_FORBID_SKIPS": forbidden, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert ("but 1 tests were skipped" in done.stdout) == (status == 1)


def test_ci_stops_at_the_first_failure_and_wants_everything() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert "URBAN_BRAIN_REQUIRE_KAFKA=1" in script
    assert "URBAN_BRAIN_FORBID_SKIPS=1" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
