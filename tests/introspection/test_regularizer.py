"""Regularizer: minimizing it increases the activation score."""

import numpy as np
import pytest
import torch
from torch import nn

from nasx.introspection.activations import ActivationScorer
from nasx.introspection.regularizer import BatchSimilarity, mean_similarity, pair_emphasis
from nasx.introspection.similarity import introspectability
from tests.factories.networks import N_CLASSES, labeled, seeded, staged_network

UNIFORM = torch.ones(N_CLASSES, N_CLASSES)


class FunctionalReLU(nn.Module):
    """Network whose activation is a function, so that there is no module to hook."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, N_CLASSES)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean(dim=(2, 3)))


@pytest.mark.parametrize("network", [staged_network(), FunctionalReLU().eval()], ids=["modules", "functions"])
@pytest.mark.parametrize("weights", [UNIFORM, pair_emphasis(N_CLASSES, (0, 2), 25)], ids=["uniform", "one pair"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_on_one_batch_it_is_one_minus_the_activation_score(network, weights, memory_format):
    images, labels = labeled()
    distances = ActivationScorer().score(network, images, labels, n_classes=N_CLASSES, seed=0).distances
    images = images.contiguous(memory_format=memory_format)
    logits, similarity = BatchSimilarity.of(network, images, weights)(network, images, labels)
    assert torch.allclose(logits, network(images))
    assert similarity.item() == pytest.approx(1 - introspectability(distances, weights.numpy()), abs=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    vectors = seeded(0, 4, 6).double().requires_grad_()
    weights = pair_emphasis(4, (1, 3), 25).double()
    assert torch.autograd.gradcheck(lambda v: mean_similarity(v @ v.T, weights), (vectors,))


def test_a_class_that_is_not_in_the_batch_is_left_out_and_the_gradient_is_finite():
    vectors = torch.tensor([[1.0, 0], [1, 1], [0, 0]], requires_grad=True)
    similarity = mean_similarity(vectors @ vectors.T, torch.ones(3, 3))
    similarity.backward()
    assert similarity.item() == pytest.approx(0.5**0.5)
    assert vectors.grad.isfinite().all()


def test_a_batch_of_one_class_has_no_similarity():
    assert mean_similarity(torch.tensor([[2.0, 0], [0, 0]]), torch.ones(2, 2)) == 0


def test_no_hook_remains():
    network = staged_network()
    images, labels = labeled()
    BatchSimilarity.of(network, images, UNIFORM)(network, images, labels)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_minimizing_only_the_regularizer_makes_a_network_more_introspectable():
    network = staged_network().train()
    images, labels = labeled(n=80)
    similarity = BatchSimilarity.of(network, images, UNIFORM)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    scores = []
    for _ in range(15):
        value = similarity(network, images, labels)[1]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        scores.append(value.item())
    assert np.mean(scores[-3:]) < scores[0] - 0.05
