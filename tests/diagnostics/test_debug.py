import numpy as np
import pytest
import torch

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.diagnostics.debug import debug
from nasx.training.fit import fit
from nasx.training.recipe import Recipe
from tests.factories.staged_networks import N_CLASSES, make_data, make_network, pixels_of

PLAIN = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


@pytest.fixture(scope="module")
def found():
    data, network = make_data(n_train=240), make_network()
    recipe = Recipe(epochs=4, batch_size=32, learning_rate=0.05, precision="float32")
    fit(network, data, recipe, augmentation=PLAIN, seed=0, device=torch.device("cpu"))
    wrong = data.train.labels.copy()
    wrong[17] = (wrong[17] + 1) % N_CLASSES
    data = type(data)(
        LabeledImages(data.train.images, wrong, data.train.class_names), data.validation, data.mean, data.std
    )
    return debug(network, data, distances={"shap": np.zeros((N_CLASSES, N_CLASSES))}, seed=0), network, data


def test_a_wrong_label_is_the_most_suspect_and_its_true_class_is_named(found):
    diagnosis, _, data = found
    suspects = diagnosis.suspects
    assert suspects.ranking()[0] == 17
    assert suspects.predicted[17] == suspects.suggested[17] == (data.train.labels[17] - 1) % N_CLASSES
    assert suspects.probabilities[17, data.train.labels[17]] < 0.1
    assert suspects.distance[17] > 0
    assert len(suspects) == len(data.train) + len(data.validation)
    assert suspects.out_of_sample.tolist() == [False] * len(data.train) + [True] * len(data.validation)


def test_softmax_confidence_and_predictions_are_those_of_the_network(found):
    diagnosis, network, data = found
    with torch.no_grad():
        probabilities = network(pixels_of(data.validation, data)).softmax(dim=1)
    softmax, activations, margin = diagnosis.confidences
    assert softmax.values == pytest.approx(probabilities.amax(dim=1).numpy(), abs=1e-5)
    assert (diagnosis.is_correct == (probabilities.argmax(dim=1).numpy() == data.validation.labels)).all()
    assert [c.is_probability for c in diagnosis.confidences] == [True, False, False]
    assert (activations.values <= 1).all()
    assert (margin.values <= activations.values).all()  # another centroid may be nearer


def test_every_confidence_is_calibrated_to_a_probability(found):
    for confidence in found[0].confidences:
        assert ((confidence.probability >= 0) & (confidence.probability <= 1)).all()
