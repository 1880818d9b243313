import sys
from pathlib import Path
from typing import Any

import pytest

from nasx.config.components import build, dataset_name
from nasx.errors import ConfigError

SCORER = """
from __future__ import annotations
from nasx.errors import SettingError

NUMBER = 3

class PixelScorer:
    def __init__(self, *, samples: int = 10) -> None:
        if samples < 1:
            raise SettingError("samples", f"must be at least 1, got {samples}")
        self.samples = samples

    def score(self, network, images, labels, *, n_classes, seed): ...
"""


@pytest.fixture
def users_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a directory with users' modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "users_scorers.py").write_text(SCORER)
    (tmp_path / "users_needs_more.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "users_wrong_name.py").write_text("from os import no_such_name\n")
    (tmp_path / "users_typo.py").write_text("def f(:\n")
    (tmp_path / "users_bug.py").write_text("1 / 0\n")
    return tmp_path


def test_a_class_in_the_users_own_directory_is_built(users_directory: Path) -> None:
    scorer = build({"_target_": "users_scorers.PixelScorer", "samples": 5}, "scorer")

    assert scorer.samples == 5


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, r"^scorer\._target_ is missing: name a class"),
        ({"_target_": 3}, r"^scorer\._target_ must name a class as package\.module\.Class, got 3\.$"),
        ({"_target_": "PixelScorer"}, r"must name a class as package\.module\.Class, got 'PixelScorer'\.$"),
        ({"_target_": ".a"}, r"must name a class as package\.module\.Class, got '\.a'\.$"),
        ({"_target_": "a..b"}, r"must name a class as package\.module\.Class, got 'a\.\.b'\.$"),
        ({"_target_": "no_module_here.A"}, r"^scorer\._target_: there is no module 'no_module_here'\. Install its"),
        ({"_target_": "nasx.no_module.A"}, r"^scorer\._target_: there is no module 'nasx\.no_module'\."),
        ({"_target_": "users_scorers.sub.A"}, r"there is no module 'users_scorers\.sub'\."),
        ({"_target_": "users_needs_more.A"}, r"importing users_needs_more failed: No module named 'a_package_that_nob"),
        ({"_target_": "users_wrong_name.A"}, r"importing users_wrong_name failed: cannot import name 'no_such_name'"),
        ({"_target_": "users_typo.A"}, r"importing users_typo failed: .*users_typo\.py, line 1\)\.$"),
        ({"_target_": "users_scorers.PixelScore"}, r"has no PixelScore\. Did you mean PixelScorer\?$"),
        ({"_target_": "users_scorers.NUMBER"}, r"users_scorers\.NUMBER is not a class\.$"),
        (
            {"_target_": "users_scorers.PixelScorer", "sample": 1},
            r"^unknown key scorer\.sample\. Did you mean scorer\.s",
        ),
        (
            {"_target_": "users_scorers.PixelScorer", "samples": "all"},
            r"^scorer\.samples must be an integer, got 'all'",
        ),
        ({"_target_": "users_scorers.PixelScorer", "samples": 0}, r"^scorer\.samples must be at least 1, got 0\.$"),
        ({"_target_": "users_scorers.PixelScorer", "_partial_": True}, r"^unknown key scorer\._partial_\."),
    ],
)
def test_a_component_that_cannot_be_built_is_reported_in_one_line(
    users_directory: Path, node: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(node, "scorer")
    assert "\n" not in str(caught.value)


def test_a_bug_in_a_users_module_keeps_its_traceback(users_directory: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        build({"_target_": "users_bug.A"}, "scorer")


NAMES = """
class Unnamed:
    def __init__(self, title: str) -> None:
        self.name = title

    def train(self): ...

    def test(self): ...
"""


def test_the_name_of_a_dataset_is_that_of_its_class(users_directory: Path) -> None:
    (users_directory / "names.py").write_text(NAMES)

    imagenet = {"_target_": "nasx.data.cifar.ImageNet16", "root": "gone"}
    assert dataset_name({"dataset": imagenet}) == "imagenet16_120"
    assert dataset_name({"dataset": {"_target_": "names.Unnamed", "title": "own"}}) == "own"
    assert dataset_name({"evaluation": {"_target_": "nasx.evaluation.tabular.TabularEvaluation"}}) == ""
