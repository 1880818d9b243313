"""Training on a GPU, tested without one: steps never wait for the device, CUDA graphs change no result.

The tests observe the operations that reach torch's dispatcher, which are the same on every device.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter, OrderedDict
from contextlib import nullcontext, suppress

import pytest
import pytorch_lightning as pl
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import SearchData
from nasx.data.splits import split
from nasx.data.synthetic import Lines
from nasx.errors import TrialFailure
from nasx.evaluation.train_and_score import EvaluationSpec, evaluate
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.regularizer import BatchSimilarity
from nasx.introspection.shap import ShapScorer
from nasx.networks.backbone import Backbone
from nasx.spaces.nb201 import NASBench201
from nasx.training import cuda_graphs
from nasx.training import fit as fit_module
from nasx.training.cuda_graphs import WARM_UP, GraphedStep
from nasx.training.fit import fit
from nasx.training.lightning_module import Classifier, WeightAverage
from nasx.training.recipe import Recipe
from nasx.trial import Job, Reason

CPU = torch.device("cpu")
ALL = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.25)
WAITING = {"_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "unique_consecutive", "_unique2"}
"""Operations that return a number to Python (.item(), shapes that depend on values), or copy one from the host."""


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1]):
            name = "nonzero"  # the size of a mask is computed on the device
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


def test_operations_that_would_wait_for_a_gpu_are_counted():
    with Waits() as counted:
        torch.ones(3).sum().item()
        torch.tensor(1.0)
        torch.arange(3)[torch.ones(3, dtype=torch.bool)]
    assert counted.counts["_local_scalar_dense"] == 1
    assert counted.counts["lift_fresh"] == 1
    assert counted.counts["nonzero"] == 1


@pytest.mark.parametrize("changes", [{"precision": "float32"}, {"precision": "bfloat16"}, {"average": 0.9}], ids=str)
def test_steps_never_wait_for_the_device(changes):
    few, many = waits(100, **changes), waits(400, **changes)
    assert few == many  # four times the steps, as many waits: once per epoch or per training
    assert few["_local_scalar_dense"] > 0


def test_graphs_are_refused_on_the_cpu():
    data = data_of(100)
    with pytest.raises(ValueError, match="CUDA graphs need a GPU, whole batches"):
        fit(network(data), data, Recipe(), augmentation=ALL, seed=0, device=CPU, cuda_graphs=True)


class Captured(TorchDispatchMode):
    """Replaces a CUDA graph and its capture on the CPU.

    As in a real capture, tensors have their former values afterwards, and returning a number to Python raises. A replay
    computes the same operations on the same memory, without the Python code between them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple] = []
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in WAITING:
            raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be ...")
        kwargs = kwargs or {}
        for tensor in written(func, args, kwargs):
            self.before.setdefault(id(tensor), (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, result))
        return result

    def __exit__(self, *raised):
        super().__exit__(*raised)
        with torch.no_grad():
            for tensor, value in self.before.values():
                tensor.copy_(value)

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, result in self.operations:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def written(func, args, kwargs) -> list[torch.Tensor]:
    """Return the arguments that an operation changes in place."""
    changed = []
    if func.overloadpacket.__name__ == "native_batch_norm":
        changed.extend(args[3:5])  # running statistics, which are missing in its schema
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed.extend(tree_leaves(args[place] if place < len(args) else kwargs.get(argument.name)))
    return [tensor for tensor in changed if isinstance(tensor, torch.Tensor)]


@pytest.fixture
def captures(monkeypatch) -> list[Captured]:
    """Capture CUDA graphs on the CPU; returns the list of captures."""
    made: list[Captured] = []
    real = torch.cuda.graph

    def graph(captured, **options):
        real(captured, **options)  # its first call of CUDA is in __enter__
        assert options["capture_error_mode"] in ("global", "thread_local", "relaxed")
        assert isinstance(options["stream"], Stream)
        assert not torch.is_autocast_cache_enabled() or not torch.is_autocast_enabled("cpu")
        made.append(captured)
        return captured

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(real, "default_capture_stream", Stream())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Captured)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(cuda_graphs, "_stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(fit_module, "_can_be_graphed", lambda *_: True)
    return made


def fitted(cuda_graphs: bool | None = None, net=None, **changes):
    """Train for 12 steps per epoch, the last of them smaller; return (network, result)."""
    data = data_of(250)
    net = net or network(data)
    recipe = Recipe(epochs=3, batch_size=16, **changes)
    return net, fit(net, data, recipe, augmentation=ALL, seed=0, device=CPU, cuda_graphs=cuda_graphs)


@pytest.mark.parametrize(
    "changes",
    [{}, {"average": 0.9}, {"precision": "bfloat16", "keep": "last"}, {"momentum": 0.0, "label_smoothing": 0.1}],
    ids=str,
)
def test_graphs_change_no_result(captures, changes):
    plain, expected = fitted(cuda_graphs=False, **changes)
    assert not captures
    graphed, found = fitted(cuda_graphs=True, **changes)
    assert len(captures) == 1  # of training; validation has too few batches
    assert found.graphed and not found.graph_failure and not expected.graphed
    for one, other in zip(expected.history, found.history, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(graphed.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def with_unfrozen_stage() -> torch.nn.Sequential:
    """Return a network whose backbone has a frozen and a trained stage."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stages = OrderedDict(first=torch.nn.Conv2d(1, 4, 3, padding=1), last=torch.nn.Conv2d(4, 4, 3, 2, 1))
        head = [torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten(), torch.nn.Linear(36, 4)]
        backbone = Backbone(torch.nn.Sequential(stages), n_trained=1)
        return torch.nn.Sequential(OrderedDict(backbone=backbone, head=torch.nn.Sequential(*head)))


def test_graphs_change_no_learning_rate_of_an_unfrozen_stage(captures):
    plain, _ = fitted(cuda_graphs=False, net=with_unfrozen_stage())
    graphed, found = fitted(cuda_graphs=True, net=with_unfrozen_stage())
    assert found.graphed
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(graphed.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_the_learning_rate_of_an_unfrozen_stage_is_its_share_of_that_of_the_head():
    before = with_unfrozen_stage().state_dict()
    after = fitted(net=with_unfrozen_stage(), unfreeze_rate=0.0)[0].state_dict()
    changed = {name.removesuffix(".weight") for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"head.3", "head.3.bias"}


def test_graphs_are_the_default_if_they_pay(captures, monkeypatch):
    assert fitted()[1].graphed
    monkeypatch.setattr(fit_module, "MIN_GRAPHED_STEPS", 1000)
    assert not fitted()[1].graphed


@pytest.fixture
def survivors(monkeypatch):
    """Return a function that lists objects of trainings: (all, those that live without garbage collection)."""
    made: list[tuple[str, weakref.ref]] = []

    def watch(cls: type, name: str) -> None:
        begin = cls.__init__

        def noted(self, *args, **settings):
            begin(self, *args, **settings)
            made.append((name, weakref.ref(self)))

        monkeypatch.setattr(cls, "__init__", noted)

    for cls in (Classifier, GraphedStep, WeightAverage, BatchSimilarity, torch.optim.SGD, pl.Trainer, ConvBnReLU):
        watch(cls, cls.__name__)
    gc.collect()
    gc.disable()
    yield lambda: ([name for name, _ in made], [name for name, reference in made if reference() is not None])
    gc.enable()


class ConvBnReLU(torch.nn.ReLU):
    """A layer whose life the tests observe."""


def watched_network(data: SearchData) -> torch.nn.Sequential:
    first, *rest = network(data)
    return torch.nn.Sequential(torch.nn.Sequential(first, ConvBnReLU()), *rest)


@pytest.mark.parametrize("changes", [{}, {"average": 0.9, "keep": "last"}, {"regularizer": 0.1}], ids=str)
def test_no_cycle_survives_a_training(survivors, changes):
    data = data_of(100)
    recipe = Recipe(epochs=2, batch_size=16, **changes)
    fit(watched_network(data), data, recipe, augmentation=ALL, seed=0, device=CPU)
    made, left = survivors()
    assert {"Classifier", "SGD", "Trainer", "ConvBnReLU"} <= set(made)
    assert not left


def test_no_cycle_survives_a_training_by_graphs(survivors, captures):
    data = data_of(100)
    recipe = Recipe(epochs=2, batch_size=16)
    fit(watched_network(data), data, recipe, augmentation=ALL, seed=0, device=CPU, cuda_graphs=True)
    assert captures and "GraphedStep" in survivors()[0]
    captures.clear()  # the operations that replace a graph hold its tensors
    assert not survivors()[1]


def test_no_cycle_survives_a_training_that_fails(survivors):
    data = data_of(100)

    def too_slow(record):
        raise TrialFailure(Reason.TIMEOUT, "too slow")

    with suppress(TrialFailure):
        fit(
            watched_network(data), data, Recipe(epochs=2, batch_size=16), augmentation=ALL, seed=0, device=CPU,
            report=too_slow,
        )  # fmt: skip
    made, left = survivors()
    assert "Trainer" in made
    assert not left


def test_no_cycle_survives_an_evaluation(survivors, tmp_path):
    data, built = data_of(400), []

    class Watched(NASBench201):
        def build(self, *arguments, **settings):
            network = super().build(*arguments, **settings)
            built.extend(weakref.ref(part) for part in (*network.modules(), *network.parameters()))
            return network

    spec = EvaluationSpec(
        space=Watched(channels=4, cells=1),
        recipe=Recipe(epochs=2, batch_size=16),
        augmentation=Augmentation(),
        scorer=ShapScorer(),
        also_scored=(ActivationScorer(),),
        device="cpu",
    )
    job = Job(arch_id="a", replicate=0, genotype=(3, 1, 2, 4, 0, 3), seed=0, weights_file=tmp_path / "w.safetensors")
    assert evaluate(job, spec, data).scores
    assert built
    assert all(reference() is None for reference in built)
    assert not survivors()[1]


def test_a_network_that_is_kept_is_listed(survivors):
    data = data_of(100)
    kept = watched_network(data)
    fit(kept, data, Recipe(epochs=1, batch_size=16), augmentation=ALL, seed=0, device=CPU)
    assert survivors()[1] == ["ConvBnReLU"]


class Asks(torch.nn.Module):
    """Operation that cannot be captured: it returns a number to Python."""

    def forward(self, x):
        return x * (1.0 if float(x.detach().sum()) > -1e9 else 0.0)


def test_a_step_that_cannot_be_captured_runs_eagerly(captures):
    plain, expected = fitted(cuda_graphs=False)
    asking = torch.nn.Sequential(*network(data_of(250)), Asks())
    asking, found = fitted(cuda_graphs=True, net=asking)
    assert not found.graphed
    assert "training: operation not permitted when stream is capturing" in found.graph_failure
    assert [r["train_error"] for r in found.history] == [r["train_error"] for r in expected.history]
    for one, other in zip(plain.state_dict().values(), asking.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_batches_of_another_shape_are_not_replayed(captures):
    seen, total = [], torch.zeros(())

    def step(images, labels):
        seen.append(len(images))
        total.add_(images.sum())

    graphed = GraphedStep(step)
    for n in (4, 4, 4, 2, 4, 4, 4):
        graphed(torch.ones(n, 1), torch.zeros(n))
    assert seen == [4, 4, 4, 2, 4]  # the fifth is the capture; replays do not call the step
    assert graphed.is_captured
    assert total == 26


def test_a_lack_of_memory_during_a_capture_is_raised(captures):
    def step(images, labels):
        if len(calls) == WARM_UP:
            raise torch.OutOfMemoryError("CUDA out of memory")
        calls.append(1)

    calls: list[int] = []
    graphed = GraphedStep(step)
    with pytest.raises(torch.OutOfMemoryError):
        for _ in range(5):
            graphed(torch.ones(2), torch.ones(2))


def test_a_step_creates_no_tensor_on_the_host():
    """On the meta device, mixing devices raises, and so does returning a number to Python."""
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
