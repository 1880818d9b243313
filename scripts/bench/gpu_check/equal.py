"""Checks that the GPU computes what the CPU computes, and that its results are repeatable."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasx.data.batches import Pixels
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.training.recipe import Recipe
from scripts.bench.gpu_check.candidates import SMALL, are_equal, pixels, real, trained
from scripts.bench.gpu_check.checking import DEVICE, IS_CUDA, check, cuda_check

CLOSE = 1e-3  # maximum difference of scores between the devices


@check
def scores() -> dict[str, Any]:
    data = real()
    network, _ = trained(data=data, setting=replace(SMALL, channels=16), recipe={"epochs": 3})
    found: dict[str, list[Any]] = {}
    for device in (DEVICE, torch.device("cpu")):
        network.to(device)
        images, labels = pixels(data.validation, data, device)
        for scorer in (ShapScorer(), ActivationScorer()):
            found.setdefault(scorer.name, []).append(scorer.score(network, images, labels, n_classes=10, seed=0))
    differences = {}
    for name, (there, here) in found.items():
        apart = float(np.nanmax(abs(there.distances - here.distances)))
        assert abs(there.value - here.value) < CLOSE, f"{name}: {there.value} and {here.value}"
        differences[name] = {"there": there.value, "cpu": here.value, "distances_differ_by_at_most": apart}
    return differences


@check
def scores_repeat() -> str:
    data = real()
    network, _ = trained(data=data, setting=replace(SMALL, channels=16), recipe={"epochs": 3})
    images = Pixels(data.validation, mean=data.mean, std=data.std, device=DEVICE)
    for scorer in (ShapScorer(), ActivationScorer(), ActivationScorer(group_by="predicted", layer_balanced=True)):
        one, other = (scorer.score(network, images, images.labels, n_classes=10, seed=0) for _ in range(2))
        assert one.value == other.value, f"{scorer.name}: {one.value} and {other.value}"
        assert np.array_equal(one.distances, other.distances, equal_nan=True), scorer.name
    return "equal, bit for bit"


@cuda_check
def graphs_change_no_result() -> str:
    for recipe in ({"precision": "float32"}, {"precision": "bfloat16"}, {"average": 0.9, "keep": "best"}):
        (eager, one), (graphed, two) = (trained(data=real(), recipe=recipe, cuda_graphs=graphs) for graphs in (0, 1))
        assert two.graphed
        for a, b in zip(one.history, two.history, strict=True):
            assert a == b, f"{recipe}: {a} and {b}"
        for a, b in zip(eager.state_dict().values(), graphed.state_dict().values(), strict=True):
            assert torch.equal(a, b), recipe
    return "histories and weights are equal, bit for bit"


@check
def the_same_seed_twice() -> str:
    (one, first), (two, second) = (trained(data=real()) for _ in range(2))
    assert first.history == second.history
    assert are_equal(one, two)
    return "histories and weights are equal, bit for bit"


@check
def a_checkpoint_resumes_to_the_same_result() -> str:
    file = Path(tempfile.mkdtemp(), "checkpoint.safetensors")
    recipe = {"epochs": 4, "average": 0.9}
    whole = trained(recipe=recipe)[1]

    def stop(record: Any) -> None:
        if record["epoch"] == 2:
            raise KeyError("killed")

    with suppress(KeyError):
        trained(recipe=recipe, checkpoint=file, report=stop)
    rest = trained(recipe=recipe, checkpoint=file)[1]
    assert whole.history == rest.history
    return "equal"


@check
def errors_of_three_seeds() -> dict[str, Any]:
    """Compare validation errors in bfloat16 and float32."""
    data = real()
    size = {"channels": 16, "cells": 2} if IS_CUDA else {"channels": 8, "cells": 1}
    setting = replace(SMALL, **size, recipe=Recipe(epochs=4, batch_size=128, keep="last"))
    found = {}
    for precision in ("bfloat16", "float32"):
        fitted = [
            trained(setting=setting, data=data, recipe={"precision": precision}, seed=seed)[1] for seed in range(3)
        ]
        found[precision] = [round(each.validation_error, 4) for each in fitted]
    low, exact = (np.array(each) for each in found.values())
    assert low.mean() <= exact.mean() + 2 * max(exact.std(ddof=1), 0.005), found
    return found
