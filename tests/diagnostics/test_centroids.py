"""Streamed centroids and distances against concatenated vectors and scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from nasx.data.dataset import LabeledImages
from nasx.diagnostics.centroids import class_centroids, compare, cosine_distances, leave_one_out_distances
from nasx.errors import ArchitectureError
from tests.factories.staged_networks import N_CLASSES, make_data, make_network, pixels_of


@pytest.fixture(scope="module")
def data():
    return make_data(n_train=300)  # more than one batch


def vectors_of(network, images, data):
    """Return (n, all activations): the concatenated activations of the live layers, as in the paper."""
    with torch.no_grad():
        convolved = network.stem[0](pixels_of(images, data))
        active = network.stage1[0](network.stem[1](convolved))
        again = network.stage1[1](active)
        last = network.head[0](again)
    return torch.cat([t.flatten(1) for t in (convolved, active, again, last)], dim=1).double().numpy()


def test_streamed_distances_are_those_of_concatenated_vectors(data):
    network = make_network()
    centroids = class_centroids(network, data.train, data)
    found = compare(network, data.validation, data, centroids)
    vectors = vectors_of(network, data.train, data)
    means = np.stack([vectors[data.train.labels == c].mean(axis=0) for c in range(N_CLASSES)])
    expected = cdist(vectors_of(network, data.validation, data), means, "cosine")
    distances = cosine_distances(found.products, found.squares, centroids.squares)
    assert distances == pytest.approx(expected, abs=1e-6)
    with torch.no_grad():
        logits = network(pixels_of(data.validation, data))
    assert found.logits == pytest.approx(logits.numpy(), abs=1e-5)


def test_leave_one_out_distances_equal_those_to_centroids_of_the_other_images():
    data = make_data(n_train=9)
    network = make_network()
    train = data.train
    centroids = class_centroids(network, train, data)
    found = leave_one_out_distances(compare(network, train, data, centroids), train.labels, centroids)
    vectors = vectors_of(network, train, data)
    for i, label in enumerate(train.labels):
        others = np.arange(len(train)) != i
        means = np.stack([vectors[others & (train.labels == c)].mean(axis=0) for c in range(N_CLASSES)])
        assert found[i] == pytest.approx(cdist(vectors[[i]], means, "cosine")[0], abs=1e-5), label


def test_the_only_image_of_its_class_has_distance_1_to_it():
    data = make_data()
    train = data.train.take(np.array([0, 1, 3, 4, 6, 2]))  # classes 0 1 0 1 0 2
    network = make_network()
    centroids = class_centroids(network, train, data)
    found = leave_one_out_distances(compare(network, train, data, centroids), train.labels, centroids)
    assert found[5, 2] == 1
    assert (found[5, :2] < 1).all()


def test_the_order_of_the_images_does_not_matter(data):
    network, order = make_network(), np.random.default_rng(1).permutation(len(data.train))
    one, other = (class_centroids(network, images, data) for images in (data.train, data.train.take(order)))
    assert one.squares == pytest.approx(other.squares)
    assert one.counts.tolist() == other.counts.tolist()


def test_the_network_is_not_changed(data):
    network = make_network().train()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    compare(network, data.validation, data, class_centroids(network, data.train, data))
    assert network.training
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert not any(m._forward_hooks for m in network.modules())


def test_a_network_without_live_layers_is_rejected(data):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, N_CLASSES))
    with pytest.raises(ArchitectureError, match="no convolution and no activation that reaches its logits"):
        class_centroids(network, data.train, data)


def test_a_class_without_images_has_distance_1_to_every_image(data):
    images = LabeledImages(data.train.images, data.train.labels % 2, data.train.class_names)
    network = make_network()
    centroids = class_centroids(network, images, data)
    found = compare(network, images, data, centroids)
    assert (cosine_distances(found.products, found.squares, centroids.squares)[:, 2] == 1).all()
