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
from nasx.data.lines import Lines
from nasx.errors import ArchitectureError, DataError, ResourceError, RunError
from nasx.results import as_pixels


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


def test_a_network_of_the_front_is_rebuilt_with_its_weights(run, searched):
    from nasx.run import materials

    best = run.front()[0]
    data = materials(searched).data
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
    with pytest.raises(ArchitectureError, match="no architecture 'zz' in this run"):
        run["zz"]


def test_a_network_off_the_front_has_no_weights(run):
    front = {network.arch_id for network in run.front()}
    other = next(t.arch_id for t in run.records if t.is_complete and t.arch_id not in front)

    with pytest.raises(RunError, match=r"keeps no weights of .*only members of the front keep theirs"):
        run[other].network()


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

    with pytest.raises(ResourceError, match=r"frames need the package pandas: pip install 'nasx\[notebook\]'"):
        run.trials()


def test_a_directory_without_a_run_is_told(tmp_path):
    with pytest.raises(RunError, match="is not a run directory"):
        nasx.load_run(tmp_path)
