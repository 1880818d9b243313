from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from nasx.data.dataset import LabeledImages, SearchData
from nasx.diagnostics.explain import explain, pick_samples
from nasx.diagnostics.explain_image import shap_images
from nasx.diagnostics.explanation import SampleKind
from nasx.introspection import similarity
from nasx.introspection.shap import ShapScorer

N_CLASSES = 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)

    def images(n):
        labels = np.arange(n) % N_CLASSES
        pixels = rng.integers(0, 80, (n, 1, 6, 6))
        pixels[np.arange(n), 0, 2 * labels] += 150  # a bright row depends on the class
        return LabeledImages(pixels.astype(np.uint8), labels, ("top", "middle", "bottom"))

    return SearchData(images(60), images(45), np.float32([0.3]), np.float32([0.2]))


def make_network():
    torch.manual_seed(0)
    stages = OrderedDict(
        stem=nn.Conv2d(1, 6, 3, padding=1),
        stage1=nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)),
        stage2=nn.Sequential(nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)),
        head=nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, N_CLASSES)),
    )
    return nn.Sequential(stages).eval()


@pytest.fixture(scope="module")
def explanation(data):
    return explain(make_network(), data, scorer=ShapScorer(samples_per_class=5, draws=4, background=8), draws=10)


def test_predictions_are_counted_on_all_validation_images(explanation, data):
    assert explanation.n_images == 45
    pixels = (torch.from_numpy(data.validation.images).float() / 255 - 0.3) / 0.2
    predicted = make_network()(pixels).argmax(dim=1).numpy()
    assert explanation.n_errors == (predicted != data.validation.labels).sum()


def test_the_layers_are_the_scorers_and_average_to_its_distances(explanation):
    assert list(explanation.layer_distances) == ["stem", "stage1"]
    mean = similarity.mean_distances(list(explanation.layer_distances.values()))
    assert mean == pytest.approx(explanation.score.distances)


def test_a_recorded_score_is_not_computed_again(explanation, data):
    scorer, recorded = ShapScorer(samples_per_class=2, draws=2, background=4), explanation.score
    assert explain(make_network(), data, scorer=scorer, recorded=recorded, draws=2).score is recorded


def test_incorrect_samples_are_explained_for_both_classes_and_correct_ones_for_their_own(explanation, data):
    for sample in explanation.samples:
        classes = list(sample.attributions)
        assert classes[0] == sample.predicted
        assert sample.label == data.validation.labels[sample.index]
        match sample.kind:
            case SampleKind.CORRECT:
                assert classes == [sample.label]
            case SampleKind.INCORRECT:
                assert classes == [sample.predicted, sample.label]
                assert sample.predicted != sample.label
            case SampleKind.UNCERTAIN:
                assert len(set(classes)) == 2
                assert sample.predicted == sample.label


def test_the_same_seed_yields_the_same_explanation(data):
    scorer = ShapScorer(samples_per_class=5, draws=4, background=8)
    first, second = (explain(make_network(), data, scorer=scorer, draws=5, seed=3) for _ in range(2))
    assert [s.index for s in first.samples] == [s.index for s in second.samples]
    for a, b in zip(first.samples, second.samples, strict=True):
        assert all(np.array_equal(a.attributions[c], b.attributions[c]) for c in a.attributions)


def test_explaining_does_not_change_the_network_and_the_global_generators(data):
    network = make_network().train()
    weights = {name: t.clone() for name, t in network.state_dict().items()}
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    explain(network, data, scorer=ShapScorer(samples_per_class=2, draws=2, background=4), draws=2)
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(t, weights[name]) for name, t in network.state_dict().items())
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_shap_values_of_a_linear_network_are_its_weights_times_the_distance_from_the_mean():
    """For f(x) = w x, the value of each pixel is w (x - background) for any draws."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, N_CLASSES)).eval()
    image, background = torch.rand(1, 2, 2), torch.rand(1, 1, 2, 2)
    values = shap_images(network, image, background, [2, 0], draws=3, seed=0)
    expected = network[1].weight[[2, 0]].view(2, 1, 2, 2) * (image - background[0])
    assert values == pytest.approx(expected.detach().numpy(), abs=1e-6)


def test_a_single_class_is_explained_as_well_as_two():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, N_CLASSES)).eval()
    image, background = torch.rand(1, 2, 2), torch.rand(5, 1, 2, 2)
    both = shap_images(network, image, background, [1, 0], draws=4, seed=0)
    single = shap_images(network, image, background, [1], draws=4, seed=0)
    assert single == pytest.approx(both[:1])


def confident(label, confidence):
    """Return softmax probabilities with this value for `label`, the others equal."""
    probabilities = np.full(N_CLASSES, (1 - confidence) / (N_CLASSES - 1))
    probabilities[label] = confidence
    return probabilities


def test_the_most_confident_errors_and_the_least_confident_successes_are_picked():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    predicted = [0, 0, 1, 1, 2, 2, 2, 2]
    confidences = [0.9, 0.5, 0.6, 0.8, 0.7, 0.95, 0.55, 0.85]
    probabilities = np.array([confident(p, c) for p, c in zip(predicted, confidences, strict=True)])
    picked = pick_samples(probabilities, labels, per_class=1, generator=np.random.default_rng(0))
    assert [i for kind, i in picked if kind is SampleKind.INCORRECT] == [4, 2]
    assert [i for kind, i in picked if kind is SampleKind.UNCERTAIN] == [1, 6, 3, 7]
    assert [i for kind, i in picked if kind is SampleKind.CORRECT] == [
        0,
        3,
        5,
    ]  # 3 is shown twice: its class has no other


def test_of_many_classes_those_with_the_most_errors_are_shown():
    n = 50
    labels = np.repeat(np.arange(n), 4)
    predicted = labels.copy()
    predicted[labels >= 40] = np.where(np.arange(40) % 4 == 0, 0, predicted[labels >= 40])  # one error each
    probabilities = np.eye(n)[predicted]
    picked = pick_samples(probabilities, labels, per_class=1, generator=np.random.default_rng(0))
    shown = {labels[i] for kind, i in picked if kind is SampleKind.CORRECT}
    assert len(shown) == 20
    assert shown >= set(range(40, 50))
