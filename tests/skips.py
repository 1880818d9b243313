"""List of the tests that may be skipped, and what the other ones need.

CI sets NASX_NO_UNLISTED_SKIPS: a skip whose reason is not in `ALLOWED` then fails the session. Elsewhere the last line
of a session names the groups that were skipped. A plugin of tests/conftest.py; with pytest-xdist it counts in the
controller, which receives the reports of all workers.
"""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

STRICT = "NASX_NO_UNLISTED_SKIPS"

# allowed reasons: the machine lacks something that CI cannot install, or the test does not apply to the case
ALLOWED = (
    r"needs a GPU|has a GPU|needs a machine without a GPU",
    r"nothing is forbidden to root|mounting a small disk needs root",
    r"needs root, to (become another user|mount|limit itself)",
    r"NASX_DATA names no folder with real data",  # if the published files are not available
    r"timm does not load",  # torchvision, which it needs, does not fit every build of torch
    # contract of spaces
    r"no (cells[;:]|stem:)|does not count parameters without building|every genotype is connected",
)

# reasons of groups of tests -> the group
GROUPS = {
    r"browser tests need": "browser",
    r"extra bench|'(optuna|psutil|packaging)'|pip install cleanlab": "benchmarks",
    r"'datasets'": "Hugging Face",
    r"'pydicom'": "DICOM",
    r"MLflow|'mlflow'": "MLflow",
    r"wandb": "Weights & Biases",
    r"WordNet": "WordNet",
    r"shellcheck": "shellcheck",
    r"NASX_DATA": "real images (NASX_DATA)",
    r"timm does not load": "timm",
    r"needs a GPU": "GPU",
}
HOW = "apt-get install chromium wordnet-base; source scripts/environment.sh && use_environment dev ci"


def first_match(reason: str, patterns: tuple[str, ...] | dict[str, str]) -> str | None:
    """The first of the patterns that is found in a reason."""
    return next((pattern for pattern in patterns if re.search(pattern, reason)), None)


class Skips:
    """Collects the reasons of all skips of a session."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.reasons[reason.removeprefix("Skipped: ")] += 1

    @property
    def unlisted(self) -> list[str]:
        return sorted(reason for reason in self.reasons if first_match(reason, ALLOWED) is None)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if os.environ.get(STRICT) and self.unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if os.environ.get(STRICT):
            for reason in self.unlisted:
                terminalreporter.write_line(f"Skipped, and not allowed by tests/skips.py: {reason}", red=True)
            return
        groups = {GROUPS[p] for reason in self.reasons if (p := first_match(reason, GROUPS)) is not None}
        if groups:
            terminalreporter.write_line(
                f"Groups of tests that were skipped: {', '.join(sorted(groups))}. To run: {HOW}"
            )
