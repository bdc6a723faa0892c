"""What all tests share: the Kafka fixtures, the property tests' effort, and what CI refuses."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.kafka_fixtures"]

# Speed of a shared machine is no property of the code: no deadlines. `ci` tries the same examples each time, so that a
# change is judged by itself; `deep` looks for new ones: URBAN_BRAIN_HYPOTHESIS=deep make test PYTEST=tests/laws
_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, max_examples=40, database=None, **_COMMON)
settings.register_profile("deep", max_examples=3000, **_COMMON)
settings.load_profile(os.environ.get("URBAN_BRAIN_HYPOTHESIS", "ci"))


_LONG = (
    "tests/system/test_ledger.py",
    "tests/laws/test_laws.py",
    "tests/system/test_real_crawl.py",
    "tests/system/test_brokers.py",
    "tests/simulation/test_simulation.py",
    "tests/system/test_real_policies.py",
    "tests/system/test_bridge.py",
    "tests/laws/test_isolation.py",
    "tests/agents/test_demo.py",
    "tests/system/",
    "tests/transport/",
    "tests/schemas/",
    "tests/streams/test_producing.py",
)
"""What takes longest comes first (`pytest -n 3 --dist loadfile --no-loadscope-reorder`): else one process ends alone with it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((i for i, part in enumerate(_LONG) if item.nodeid.startswith(part)), len(_LONG)))


@pytest.fixture(autouse=True, scope="module")
def _leaks_are_blamed_on_their_module() -> Iterator[None]:
    """An event loop or a socket left open warns when it is collected: here, and not in some later, innocent test."""
    yield
    gc.collect()


def _skipped(config: pytest.Config) -> list[pytest.TestReport]:
    """Tests that this machine could not run; real feeds are not shipped with the project and may be missing anywhere."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [] if reporter is None else reporter.stats.get("skipped", [])
    return [report for report in reports if "realdata" not in report.keywords]


def _skips_are_forbidden() -> bool:
    return os.environ.get("URBAN_BRAIN_FORBID_SKIPS") == "1"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skips_are_forbidden() and session.exitstatus == pytest.ExitCode.OK and _skipped(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _skips_are_forbidden() and (reports := _skipped(config)):
        terminalreporter.write_line(f"URBAN_BRAIN_FORBID_SKIPS=1, but {len(reports)} tests were skipped", red=True)
