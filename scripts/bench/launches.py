"""Count the GPU work of a trial on a CPU: kernels launched, bytes uploaded, tensors copied back.

    python -m scripts.bench launches

The operations that reach torch's dispatcher are the same on every device. Each operation that computes is at least one
kernel; views are none. The meta device replaces a GPU if only copies are counted. The network is the median cell of
NAS-Bench-201, C=16, N=5; the images are small, which does not change the counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches, Pixels, TrainingBatches
from nasx.data.dataset import SearchData
from nasx.introspection.activations import CPU_BATCH, GPU_BATCH, ActivationScorer
from nasx.networks.training_form import training_form
from nasx.training.cuda_graphs import GraphedStep
from nasx.training.fit import _OneDevice
from nasx.training.lightning_module import Classifier
from nasx.training.recipe import Recipe
from scripts.bench.candidate import SETTINGS, Setting, network_of, random_data
from scripts.bench.measurement import Measurement, Options

GPU = torch.device("meta")
SMALL = replace(
    SETTINGS[-1],
    shape=(3, 8, 8),
    images=40_000,  # training images of CIFAR-10 after the validation split of a fifth
    recipe=Recipe(batch_size=64),
)
MEDIAN = "median"


class Counter(TorchDispatchMode):
    """Counts operations that compute, and bytes copied from the host to the device that replaces a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = self.uploaded = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket.__name__ not in ("detach", "empty", "empty_like"):
            self.kernels += 1
        if func.overloadpacket.__name__ == "_to_copy" and result.device == GPU and args[0].device != GPU:
            self.uploaded += args[0].nbytes
        return result


def training_step(setting: Setting) -> int:
    """Count the kernels of one training step; the batch is already on the device."""
    classifier = Classifier(training_form(network_of(setting, MEDIAN)), setting.recipe, steps_per_epoch=10)
    optimizer = torch.optim.SGD(classifier.network.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
    classifier.optimizers = lambda use_pl_optimizer=True: optimizer
    images, labels = torch.randn(64, *setting.shape), torch.arange(64) % 10
    classifier.train_on(images, labels)  # creates momentum and sums
    with Counter() as counted:
        classifier.train_on(images, labels)
    return counted.kernels


def replayed_step(setting: Setting) -> int:
    """Count the launches of the same step as a CUDA graph: copies of its inputs, and one replay."""

    class Graph:
        def replay(self) -> None:
            pass

    step = GraphedStep(lambda images, labels: None)
    images, labels = torch.randn(64, *setting.shape), torch.arange(64) % 10
    step._calls, step._graph = 10, Graph()  # type: ignore[assignment]
    with Counter() as counted:
        step(images, labels)
    return counted.kernels + 1


def activation_score(setting: Setting, data: SearchData, batch_size: int) -> int:
    """Count the kernels of the activation score of 8,000 images.

    Args:
        setting: the network.
        data: its validation images are scored.
        batch_size: images per forward pass.
    """
    network = network_of(setting, MEDIAN).eval()
    pixels = Pixels(data.validation, mean=data.mean, std=data.std)
    with Counter() as counted:
        ActivationScorer(batch_size=batch_size).score(network, pixels, pixels.labels, n_classes=10, seed=0)
    return counted.kernels


def trial_uploads(setting: Setting, data: SearchData) -> int:
    """Return the bytes of images and labels that a trial uploads for training, validation and scores."""
    scale = {"mean": data.mean, "std": data.std, "device": GPU}
    with Counter() as counted:
        TrainingBatches(data.train, **scale, batch_size=64, augmentation=Augmentation(), seed=0)  # type: ignore[arg-type]
        EvaluationBatches(data.validation, **scale, batch_size=64)  # type: ignore[arg-type]
        Pixels(data.validation, **scale)  # type: ignore[arg-type]
    return counted.uploaded


def fetched_by_teardown(strategy: SingleDeviceStrategy, setting: Setting) -> int:
    """Count the tensors that the end of a training moves to the CPU; each of them is a synchronization."""
    network = training_form(network_of(setting, MEDIAN))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved: list[Tensor] = []

    class Watched(nn.Module):
        def cpu(self) -> Watched:
            moved.extend(network.state_dict().values())
            return self

    strategy._lightning_module = Watched()
    strategy.optimizers = [optimizer]
    before = Tensor.to

    def to(self: Tensor, *arguments: object, **settings: object) -> Tensor:
        moved.append(self)
        return before(self, *arguments, **settings)  # type: ignore[call-overload, no-any-return]

    Tensor.to = to  # type: ignore[method-assign, assignment]
    try:
        strategy.accelerator = _NoAccelerator()
        strategy.teardown()
    finally:
        Tensor.to = before  # type: ignore[method-assign]
    return len([each for each in tree_leaves(moved) if isinstance(each, Tensor)])


class _NoAccelerator:
    def teardown(self) -> None:
        pass


def benchmark(options: Options) -> Iterator[Measurement]:
    """Yield counts of nasx and of the plain implementation; they are the same on every machine."""

    def counted(what: str, against: str, ours: int, theirs: int, unit: str) -> Measurement:
        counts = f"{what}: {ours:,} {unit}", f"{against}: {theirs:,}"
        return Measurement(*counts, (float(max(ours, 1)),), (float(theirs),), unit)

    data = random_data(SMALL)
    yield counted("a training step", "eager", replayed_step(SMALL), training_step(SMALL), "launches")
    yield counted(
        "an activation score of 8,000 images", f"batches of {CPU_BATCH}",
        activation_score(SMALL, data, GPU_BATCH), activation_score(SMALL, data, CPU_BATCH), "launches",
    )  # fmt: skip
    first, again = trial_uploads(SMALL, data), trial_uploads(SMALL, data)
    yield counted("uploads of a worker's second trial", "its first", again, first, "bytes")
    ends = (fetched_by_teardown(kind(torch.device("cpu")), SMALL) for kind in (_OneDevice, SingleDeviceStrategy))
    ours, theirs = ends
    yield counted("moved to the CPU after a training", "Lightning", ours, theirs, "tensors")
