"""The README's own code works as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from nasx.config.components import build
from nasx.config.compose import compose
from nasx.config.schema import read_config
from nasx.spaces.nb201 import NASBench201

README = Path(__file__).parents[1] / "README.md"


def block(language: str, first_line: str) -> str:
    """The fenced block of that language that begins with that line."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return next(text for text in blocks if text.startswith(first_line))


@pytest.fixture
def user_directory(tmp_path, monkeypatch):
    """What a user has after typing in the README's scorer and its config."""
    (tmp_path / "my_scorers.py").write_text(block("python", "# my_scorers.py"))
    choice = tmp_path / "configs/scorer/head_centroids.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text(block("yaml", "# configs/scorer/head_centroids.yaml"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("my_scorers", None)


def test_the_scorer_of_the_readme_scores_a_network(user_directory):
    experiment = read_config(compose("digits", ["scorer=head_centroids"]))
    scorer = build(experiment.scorer, "scorer")
    network = NASBench201(channels=4, cells=1).build((1,) * 6, input_shape=(1, 8, 8), n_classes=3).eval()
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    score = scorer.score(network, images, torch.arange(12) % 3, n_classes=3, seed=0)

    assert score.distances.shape == (3, 3)
    assert 0 < score.value < 2


def test_the_scorer_of_the_readme_takes_at_most_twenty_lines():
    code = [line for line in block("python", "# my_scorers.py").splitlines() if line.strip()]

    assert len(code) <= 21  # with the line that names the file


def test_the_config_of_the_readme_is_the_one_we_ship():
    shown = [line.partition("#")[0].rstrip() for line in block("yaml", "# configs/digits.yaml").splitlines()[1:]]
    shipped = (README.parent / "configs/digits.yaml").read_text()

    assert all(line in shipped for line in shown)
