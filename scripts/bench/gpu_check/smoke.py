"""Checks that each path runs on the GPU."""

from __future__ import annotations

import gc
import math
import pickle
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import nasx
from nasx.data.batches import EvaluationBatches, TrainingBatches, place
from nasx.diagnostics.confidence import fit_confidence
from nasx.diagnostics.explain import explain
from nasx.diagnostics.explain_image import explain_image
from nasx.diagnostics.label_errors import plant_label_errors
from nasx.diagnostics.repair import repair
from nasx.evaluation.weights import load_weights, save_weights
from nasx.export.deployed import Deployed
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.spaces.chain import Chain
from nasx.spaces.nb201 import NASBench201XNAS
from nasx.training.lightning_module import Classifier
from scripts.bench.candidate import network_of
from scripts.bench.gpu_check.candidates import (
    AUGMENTATION,
    SMALL,
    are_equal,
    evaluated,
    learnable,
    pixels,
    streamed,
    trained,
)
from scripts.bench.gpu_check.checking import CHECKS, DEVICE, IS_CUDA, check, cuda_check


@check
def device() -> str:
    facts = f"torch {torch.__version__}, Python {sys.version.split()[0]}"
    if IS_CUDA:
        facts += f", {torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}"
    return facts


@check
def batches_come_in_the_order_of_a_cpu() -> None:
    data = learnable()

    def batches(where: torch.device) -> list[Any]:
        return list(
            TrainingBatches(
                data.train, mean=data.mean, std=data.std, batch_size=64, augmentation=AUGMENTATION, seed=3,
                device=where, channels_last=True,
            )
        )  # fmt: skip

    here, there, again = batches(torch.device("cpu")), batches(DEVICE), batches(DEVICE)
    assert all(torch.equal(a[1].cpu(), b[1]) for a, b in zip(there, here, strict=True))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(there, again, strict=True)), "augmentation is not repeatable"


@check
def batches_stream_from_disk() -> None:
    data = learnable()
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", data.train.images)
        part = replace(data.train, images=np.load(f"{folder}/x.npy", mmap_mode="r"), on_disk=True)
        batches = EvaluationBatches(part, mean=data.mean, std=data.std, batch_size=64, device=DEVICE)
        assert sum(len(labels) for _, labels in batches) == len(part)


@cuda_check
def images_that_do_not_fit_are_streamed() -> str:
    """Compare with a training from the GPU's memory: results are bit-identical."""
    data, others = learnable(), learnable()
    there, first = trained(data=data)
    with streamed():
        here, second = trained(data=others)
        assert place(others.train, DEVICE)[0].device.type == "cpu"
    assert first.history == second.history
    assert are_equal(there, here)
    return f"{first.seconds:.2f} s from the GPU, {second.seconds:.2f} s streamed"


@cuda_check
def a_training_frees_its_memory_without_garbage_collection() -> str:
    data = learnable()
    trained(data=data)  # loads libraries and images, which stay in memory
    gc.collect()
    gc.disable()
    before = torch.cuda.memory_allocated()
    try:
        trained(data=data)
        after = torch.cuda.memory_allocated()
    finally:
        gc.enable()
    assert after <= before + 2**20, f"{before >> 10} KiB before, {after >> 10} KiB after"
    return f"{before >> 10} KiB before, {after >> 10} KiB after"


@cuda_check
def images_are_uploaded_once() -> None:
    data = learnable()
    trained(data=data)
    before = place(data.train, DEVICE)[0].data_ptr()
    trained(data=data)
    assert place(data.train, DEVICE)[0].data_ptr() == before


def _fits(name: str, *, graphed: bool, **settings: Any) -> None:
    def one() -> str:
        network, fitted = trained(**settings)
        assert next(network.parameters()).device.type == DEVICE.type and not network.training
        assert all(math.isfinite(record["validation_loss"]) for record in fitted.history)
        assert fitted.graphed == (graphed and IS_CUDA), f"graphed: {fitted.graphed} {fitted.graph_failure}"
        return f"error {fitted.validation_error:.3f}, {fitted.seconds:.2f} s"

    one.__name__ = name
    CHECKS.append((one, False))


_fits("fit_float32", graphed=True, recipe={"precision": "float32", "epochs": 4})
_fits("fit_bfloat16", graphed=True, recipe={"precision": "bfloat16", "epochs": 4})
_fits("fit_best_average_smoothing", graphed=True, recipe={"average": 0.9, "label_smoothing": 0.1, "keep": "best"})
_fits("fit_without_momentum", graphed=True, recipe={"momentum": 0.0})
_fits("fit_in_micro_batches", graphed=False, micro_batches=2)
_fits("fit_with_regularizer", graphed=False, recipe={"regularizer": 0.5})
_fits("fit_too_short_for_a_graph", graphed=False, recipe={"epochs": 1})


class Synchronizing(nn.Module):
    """Operation that cannot be captured: it waits for a value of the GPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1.0 if float(x.detach().sum()) > -1e9 else 0.0)


@cuda_check
def operations_that_cannot_be_captured_run_eagerly() -> str:
    plain, expected = trained(cuda_graphs=False)
    synchronizing, found = trained(network=nn.Sequential(*network_of(SMALL, "median"), Synchronizing()))
    assert not found.graphed and found.graph_failure
    assert [r["train_error"] for r in found.history] == [r["train_error"] for r in expected.history]
    assert trained()[1].graphed, "the next training is not captured"
    del plain, synchronizing
    return found.graph_failure


@cuda_check
def steps_never_wait() -> dict[str, list[int]]:
    """Count the synchronizations of each epoch of 16 steps, without graphs; one fetches the order of the images."""
    counts = {}
    settings: dict[str, dict[str, Any]] = {"plain": {}, "average": {"average": 0.9}, "regularizer": {"regularizer": 1}}
    for name, recipe in settings.items():
        found: list[int] = []
        before = Classifier.training_step

        def watched(self: Classifier, batches: Any, index: int, found: list[int] = found, before: Any = before) -> None:
            torch.cuda.set_sync_debug_mode("warn")
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                before(self, batches, index)
            torch.cuda.set_sync_debug_mode("default")
            found.append(sum("synchronizing" in str(w.message) for w in caught))

        Classifier.training_step = watched  # type: ignore[method-assign]
        try:
            trained(recipe=recipe, cuda_graphs=False)
        finally:
            Classifier.training_step = before  # type: ignore[method-assign]
            torch.cuda.set_sync_debug_mode("default")
        counts[name] = found
    assert max(map(max, counts.values())) <= 2, counts
    return counts


@cuda_check
def memory_is_freed_after_a_trial() -> str:
    """Report the MiB that torch uses and reserves after each of ten trials."""
    held = []
    for seed in range(10):
        evaluated(seed=seed)
        held.append((torch.cuda.memory_allocated() >> 20, torch.cuda.memory_reserved() >> 20))
    text = f"MiB used and reserved after each trial: {held}"
    if held[-1][1] > held[1][1] + 4:
        in_use = Counter(
            (segment["stream"], tuple(segment["segment_pool_id"]), block["size"] >> 10)
            for segment in torch.cuda.memory_snapshot()
            for block in segment["blocks"]
            if block["state"] == "active_allocated"
        )
        raise AssertionError(f"{text}; in use by (stream, pool, KiB): {in_use.most_common(12)}")
    return text


class Broken(ShapScorer):
    """Scorer that fails after it has used memory."""

    def score(self, *arguments: Any, **settings: Any) -> Any:
        super().score(*arguments, **settings)
        raise ValueError("made up")


@cuda_check
def memory_is_freed_after_a_failed_trial() -> str:
    """Report the MiB that torch uses after each of five trials."""
    data, held = learnable(), []
    for seed in range(5):
        assert evaluated(data=data, seed=seed, scorer=Broken()).reason == "error"
        held.append(torch.cuda.memory_allocated() >> 20)
    assert held[-1] <= held[0] + 1, held
    return f"MiB: {held}"


@cuda_check
def a_broken_context_ends_the_process_not_the_trial() -> str:
    """Run `evaluate` in a new process: it raises DeviceError after an assertion of a kernel."""
    code = """
from nasx.errors import DeviceError
from nasx.introspection.shap import ShapScorer
from scripts.bench.gpu_check.breaking import break_the_context
from scripts.bench.gpu_check.candidates import evaluated

class Breaking(ShapScorer):
    def score(self, *arguments, **settings):
        break_the_context()

try:
    print(evaluated(scorer=Breaking()))
except DeviceError as error:
    print("DeviceError", error.problem)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("DeviceError"), last
    return last


@check
def scorers() -> dict[str, float]:
    data, (network, _) = learnable(), trained()
    images, labels = pixels(data.validation, data)
    found = {}
    for scorer in (
        ShapScorer(),
        ShapScorer(path="quadrature"),
        ShapScorer(explain="predicted"),
        ActivationScorer(),
        ActivationScorer(group_by="predicted", layer_balanced=True),
    ):
        found[scorer.name] = round(scorer.score(network, images, labels, n_classes=10, seed=0).value, 4)
    return found


@check
def other_spaces() -> None:
    data, rng = learnable(), np.random.default_rng(0)
    for space in (Chain(), NASBench201XNAS(channels=8, cells=1)):
        genes = space.canonical(tuple(int(rng.integers(size)) for size in space.gene_sizes))
        while not space.is_connected(genes):
            genes = space.canonical(tuple(int(rng.integers(size)) for size in space.gene_sizes))
        trained(network=space.build(genes, input_shape=data.shape, n_classes=10), data=data)


@check
def any_model() -> str:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    images, labels = torch.rand(64, 3, 32, 32), torch.arange(64) % 10
    value = nasx.score(model.to(DEVICE).eval(), (images, labels)).value
    nasx.debug(model, (images, labels), (images.flip(3), labels))
    return f"{value:.3f}"


@check
def diagnostics() -> None:
    data, (network, _) = learnable(), trained()
    plant_label_errors(
        lambda: network_of(SMALL, "median"), data, SMALL.recipe, augmentation=AUGMENTATION, device=DEVICE
    )
    repair(network, data, (0, 1), SMALL.recipe, augmentation=AUGMENTATION, seeds=[0], device=DEVICE)
    explain(network, data, scorer=ShapScorer(), samples_per_class=1, draws=20)


@check
def one_image() -> None:
    data, (network, _) = learnable(), trained()
    explain_image(network, data, data.validation.images[0], name="one")


@check
def confidence_weights_and_export() -> None:
    data, (network, _) = learnable(), trained()
    confidence = fit_confidence(network, *pixels(data.validation, data), n_classes=10)
    file = Path(tempfile.mkdtemp(), "w.safetensors")
    save_weights(network, file)
    load_weights(network_of(SMALL, "median"), file)
    model = Deployed(network.cpu(), confidence, mean=data.mean.tolist(), std=data.std.tolist()).eval()
    torch.export.export(model, (torch.zeros(2, 3, 32, 32, dtype=torch.uint8),))


@check
def evaluation() -> str:
    found = evaluated()
    assert found.status == "complete", found.detail[-500:]
    assert not found.detail
    pickle.loads(pickle.dumps(found))
    return f"error {found.metrics['error']:.3f}, {found.train_seconds:.2f} + {found.score_seconds:.2f} s"


@check
def the_time_limit_holds() -> str:
    started = time.perf_counter()
    found = evaluated(replace(SMALL, recipe=replace(SMALL.recipe, epochs=500)), time_limit=3.0)
    assert found.reason == "timeout", found
    return f"{found.reason} after {time.perf_counter() - started:.1f} s"


@cuda_check
def out_of_memory_is_recognized() -> str:
    setting = replace(SMALL, images=4096, recipe=replace(SMALL.recipe, batch_size=4096, epochs=1))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.8 * 2**30 / total)
    try:
        found = [evaluated(setting, micro_batches=parts) for parts in (1, 2, 4, 8)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    states = ["out of memory" if each.reason == "out_of_memory" else str(each.status) for each in found]
    assert states[0] == "out of memory" and states[-1] != "out of memory", states
    return f"a batch in 1, 2, 4, 8 parts: {', '.join(states)}"
