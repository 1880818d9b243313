"""Repairs: verdicts, and a repair and its control differ only in the regularizer."""

import pytest
import torch

from nasx.data.augmentation import Augmentation
from nasx.diagnostics.repair import EMPHASIS, EPOCHS, LEARNING_RATE, Outcome, Repair, Verdict, outcome, repair
from nasx.training.fit import fit
from nasx.training.recipe import Recipe
from tests.factories.staged_networks import make_data, make_network

CPU = torch.device("cpu")
PLAIN = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)
RECIPE = Recipe(epochs=1, batch_size=32, learning_rate=0.02, precision="float32")


def outcomes(*numbers):
    return tuple(Outcome(confusions, errors, 0.5) for confusions, errors in numbers)


@pytest.mark.parametrize(
    ("repaired", "controls", "verdict"),
    [
        (outcomes((3, 20), (4, 20)), outcomes((8, 20), (9, 21)), Verdict.HELPED),
        (outcomes((3, 25), (4, 20)), outcomes((8, 20), (9, 21)), Verdict.MOVED),
        (outcomes((3, 20), (9, 20)), outcomes((8, 20), (9, 21)), Verdict.NO_HELP),  # a tie with the second seed
        (outcomes((3, 15), (4, 15)), outcomes((2, 20), (2, 21)), Verdict.NO_HELP),  # more training was sufficient
        (outcomes((8, 15), (4, 15)), outcomes((8, 20), (9, 21)), Verdict.NO_HELP),  # a tie with a control
        (outcomes((10, 15), (4, 15)), outcomes((12, 20), (9, 21)), Verdict.NO_HELP),  # a tie with the original
        (outcomes((3, 20), (4, 21)), outcomes((8, 20), (9, 21)), Verdict.HELPED),  # as many errors as its control
        (outcomes((11, 15), (11, 15)), outcomes((12, 20), (12, 21)), Verdict.NO_HELP),  # worse than before
    ],
)
def test_a_repair_helps_if_it_is_better_than_its_control_and_the_original_with_every_seed(repaired, controls, verdict):
    assert Repair((0, 1), 100, Outcome(10, 20, 0.4), repaired, controls).verdict is verdict


def test_a_repair_is_trained_as_in_its_source():
    assert (EPOCHS, LEARNING_RATE, EMPHASIS) == (5, 0.001, 25)  # Carmichael, Moon, Jacobs, 2023, Eq. 4


@pytest.fixture(scope="module")
def repaired():
    data, network = make_data(n_train=240), make_network()
    fit(network, data, RECIPE, augmentation=PLAIN, seed=0, device=CPU)
    weights = {name: t.clone() for name, t in network.state_dict().items()}
    result = repair(network, data, (0, 2), RECIPE, augmentation=PLAIN, seeds=[0, 1], device=CPU)
    return result, network, weights, data


def test_a_repair_separates_the_pair_more_than_its_control(repaired):
    result = repaired[0]
    for fine_tuned, control in zip(result.repaired, result.controls, strict=True):
        assert fine_tuned.distance > control.distance


def test_the_network_itself_is_not_changed(repaired):
    result, network, weights, data = repaired
    assert all(torch.equal(t, weights[name]) for name, t in network.state_dict().items())
    assert outcome(network, data, (0, 2)) == result.before
    assert result.n_images == len(data.validation)


def test_the_pair_has_no_order(repaired):
    _, network, _, data = repaired
    assert outcome(network, data, (2, 0)) == outcome(network, data, (0, 2))
