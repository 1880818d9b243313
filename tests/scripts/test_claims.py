"""Claims script from end to end on a few digits, and its verdicts on synthetic measurements."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rich.console import Console

from scripts import trained_networks
from scripts.benefits import between_share
from scripts.claims import CLAIMS, Claim, Finding, find, main
from scripts.measures import Interval
from scripts.trained_networks import Study, draw_architectures, train


def made_up(n: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """Return measurements of architectures: introspectability correlates with error, and with one benefit beyond it."""
    rng = np.random.default_rng(seed)
    error = rng.uniform(0.1, 0.4, n)
    inside = -error + 0.05 * rng.normal(size=n)
    return {
        "error": error,
        "parameters": rng.uniform(1e4, 1e5, n),
        "introspectability shap": inside,
        "through error": -error + 0.05 * rng.normal(size=n),
        "of its own": inside + error + 0.001 * rng.normal(size=n),
        "plain": np.zeros(n),
    }


def test_an_effect_that_is_due_to_the_error_is_distinguished():
    columns = made_up()

    by_error = find(Claim("", "through error"), "shap", columns)
    own = find(Claim("", "of its own", alternative="plain"), "shap", columns)

    assert by_error.verdict == "held, but not at equal error and size"
    assert own.verdict == "**held**"
    assert by_error.gain is None
    assert own.gain.estimate == pytest.approx(columns["of its own"].mean())


def test_networks_that_were_not_measured_are_left_out():
    columns = made_up()
    columns["of its own"][:35] = np.nan

    found = find(Claim("", "of its own"), "shap", columns)

    assert found.n == 5
    assert found.verdict == "too few networks"


@pytest.mark.parametrize(
    ("at_equal", "verdict"), [((-0.5, -0.9, -0.1), "the opposite"), ((0.1, -0.3, 0.4), "did not hold")]
)
def test_verdicts_follow_from_the_interval(at_equal, verdict):
    found = Finding("", "shap", 0.5, None, Interval(0.0, -0.2, 0.2), Interval(*at_equal), n=20)

    assert found.verdict == verdict


def test_the_share_between_classes_is_one_for_points_and_zero_for_equal_means():
    labels = np.array([0, 0, 1, 1])

    assert between_share(np.array([[1.0], [1], [4], [4]]), labels) == 1
    assert between_share(np.array([[1.0], [3], [3], [1]]), labels) == 0


def test_the_quick_check_measures_every_claim_for_both_scores(tmp_path, capsys):
    main(quick=True, cache_dir=tmp_path / "studies", json_path=tmp_path / "claims.json", plot=tmp_path / "claims.png")

    findings = json.loads((tmp_path / "claims.json").read_text())["findings"]
    assert [(f["claim"], f["score"]) for f in findings] == [
        (c.text, s) for c in CLAIMS for s in ("shap", "activations")
    ]
    assert all(np.isfinite(f["benefit"]) for f in findings if "repair" not in f["claim"])
    assert capsys.readouterr().out.count("too few networks") == len(findings)
    assert (tmp_path / "claims.png").stat().st_size > 10_000


def test_a_study_trains_only_what_it_lacks(tmp_path, monkeypatch):
    small = ["training.epochs=1", "dataset.train_images=200", "space.channels=2"]
    study = Study.open(tmp_path, "lines", small)
    genotypes = draw_architectures(study.experiment.space, 1, seed=0)
    quiet = Console(quiet=True)
    train(study, genotypes, 1, jobs=1, console=quiet)
    monkeypatch.setattr(trained_networks, "fit", None)  # training again raises an error

    again = Study.open(tmp_path, "lines", small)
    train(again, genotypes, 1, jobs=1, console=quiet)

    assert again == study
    assert len(list(tmp_path.glob("*/archs/*/weights_0.safetensors"))) == 1


def test_another_recipe_is_another_study(tmp_path):
    folders = {Study.open(tmp_path, "lines", [f"training.epochs={n}"]).folder for n in (1, 2)}

    assert len(folders) == 2
