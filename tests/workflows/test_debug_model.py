"""nasx.debug: what `nasx debug` says of a run's network, for any model and data."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasx
from nasx.data.batches import normalize
from nasx.data.dataset import LabeledImages, SearchData
from nasx.diagnostics.debug import debug as debug_network
from nasx.errors import DataError, SettingError

N_CLASSES = 3
NAMES = ("top", "middle", "bottom")


def striped(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise in which a bright row tells the class."""
    labels = torch.arange(n) % N_CLASSES
    images = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    images[torch.arange(n), 0, 2 * labels] += 1.5
    return images, labels


def trained(images: Tensor, labels: Tensor) -> nn.Module:
    """A loop as anyone writes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 64, N_CLASSES)
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(15):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def found():
    torch.set_num_threads(1)
    images, labels = striped(180, seed=0)
    wrong = labels.clone()
    wrong[17] = (wrong[17] + 1) % N_CLASSES
    model = trained(images, labels)
    return nasx.debug(model, (images, wrong), striped(90, seed=1), class_names=NAMES, retrain=trained), model


def test_a_wrong_label_is_the_first_suspect(found):
    assert found[0].suspects[0] == 17


def test_planted_labels_are_found_by_retraining(found):
    planted = found[0].planted
    assert planted.share == pytest.approx(0.2)
    assert planted.by_distance.auroc > 0.9


def test_the_model_is_left_as_it_was(found):
    model = found[1]
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_findings_are_told_in_words_and_written(found, tmp_path):
    told = repr(found[0])
    for heading in ("Sequential: debugging", "Can its confidence be trusted?", "Which labels look wrong?"):
        assert heading in told
    assert "Does it find planted label errors?" in told
    assert max(map(len, told.splitlines())) <= 80

    files = found[0].write(tmp_path / "out")

    assert {"debug.html", "suspects.csv", "reliability.png"} <= {file.name for file in files}
    rows = list(csv.DictReader((tmp_path / "out" / "suspects.csv").read_text().splitlines()))
    assert rows[0]["image"] == "17"
    assert rows[0]["predicted"] == NAMES[17 % N_CLASSES]


def test_it_says_what_the_command_says_of_the_same_network():
    """Pixels of whole numbers, normalised: once as a run has them, once as the user's own tensors."""
    rng = np.random.default_rng(0)
    parts = [
        LabeledImages(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), np.arange(n) % N_CLASSES, NAMES)
        for n in (60, 45)
    ]
    data = SearchData(*parts, np.float32([0.3]), np.float32([0.2]))
    network = trained(*striped(30, seed=0)).eval()
    expected = debug_network(network, data, distances={}, seed=0)

    train, validation = (
        (normalize(torch.from_numpy(part.images), data.mean, data.std), torch.from_numpy(part.labels)) for part in parts
    )
    own = nasx.debug(network, train, validation, seed=0).debugging

    trained_on = slice(0, len(parts[0]))  # the command ranks the validation images, too
    np.testing.assert_allclose(own.suspects.distance, expected.suspects.distance[trained_on], atol=1e-6)
    np.testing.assert_allclose(own.suspects.probabilities, expected.suspects.probabilities[trained_on], atol=1e-6)
    np.testing.assert_array_equal(own.confusion, expected.confusion)
    for ours, theirs in zip(own.confidences, expected.confidences, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-5)


def test_what_does_not_fit_is_told():
    images, labels = striped(12, seed=0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, N_CLASSES))
    with pytest.raises(DataError, match=r"images must be \(n, channels, height, width\), got \(12, 64\)"):
        nasx.debug(model, (images.flatten(1), labels), (images.flatten(1), labels))
    with pytest.raises(DataError, match="labels must be from 0 to 2 for 3 logits, got 0 to 5"):
        nasx.debug(model, (images, labels), (images, labels + 3 * (labels == 2)))
    with pytest.raises(SettingError, match="share must be more than 0 and less than 1, got 1"):
        nasx.debug(model, (images, labels), (images, labels), share=1.0)
