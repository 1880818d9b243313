"""Calibrated confidence of an exported network: the fit, and the module that computes it."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.diagnostics import confidence
from nasx.diagnostics.calibration import expected_calibration_error
from nasx.diagnostics.confidence import (
    Confidence,
    WithConfidence,
    fit_confidence,
    fit_odds,
    fit_temperature,
    log_odds,
)
from nasx.errors import ArchitectureError, DataError
from nasx.training.fit import fit
from nasx.training.recipe import Recipe
from tests.factories.staged_networks import N_CLASSES, make_data, make_network, pixels_of

PLAIN = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


def noisy(images, seed, share=0.25):
    """Replace a share of the labels by random ones: errors that no network can avoid or predict."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(len(images)) < share, rng.integers(0, N_CLASSES, len(images)), images.labels)
    return LabeledImages(images.images, labels, images.class_names)


@pytest.fixture(scope="module")
def overconfident():
    """Return a network that has overfitted noisy labels, images to fit the confidence, and others to test it."""
    data = make_data(n_train=120, n_validation=900)
    data = type(data)(noisy(data.train, 1), noisy(data.validation, 2), data.mean, data.std)
    network = make_network()
    recipe = Recipe(epochs=30, batch_size=16, learning_rate=0.05, precision="float32", weight_decay=0.0, keep="last")
    fit(network, data, recipe, augmentation=PLAIN, seed=0, device=torch.device("cpu"))
    pixels, labels = pixels_of(data.validation, data), torch.from_numpy(data.validation.labels)
    return network, (pixels[:450], labels[:450]), (pixels[450:], labels[450:])


@pytest.fixture(scope="module")
def fitted(overconfident):
    network, (images, labels), _ = overconfident
    return fit_confidence(network, images, labels, n_classes=N_CLASSES)


def test_confidence_equals_the_share_of_correct_predictions_on_new_images(overconfident, fitted):
    network, _, (images, labels) = overconfident
    with torch.no_grad():
        raw = network(images).softmax(dim=1)
        probabilities, confidence = WithConfidence(network, fitted)(images)
    is_correct = (raw.argmax(dim=1) == labels).numpy()

    before, scaled, after = (
        expected_calibration_error(c.numpy(), is_correct)
        for c in (raw.amax(dim=1), probabilities.amax(dim=1), confidence)
    )
    assert before > 0.2
    assert scaled < before / 2
    assert after < before / 3
    assert confidence.mean().item() == pytest.approx(is_correct.mean(), abs=0.05)


def test_predictions_are_those_of_the_network(overconfident, fitted):
    network, _, (images, _) = overconfident
    with torch.no_grad():
        logits, (probabilities, confidence) = network(images), WithConfidence(network, fitted)(images)

    assert torch.equal(logits.argmax(dim=1), probabilities.argmax(dim=1))
    torch.testing.assert_close(probabilities, (logits / fitted.temperature).softmax(dim=1))
    assert confidence.shape == (len(images),)
    assert bool(((confidence >= 0) & (confidence <= 1)).all())


def test_the_module_computes_the_fitted_confidence(overconfident, fitted):
    network, _, (images, _) = overconfident
    with torch.no_grad():
        stem = network.stem(images[:1])
        stage1 = network.stage1(stem)
        logits = network(images[:1])[0].double().numpy()
        confidence = WithConfidence(network, fitted)(images[:1])[1].item()

    predicted = int(logits.argmax())
    p = np.exp(logits / fitted.temperature) / np.exp(logits / fitted.temperature).sum()
    odds = fitted.bias + fitted.softmax_weight * np.log(p[predicted] / (1 - p[predicted]))
    for name, output in (("stem", stem), ("stage1", stage1)):
        vector = output[0].mean(dim=(1, 2)).double().numpy()
        odds += fitted.stage_weights[name] * vector @ fitted.centroids[name][predicted] / np.linalg.norm(vector)
    assert confidence == pytest.approx(expit(odds), abs=1e-5)


def test_it_is_saved_as_json_and_traced(overconfident, fitted):
    network, _, (images, _) = overconfident
    again = Confidence.from_dict(json.loads(json.dumps(fitted.as_dict())))
    module = WithConfidence(network, again).eval()

    traced = torch.jit.trace(module, images[:2])

    with torch.no_grad():
        for got, expected in zip(traced(images[:7]), WithConfidence(network, fitted)(images[:7]), strict=True):
            torch.testing.assert_close(got, expected)


def test_the_network_is_not_changed(overconfident, fitted):
    network, (images, labels), _ = overconfident
    network.train()
    fit_confidence(network, images[:50], labels[:50], n_classes=N_CLASSES)
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    network.eval()


def test_without_an_error_confidence_is_nearly_that_of_softmax():
    columns = np.column_stack([np.linspace(4, 9, 50), np.linspace(0.5, 0.9, 50)])

    coefficients, bias = fit_odds(columns, np.ones(50, dtype=bool))

    assert expit(columns @ coefficients + bias) == pytest.approx(expit(columns[:, 0]), abs=0.02)


def test_the_odds_are_fitted_with_a_normal_prior_around_those_of_softmax():
    """At the most likely parameters, in units of the columns, the slope of the likelihood is that of the prior."""
    rng = np.random.default_rng(0)
    columns, is_right = rng.normal([1.0, 0.3], [1.0, 0.1], (40, 2)), rng.random(40) < 0.6

    coefficients, bias = fit_odds(columns, is_right)

    center, scale = columns[:, 1].mean(), columns[:, 1].std()
    design = np.column_stack([columns[:, 0], (columns[:, 1] - center) / scale, np.ones(40)])
    parameters = np.array([coefficients[0], coefficients[1] * scale, bias + coefficients[1] * center])
    slope = design.T @ (is_right - expit(design @ parameters))
    assert slope == pytest.approx((parameters - [1, 0, 0]) / 0.5**2, abs=1e-3)


def test_without_images_that_say_otherwise_the_temperature_is_one():
    assert fit_temperature(np.zeros((1, 2)), np.array([0])) == pytest.approx(1, abs=1e-3)


def test_the_temperature_of_a_network_without_errors_is_held_by_a_prior_around_one():
    logits, labels = np.tile([4.0, 0.0], (10, 1)), np.zeros(10, dtype=int)

    # x = log temperature is where 4 x, of the prior with deviation 0.5, equals -10 times the slope of the loss
    def slope(x):
        return 4 * x + 10 * 4 * np.exp(-x) * expit(-4 * np.exp(-x))

    assert fit_temperature(logits, labels) == pytest.approx(np.exp(brentq(slope, -3, 0)), rel=1e-3)


def test_cosines_are_used_if_softmax_is_uninformative():
    rng = np.random.default_rng(0)
    cosines = rng.uniform(0, 1, 4000)
    is_correct = rng.random(4000) < expit(8 * (cosines - 0.5))
    columns = np.column_stack([rng.normal(0, 1, 4000), cosines])

    coefficients, bias = fit_odds(columns, is_correct)

    assert coefficients == pytest.approx([0, 8], abs=0.6)
    assert bias == pytest.approx(-4, abs=0.3)


@pytest.mark.parametrize(("true_temperature", "n"), [(3.0, 4000), (0.5, 4000)])
def test_the_temperature_that_made_the_labels_is_found(true_temperature, n):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (n, 4))
    noise = rng.gumbel(size=(n, 4))  # Gumbel-max: a draw from softmax
    labels = (logits / true_temperature + noise).argmax(axis=1)

    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.1)


def test_log_odds_are_those_of_softmax():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = logits.softmax(dim=1).amax(dim=1)

    torch.testing.assert_close(log_odds(logits), torch.log(p / (1 - p)))
    assert log_odds(torch.tensor([[100.0, 0.0]])).item() == pytest.approx(100.0)  # p rounds to 1


def test_a_class_without_images_has_a_zero_centroid_and_confidence_is_finite():
    data, network = make_data(), make_network()
    pixels, labels = pixels_of(data.validation, data), torch.from_numpy(data.validation.labels)
    seen = labels < 2

    fitted = fit_confidence(network, pixels[seen], labels[seen], n_classes=N_CLASSES)

    assert not fitted.centroids["stem"][2].any()
    with torch.no_grad():
        assert bool(WithConfidence(network, fitted)(pixels)[1].isfinite().all())


def test_an_image_is_not_compared_with_itself(monkeypatch):
    data, network = make_data(), make_network()
    pixels = pixels_of(data.validation, data)
    with torch.no_grad():
        answers = network.eval()(pixels).argmax(dim=1)
    alone = [int((answers == answer).nonzero()[0]) for answer in answers.unique()]  # one image a class, each correct
    fitted_to = []
    monkeypatch.setattr(
        confidence, "fit_odds", lambda columns, right: fitted_to.append(columns) or fit_odds(columns, right)
    )

    fit_confidence(network, pixels[alone], answers[alone], n_classes=N_CLASSES)

    assert not fitted_to[0][:, 1:].any()  # no other image of its class: nothing to be close to


def test_a_confidence_needs_two_stages_and_images():
    with pytest.raises(
        ArchitectureError,
        match=r"^a confidence needs a torch\.nn\.Sequential of at least two stages, ",
    ):
        fit_confidence(nn.Sequential(nn.Flatten()), torch.zeros(1, 1, 2, 2), torch.zeros(1).long(), n_classes=4)
    with pytest.raises(DataError, match="no images to fit a confidence to"):
        fit_confidence(make_network(), torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), n_classes=N_CLASSES)
