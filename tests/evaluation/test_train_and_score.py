"""Evaluation of one candidate: complete results, and failures."""

from __future__ import annotations

import errno
import gc
import pickle
import signal
import time
import weakref
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches, Pixels
from nasx.data.dataset import LabeledImages, SearchData, write_rows
from nasx.data.splits import split
from nasx.data.synthetic import Lines
from nasx.errors import DeviceError, ResourceError, RunError, TrialFailure
from nasx.evaluation import train_and_score
from nasx.evaluation.train_and_score import EvaluationSpec, Job, better_than_chance, evaluate
from nasx.evaluation.weights import load_weights
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.spaces.nb201 import NASBench201
from nasx.training.recipe import Recipe
from nasx.trial import Bounds, Reason, Rival, Rung, Score, TrialStatus

GENOTYPE = (3, 1, 0, 1, 0, 3)


class Exploding:
    """A scorer with a bug."""

    name = "exploding"

    def score(self, *args, **kwargs):
        raise ZeroDivisionError("a bug in a scorer")


class Sleeping:
    """A scorer that does not end."""

    name = "sleeping"

    def score(self, *args, **kwargs):
        time.sleep(60)


@pytest.fixture(scope="module")
def data() -> SearchData:
    return split(Lines(train_images=400).train(), seed=0)


@pytest.fixture
def spec() -> EvaluationSpec:
    return EvaluationSpec(
        space=NASBench201(channels=4, cells=1),
        recipe=Recipe(epochs=4, batch_size=32, precision="float32"),
        augmentation=Augmentation(crop_padding=0, cutout=0),
        scorer=ShapScorer(samples_per_class=4, draws=4, background=8),
        also_scored=(ActivationScorer(),),
        device="cpu",
    )


@pytest.fixture
def job(tmp_path) -> Job:
    return Job(
        arch_id="a", replicate=0, genotype=GENOTYPE, seed=0, weights_file=tmp_path / "archs/a/weights.safetensors"
    )


def test_a_complete_evaluation_has_every_metric_both_scores_and_the_weights(job, spec, data):
    evaluation = evaluate(job, spec, data)

    assert evaluation.status is TrialStatus.COMPLETE
    metrics = evaluation.metrics
    assert {"error", "introspectability", "parameters", "macs"} <= metrics.keys()
    assert [score.scorer for score in evaluation.scores] == ["shap", "activations"]
    assert metrics["introspectability"] == metrics["introspectability_shap"] == evaluation.scores[0].value
    assert evaluation.scores[0].distances.shape == (4, 4)
    assert list(evaluation.scores[0].profile) == ["stem", "stage1", "stage2"]
    assert len(evaluation.history) == 4

    rebuilt = spec.space.build(GENOTYPE, input_shape=data.shape, n_classes=4)
    load_weights(rebuilt, job.weights_file)


def test_spec_and_evaluation_can_be_sent_to_another_process(job, spec, data):
    evaluation = evaluate(*pickle.loads(pickle.dumps((job, spec, data))))

    assert pickle.loads(pickle.dumps(evaluation)).metrics == evaluation.metrics


def test_the_same_job_has_the_same_result(job, spec, data):
    one, other = evaluate(job, spec, data), evaluate(job, spec, data)

    assert one.metrics == other.metrics
    assert one.history == other.history
    np.testing.assert_array_equal(one.scores[0].distances, other.scores[0].distances)


def test_a_bug_in_a_scorer_fails_only_this_trial_and_keeps_its_traceback(job, spec, data):
    evaluation = evaluate(job, replace(spec, scorer=Exploding()), data)

    assert (evaluation.status, evaluation.reason) == (TrialStatus.FAILED, Reason.ERROR)
    assert "ZeroDivisionError: a bug in a scorer" in evaluation.detail
    assert evaluation.metrics["parameters"] > 0
    assert not job.weights_file.exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("unable to mmap 4096 bytes from file </w>: Cannot allocate memory (12)"),
        RuntimeError("std::bad_alloc"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("GET was unable to find an engine: Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
    ids=lambda error: str(error)[:40],
)
def test_out_of_memory_errors_of_all_kinds_are_recognized(job, spec, data, monkeypatch, error):
    def fit(*_, **__):
        raise error

    monkeypatch.setattr("nasx.training.fit.fit", fit)
    found = evaluate(job, spec, data)
    assert found.reason is Reason.OUT_OF_MEMORY
    assert found.detail


def test_another_error_of_a_gpu_is_not_out_of_memory(job, spec, data, monkeypatch):
    def fit(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("nasx.training.fit.fit", fit)
    assert evaluate(job, spec, data).reason is Reason.ERROR


@pytest.fixture
def failing(monkeypatch):
    """Make trainings fail with an error, on a fake GPU whose later calls raise `persistent`."""

    def fail(error: Exception, persistent: Exception | None = None) -> list[str]:
        calls = []

        def fit(*_, **__):
            raise error

        def call(name: str) -> None:
            calls.append(name)
            if persistent is not None:
                raise persistent

        monkeypatch.setattr("nasx.training.fit.fit", fit)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: call("synchronize"))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: call("empty_cache"))
        return calls

    return fail


ILLEGAL = "CUDA error: an illegal memory access was encountered"


@pytest.mark.parametrize(
    "error", [ValueError("of a later call"), TrialFailure(Reason.TIMEOUT, "too slow"), torch.OutOfMemoryError("CUDA")]
)
def test_a_broken_device_ends_the_process_instead_of_the_trial(job, spec, data, failing, error):
    calls = failing(error, persistent=RuntimeError(f"{ILLEGAL}\nCUDA kernel errors might be asynchronously reported"))

    with pytest.raises(DeviceError, match=f"^this process can no longer use the GPU: {ILLEGAL}") as raised:
        evaluate(job, spec, data)

    assert calls[0] == "synchronize"
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_an_accelerator_error_ends_the_process(job, spec, data, failing):
    failing(torch.AcceleratorError(ILLEGAL))

    with pytest.raises(DeviceError, match="illegal memory access"):
        evaluate(job, spec, data)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.AcceleratorError("CUDA error: out of memory"), Reason.OUT_OF_MEMORY),
        (ValueError("a bug"), Reason.ERROR),
        (TrialFailure(Reason.DIVERGED, "the loss was nan"), Reason.DIVERGED),
    ],
)
def test_an_error_that_does_not_break_the_device_fails_the_trial_and_frees_its_memory(
    job, spec, data, failing, error, reason
):
    calls = failing(error)

    assert evaluate(job, spec, data).reason is reason
    assert calls == ["synchronize", "empty_cache"]


class Cyclic(ShapScorer):
    """A scorer that fails and keeps the network in a reference cycle."""

    left: ClassVar[list[weakref.ref]] = []

    def score(self, network, *arguments, **settings):
        cycle = [network]
        cycle.append(cycle)
        self.left.append(weakref.ref(network))
        raise MemoryError


def test_after_a_failure_nothing_is_left_in_memory(job, spec, data):
    gc.disable()
    try:
        failed = evaluate(job, replace(spec, scorer=Cyclic()), data)
        left = [network() for network in Cyclic.left]
    finally:
        gc.enable()
    assert failed.reason is Reason.OUT_OF_MEMORY
    assert len(left) == 11  # batches were halved ten times
    assert left == [None] * len(left)


def test_divergence_is_a_failure_with_its_reason(job, spec, data):
    evaluation = evaluate(job, replace(spec, recipe=Recipe(epochs=1, learning_rate=1e30, precision="float32")), data)

    assert evaluation.reason is Reason.DIVERGED
    assert "the validation loss was nan" in evaluation.detail


def test_a_network_that_has_not_learned_the_task_is_infeasible(job, spec, data):
    evaluation = evaluate(job, replace(spec, recipe=Recipe(epochs=1, learning_rate=0, precision="float32")), data)

    assert (evaluation.status, evaluation.reason) == (TrialStatus.INFEASIBLE, Reason.CHANCE_LEVEL)
    assert "is not better than guessing" in evaluation.detail


def test_a_cheap_constraint_is_checked_before_training(job, spec, data):
    evaluation = evaluate(job, replace(spec, constraints={"parameters": Bounds(max=10)}), data)

    assert (evaluation.status, evaluation.reason) == (TrialStatus.INFEASIBLE, Reason.CONSTRAINT)
    assert "parameters" in evaluation.detail
    assert evaluation.history == ()


def test_a_constraint_on_a_trained_metric_is_checked_after_training(job, spec, data):
    evaluation = evaluate(job, replace(spec, constraints={"train_error": Bounds(min=0.99)}), data)

    assert (evaluation.status, evaluation.reason) == (TrialStatus.INFEASIBLE, Reason.CONSTRAINT)
    assert len(evaluation.history) == 4
    assert not job.weights_file.exists()


def test_a_trial_that_takes_too_long_is_stopped(job, spec, data):
    handler = signal.getsignal(signal.SIGALRM)

    evaluation = evaluate(job, replace(spec, scorer=Sleeping(), time_limit=2.0), data)

    assert evaluation.reason is Reason.TIMEOUT
    assert "took longer than search.time_limit, 2 s" in evaluation.detail
    assert signal.getsignal(signal.SIGALRM) is handler


def test_a_training_that_can_no_longer_reach_the_front_is_stopped_and_keeps_its_history(job, spec, data):
    whole = evaluate(job, spec, data)
    job.weights_file.unlink()
    rungs = tuple(Rung(epoch, {"error": 0.0, "macro_error": 0.0}) for epoch in (2, 3))
    hopeless = replace(job, rungs=rungs, rivals=(Rival("best", {"error": 0.0}),))

    evaluation = evaluate(hopeless, spec, data)

    assert (evaluation.status, evaluation.reason) == (TrialStatus.INFEASIBLE, Reason.DOMINATED)
    assert evaluation.detail.startswith("stopped after epoch 2: the validation error was ")
    assert evaluation.detail.endswith("dominated by best with error 0.00%")
    assert evaluation.history == whole.history[:2]
    assert evaluation.metrics == {name: whole.metrics[name] for name in ("parameters", "macs")}
    assert evaluation.train_seconds > 0
    assert not job.weights_file.exists()


def test_rungs_do_not_change_a_training_that_may_reach_the_front(job, spec, data):
    rungs = tuple(Rung(epoch, {"error": 1.0, "macro_error": 1.0}) for epoch in (1, 2, 3))
    watched = replace(job, rungs=rungs, rivals=(Rival("best", {"error": 0.01}),))

    assert evaluate(watched, spec, data).metrics == evaluate(job, spec, data).metrics


def test_a_trial_without_progress_is_stopped_and_keeps_its_partial_result(job, spec, data):
    evaluation = evaluate(job, replace(spec, scorer=Sleeping(), stall_limit=2.0), data)

    assert (evaluation.status, evaluation.reason) == (TrialStatus.FAILED, Reason.TIMEOUT)
    assert evaluation.detail == "no progress within search.stall_limit, 2 s"
    assert len(evaluation.history) == 4
    assert evaluation.metrics["error"] < 0.75


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_missing_gpu_is_reported_to_the_user(job, spec, data):
    with pytest.raises(ResourceError, match=r"execution\.device is cuda, but torch sees no GPU"):
        evaluate(job, replace(spec, device="cuda"), data)


def test_corrupt_weights_are_reported(job, spec, data):
    evaluate(job, spec, data)
    job.weights_file.write_bytes(job.weights_file.read_bytes()[:-8])

    with pytest.raises(RunError, match=r"the weights .* cannot be used"):
        load_weights(spec.space.build(GENOTYPE, input_shape=data.shape, n_classes=4), job.weights_file)


@pytest.mark.parametrize(
    ("counts", "error", "learned"),
    [
        ([50, 50], 0.5, False),  # a random guess
        ([50, 50], 0.36, False),  # within three standard errors, 0.15
        ([50, 50], 0.34, True),
        ([90, 10], 0.1, False),  # always the most common class
        ([90, 10], 0.005, True),
    ],
)
def test_chance_is_the_most_common_class_within_three_standard_errors(counts, error, learned):
    labels = np.repeat(np.arange(2), counts)
    images = LabeledImages(np.zeros((100, 1, 1, 1), np.uint8), labels, ("a", "b"))

    assert better_than_chance(error, images) is learned


SCORERS = (
    ShapScorer(samples_per_class=5),
    ShapScorer(samples_per_class=5, path="quadrature", explain="predicted"),
    ActivationScorer(),
    ActivationScorer(group_by="predicted", layer_balanced=True, max_samples=50),
)


@pytest.fixture(scope="module")
def network(data):
    torch.manual_seed(0)
    return NASBench201(channels=4, cells=1).build((3, 1, 2, 4, 0, 3), input_shape=data.shape, n_classes=data.n_classes)


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.name)
def test_scorers_have_the_same_score_for_batches_and_for_a_tensor(scorer, data, network):
    pixels = Pixels(data.validation, mean=data.mean, std=data.std)
    settings = {"n_classes": data.n_classes, "seed": 3}

    fetched = scorer.score(network, pixels, pixels.labels, **settings)
    whole = scorer.score(network, pixels[:], pixels.labels, **settings)

    # with one channel the strides of a batch differ, and so does the rounding of the first convolution
    assert fetched.value == pytest.approx(whole.value, rel=1e-6)
    np.testing.assert_allclose(fetched.distances, whole.distances, rtol=1e-5)


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.name)
def test_a_scorer_in_parts_needs_smaller_batches_for_the_same_score(scorer, data, network, monkeypatch):
    pixels = Pixels(data.validation, mean=data.mean, std=data.std)
    settings = {"n_classes": data.n_classes, "seed": 3}
    sizes: list[int] = []
    handles = [module.register_forward_hook(lambda m, i, o: sizes.append(len(o))) for module in network]

    whole, largest = scorer.score(network, pixels, pixels.labels, **settings), max(sizes)
    sizes.clear()
    split = scorer.in_parts(16).score(network, pixels, pixels.labels, **settings)

    for handle in handles:
        handle.remove()
    assert scorer.parts == 1
    assert max(sizes) < largest
    assert split.value == pytest.approx(whole.value, rel=1e-4)


class Recording(ActivationScorer):
    """A scorer that records its arguments."""

    seen: ClassVar[list[object]] = []

    def score(self, network, images, labels, *, n_classes, seed):
        self.seen.append((type(images), self.parts))
        return super().score(network, images, labels, n_classes=n_classes, seed=seed)


class Own:
    """A scorer of a user."""

    name = "own"
    seen: ClassVar[list[object]] = []

    def score(self, network, images, labels, *, n_classes, seed):
        self.seen.append((type(images), images.shape))
        return ActivationScorer().score(network, images, labels, n_classes=n_classes, seed=seed)


def test_scorers_of_users_receive_a_tensor_and_others_batches_in_the_parts_of_the_training(job, spec, data):
    evaluate(replace(job, micro_batches=4), replace(spec, scorer=Recording(), also_scored=(Own(),)), data)

    assert Recording.seen == [(Pixels, 4)]
    assert Own.seen == [(torch.Tensor, (len(data.validation), *data.shape))]


class Tight(ShapScorer):
    """A scorer that runs out of memory unless its batches have eight parts."""

    tried: ClassVar[list[int]] = []

    def score(self, *arguments, **settings):
        self.tried.append(self.parts)
        if self.parts < 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().score(*arguments, **settings)


def test_a_scorer_that_runs_out_of_memory_halves_its_batches_without_another_training(job, spec, data):
    tight = evaluate(job, replace(spec, scorer=Tight(samples_per_class=4, draws=4, background=8)), data)
    ample = evaluate(job, spec, data)

    assert Tight.tried == [1, 2, 4, 8]
    assert tight.status is TrialStatus.COMPLETE
    assert tight.metrics["error"] == ample.metrics["error"]
    assert tight.metrics["introspectability"] == pytest.approx(ample.metrics["introspectability"], rel=1e-4)


def test_samples_that_are_explained_in_parts_have_the_same_score(data, network, monkeypatch):
    pixels = Pixels(data.validation, mean=data.mean, std=data.std)
    settings = {"n_classes": data.n_classes, "seed": 3}
    for path in ("random", "quadrature"):
        scorer = ShapScorer(samples_per_class=8, path=path)
        at_once = scorer.score(network, pixels, pixels.labels, **settings)
        with monkeypatch.context() as patch:
            patch.setattr("nasx.introspection.shap.SAMPLES_AT_ONCE", 5)
            in_turn = scorer.score(network, pixels, pixels.labels, **settings)
        np.testing.assert_allclose(in_turn.distances, at_once.distances, rtol=1e-4)


def test_validation_batches_are_split_like_training_batches(job, spec, data, monkeypatch):
    sizes: list[int] = []
    finish = EvaluationBatches._finish

    def noted(self, images):
        sizes.append(len(images))
        return finish(self, images)

    monkeypatch.setattr(EvaluationBatches, "_finish", noted)
    monkeypatch.setattr("nasx.training.fit.EVALUATION_BATCH", 64)
    evaluate(replace(job, micro_batches=8), spec, data)

    assert max(sizes) <= max(64 // 8, spec.recipe.batch_size // 8 + 1)


def test_an_error_at_three_standard_errors_below_chance_has_not_learned():
    images = LabeledImages(np.zeros((36, 1, 8, 8), np.uint8), np.arange(36) % 2, ("a", "b"))

    # chance is 0.5, its standard error 0.5 / 6
    assert not better_than_chance(0.25, images)
    assert better_than_chance(0.2499, images)


def test_images_on_disk_are_scored_up_to_a_number_that_fits_into_memory(network, data, spec, tmp_path, monkeypatch):
    class Counting:
        name = "counting"

        def score(self, network, images, labels, *, n_classes, seed):
            seen.append(labels.tolist())
            return Score("counting", 0.0, {}, np.zeros((n_classes, n_classes)), len(labels), 0.0)

    seen: list[list[int]] = []
    rows = write_rows(tmp_path / "images.npy", data.train.images.shape, iter([data.train.images]))
    labels = np.arange(len(rows))  # each names its image
    stored = LabeledImages(rows, labels, tuple(map(str, labels)), on_disk=True)
    counting = replace(spec, scorer=Counting(), also_scored=())
    for most in (7, len(rows)):
        monkeypatch.setattr(train_and_score, "MAX_SCORED_IMAGES", most)
        train_and_score.take_scores(network, stored, data, counting, torch.device("cpu"))

    few, all_labels = seen
    assert len(few) == 7 and few == sorted(set(few))
    assert few != list(range(7))  # drawn from all images
    assert all_labels == labels.tolist()
