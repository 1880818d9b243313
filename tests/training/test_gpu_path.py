"""What a training asks of a GPU, checked without one: steps never wait for the device, graphs change no result.

The checks look at the operations that reach torch's dispatcher, which are the same on every device.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nasx.data.augmentation import Augmentation
from nasx.data.images import SearchData
from nasx.data.lines import Lines
from nasx.data.splits import split
from nasx.spaces.nb201 import NASBench201
from nasx.training import Recipe
from nasx.training.classifier import Classifier
from nasx.training.cuda_graphs import GraphedForward
from nasx.training.fitting import fit

CPU = torch.device("cpu")
ALL = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.25)
WAITING = {"_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "unique_consecutive", "_unique2"}
"""Operations whose result Python needs (.item(), shapes that depend on values), or that copy a number from the host."""


class Waits(TorchDispatchMode):
    """Counts the operations for which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1]):
            name = "nonzero"  # which images a mask names is counted on the device, and waited for
        if name in WAITING:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def network(data: SearchData) -> torch.nn.Sequential:
    space = NASBench201(channels=4, cells=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return space.build((3, 1, 2, 4, 0, 3), input_shape=data.shape, n_classes=data.n_classes)


def data_of(n: int) -> SearchData:
    return split(Lines(train_images=n).train(), seed=0)


def waits(n_images: int, **changes) -> Counter[str]:
    data = data_of(n_images)
    recipe = Recipe(epochs=1, batch_size=16, keep="last", **changes)
    with Waits() as counted:
        fit(network(data), data, recipe, augmentation=ALL, seed=0, device=CPU)
    return counted.counts


def test_what_would_wait_for_a_gpu_is_seen():
    with Waits() as counted:
        torch.ones(3).sum().item()
        torch.tensor(1.0)
        torch.arange(3)[torch.ones(3, dtype=torch.bool)]
    assert counted.counts["_local_scalar_dense"] == 1
    assert counted.counts["lift_fresh"] == 1
    assert counted.counts["nonzero"] == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_never_wait_for_the_device(precision):
    few, many = waits(100, precision=precision), waits(400, precision=precision)
    assert few == many  # four times the steps: what waits, waits once an epoch or once a training
    assert few["_local_scalar_dense"] > 0


def test_graphs_are_refused_where_they_cannot_be():
    data = data_of(100)
    with pytest.raises(ValueError, match="CUDA graphs need a GPU, whole batches"):
        fit(network(data), data, Recipe(), augmentation=ALL, seed=0, device=CPU, cuda_graphs=True)


def warm_up_and_return(module, sample):
    """Takes the place of torch's capture: its passes in training mode, and the module itself as the replay."""
    with torch.random.fork_rng(devices=[]):
        for _ in range(3):
            module(*(s + 1 for s in sample))
    return module


def test_capturing_leaves_the_network_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", warm_up_and_return)
    data = data_of(100)
    plain, captured = network(data).train(), network(data).train()
    graphed = GraphedForward(captured)
    rng = np.random.default_rng(0)
    for n in (16, 16, 5):  # the last batch of an epoch is smaller
        images = torch.from_numpy(rng.normal(size=(n, *data.shape)).astype(np.float32))
        torch.testing.assert_close(graphed(images), plain(images), rtol=0, atol=0)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(captured.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_batches_of_another_shape_are_not_replayed(monkeypatch):
    replayed = []

    def capture(module, sample):
        def replay(images):
            replayed.append(len(images))
            return module(images)

        return replay

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    data = data_of(100)
    graphed = GraphedForward(network(data).train())
    for n in (16, 16, 5):
        graphed(torch.randn(n, *data.shape, generator=torch.Generator().manual_seed(0)))
    assert replayed == [16, 16]


def test_a_training_step_takes_the_graph_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", warm_up_and_return)
    data = data_of(100)
    one, other = (Classifier(network(data).train(), Recipe(), steps_per_epoch=1) for _ in range(2))
    other.graphed = GraphedForward(other.network)
    batch = torch.randn(16, *data.shape, generator=torch.Generator().manual_seed(0)), torch.arange(16) % data.n_classes
    assert torch.equal(one.loss(*batch), other.loss(*batch))


def test_a_step_makes_nothing_on_the_host():
    """On the meta device: mixing devices raises, and so does asking for a number."""
    meta = torch.device("meta")
    space = NASBench201(channels=4, cells=1)
    net = space.build((3, 1, 2, 4, 0, 3), input_shape=(3, 32, 32), n_classes=10).to(meta)
    classifier = Classifier(net, Recipe(label_smoothing=0.1), steps_per_epoch=1)
    batch = torch.empty(16, 3, 32, 32, device=meta), torch.empty(16, dtype=torch.long, device=meta)
    for _ in range(2):  # the sums of the second step are added to those of the first
        classifier.loss(*batch).backward()
        classifier.validation_step(batch, 0)
    sums = (classifier.train_sums, classifier.validation_sums, classifier.validation_classes)
    assert all(each is not None and each.device == meta for each in sums)
    assert all(p.grad is not None and p.grad.device == meta for p in net.parameters())
