"""What a training asks of a GPU, checked without one: steps never wait for the device, graphs change no result.

The checks look at the operations that reach torch's dispatcher, which are the same on every device.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
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


@pytest.mark.parametrize("changes", [{"precision": "float32"}, {"precision": "bfloat16"}, {"average": 0.9}], ids=str)
def test_steps_never_wait_for_the_device(changes):
    few, many = waits(100, **changes), waits(400, **changes)
    assert few == many  # four times the steps: what waits, waits once an epoch or once a training
    assert few["_local_scalar_dense"] > 0


def test_graphs_are_refused_where_they_cannot_be():
    data = data_of(100)
    with pytest.raises(ValueError, match="CUDA graphs need a GPU, whole batches"):
        fit(network(data), data, Recipe(), augmentation=ALL, seed=0, device=CPU, cuda_graphs=True)


class Captured(TorchDispatchMode):
    """Takes the place of a CUDA graph and of its capture, on the CPU.

    As in a capture nothing is computed for good, and asking for a number raises. A replay computes the same operations
    on the same memory: what Python did between them is not repeated.
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
    """The arguments that an operation changes in place."""
    changed = []
    if func.overloadpacket.__name__ == "native_batch_norm":
        changed.extend(args[3:5])  # running statistics, which its schema does not tell of
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            changed.extend(tree_leaves(args[place] if place < len(args) else kwargs.get(argument.name)))
    return [tensor for tensor in changed if isinstance(tensor, torch.Tensor)]


@pytest.fixture
def captures(monkeypatch) -> list[Captured]:
    """CUDA graphs on the CPU: all that are captured."""
    made: list[Captured] = []
    real = torch.cuda.graph

    def graph(captured, **options):
        real(captured, **options)  # up to its first call of CUDA, which is __enter__'s
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
    """(network, what came of it); 12 steps an epoch, the last of them smaller."""
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
    assert len(captures) == 1  # of training: there are too few batches of validation
    assert found.graphed and not found.graph_failure and not expected.graphed
    for one, other in zip(expected.history, found.history, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(graphed.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_graphs_are_the_default_where_they_pay(captures, monkeypatch):
    assert fitted()[1].graphed
    monkeypatch.setattr(fit_module, "MIN_GRAPHED_STEPS", 1000)
    assert not fitted()[1].graphed


@pytest.fixture
def survivors(monkeypatch):
    """What is left of each training without the garbage collector; call it to look."""
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
    """A layer that can be watched."""


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
    captures.clear()  # the operations that stand in for a graph hold its tensors
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


def test_what_is_left_of_a_training_would_be_seen(survivors):
    data = data_of(100)
    kept = watched_network(data)
    fit(kept, data, Recipe(epochs=1, batch_size=16), augmentation=ALL, seed=0, device=CPU)
    assert survivors()[1] == ["ConvBnReLU"]


class Asks(torch.nn.Module):
    """An operation that cannot be captured: it asks for a number."""

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
    assert seen == [4, 4, 4, 2, 4]  # the capture is the fifth; replays call nothing
    assert graphed.is_captured
    assert total == 26


def test_lack_of_memory_is_no_failed_capture(captures):
    def step(images, labels):
        if len(calls) == WARM_UP:
            raise torch.OutOfMemoryError("CUDA out of memory")
        calls.append(1)

    calls: list[int] = []
    graphed = GraphedStep(step)
    with pytest.raises(torch.OutOfMemoryError):
        for _ in range(5):
            graphed(torch.ones(2), torch.ones(2))


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
