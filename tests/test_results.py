"""A run in Python: frames, networks, predictions, and what a notebook shows."""

from __future__ import annotations

import base64
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import nasx
from nasx.data.synthetic import Lines
from nasx.errors import DataError, ResourceError
from nasx.results import as_pixels
from nasx.runs.journal import Journal
from tests.factories.journals import INFO
from tests.factories.trials import make_noisy_run


@pytest.fixture(scope="module")
def run(searched):
    return nasx.load_run(searched)


def test_every_trial_is_a_row_with_its_metrics_and_its_descent(run):
    frame = run.trials()

    assert len(frame) == 5
    assert {"arch_id", "operator", "parents", "status", "error", "introspectability", "parameters"} <= {*frame.columns}
    assert set(frame[frame.front].arch_id) == {network.arch_id for network in run.front()}
    assert frame.number.is_unique


def test_the_learning_curves_are_a_frame(run):
    curves = run.history()

    assert (curves.groupby("arch_id").epoch.max() == 2).all()
    assert {"train_loss", "validation_error"} <= {*curves.columns}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A run of made-up trials, some of whose networks were trained again; it has a journal only."""
    run_dir = tmp_path_factory.mktemp("runs") / "noisy"
    run_dir.mkdir()
    with Journal.create(run_dir, INFO) as store:
        for trial in make_noisy_run():
            store.record_candidate(trial.candidate, trial.arch_id, answered=False)
            store.record_trial(trial)
    return nasx.load_run(run_dir)


def test_the_front_has_estimates_observed_means_uncertainty_and_trainings(noisy):
    assert len(noisy.front()) > 1
    for network, member in zip(noisy.front(), noisy.summary.front, strict=True):
        assert network.metrics["error"] == member.metrics["error"]
        assert network.observed["error"] == member.observed["error"]
        assert network.std["error"] == member.std["error"] > 0
        assert (network.trainings, network.front_probability) == (member.trainings, member.front_probability)


def test_a_network_is_printed_in_one_line_with_its_estimates(noisy):
    best = noisy.front()[0]
    error, std = (100 * values["error"] for values in (best.metrics, best.std))

    assert repr(best).startswith(f"<nasx network {best.arch_id}: validation error {error:.2f} ± {std:.2f} %, intro")
    assert repr(best).endswith(f"{best.trainings} trainings>")


def test_the_noise_is_known_from_the_networks_trained_again(noisy, run):
    assert noisy.noise["error"].std == pytest.approx(0.01, rel=0.5)
    assert noisy.noise["error"].repeated == 4
    assert run.noise == {}


def test_a_notebook_shows_estimates_with_their_uncertainty_and_what_is_certain(noisy):
    page = noisy._repr_html_()
    best = noisy.front()[0]

    assert f"<td>{100 * best.metrics['error']:.2f} ± {100 * best.std['error']:.2f} %</td>" in page
    assert f"<td>{best.trainings}</td><td>{100 * best.front_probability:.0f} %</td>" in page
    assert "of it is certain" in page
    assert "noise of one training" in page


def test_a_training_of_a_known_network_is_a_row_of_its_own(noisy):
    frame = noisy.trials()

    assert len(frame) == 27
    assert sorted(frame.replicate)[-4:] == [1, 2, 2, 3]
    assert set(frame[frame.replicate > 0].operator) == {"retraining"}


def test_a_network_of_the_front_is_rebuilt_with_its_weights(run, searched):
    from nasx.experiment import Experiment

    best = run.front()[0]
    data = Experiment.of_run(searched).data
    pixels = (torch.from_numpy(data.validation.images) / 255 - data.mean.item()) / data.std.item()

    with torch.no_grad():
        wrong = best.network()(pixels).argmax(1).numpy() != data.validation.labels

    assert wrong.mean() == pytest.approx(best.metrics["error"])


def test_predictions_are_classes_probabilities_and_confidence(run, tmp_path):
    images = Lines().test().images[:3]
    Image.fromarray(images[0, 0]).save(tmp_path / "a.png")
    best = run.front()[0]

    said = best.predict(images)

    assert said.probabilities.shape == (3, 4)
    assert said.probabilities.sum(axis=1) == pytest.approx(1)
    assert said.confidence.shape == (3,)
    assert set(said.classes) <= set(run.info.class_names)
    assert best.predict(images[:, 0]).classes == said.classes
    assert best.predict([tmp_path / "a.png"]).classes == said.classes[:1]


def test_a_network_is_found_by_the_beginning_of_its_id(run):
    best = run.front()[0]

    assert run[best.arch_id[:6]].arch_id == best.arch_id


@pytest.mark.parametrize(
    "images", [np.zeros((2, 1, 12, 12)), np.zeros((2, 3, 12, 12), np.uint8), np.zeros((0, 1, 12, 12), np.uint8)]
)
def test_images_of_another_form_are_refused(images):
    with pytest.raises(DataError, match=r"expected at least one uint8 image of shape \(n, 1, 12, 12\), got"):
        as_pixels(images, (1, 12, 12))


def test_a_notebook_shows_the_front_as_a_picture_and_a_table(run):
    page = run._repr_html_()

    png = re.search(r'base64,([^"]+)"', page)[1]
    assert base64.b64decode(png).startswith(b"\x89PNG")
    assert all(network.arch_id in page for network in run.front())
    assert "5 complete" in page
    assert "front of" in repr(run)


def test_without_pandas_the_command_that_installs_it_is_told(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(ResourceError, match=r"frames need the package pandas: pip install pandas"):
        run.trials()


def test_every_record_is_printed_in_one_short_line(run):
    from nasx.experiment import Experiment

    experiment, best = Experiment.of_run(run.path), run.front()[0]
    data = experiment.data
    records = [run, best, best.trial, best.trial.evaluation, best.trial.evaluation.scores[0], best._source]
    records += [best.predict(data.validation.images[:9]), data, data.train, run.info, run.summary, run.options]
    components = [experiment.space, experiment.scorer, experiment.dataset, experiment.execution, experiment.recipe]

    for each in (*records, *components, experiment, experiment.algorithm(1)):
        assert "\n" not in repr(each), type(each)
        assert len(repr(each)) < 300, type(each)
