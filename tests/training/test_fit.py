"""Training: schedule, kept weights, determinism, divergence, checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import SearchData
from nasx.data.splits import split
from nasx.data.synthetic import Lines
from nasx.errors import RunError, TrialFailure
from nasx.introspection.activations import ActivationScorer
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import fit
from nasx.training.lightning_module import Classifier, WeightAverage
from nasx.training.recipe import Recipe, learning_rate_factor

CPU = torch.device("cpu")
PLAIN = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


@pytest.fixture(scope="module")
def data() -> SearchData:
    return split(Lines(train_images=400).train(), seed=0)


def network(data: SearchData, seed: int = 0) -> torch.nn.Sequential:
    space = NASBench201(channels=4, cells=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build((3, 1, 0, 1, 0, 3), input_shape=data.shape, n_classes=data.n_classes)


def recipe(**changes) -> Recipe:
    return Recipe(**{"epochs": 3, "batch_size": 32, "precision": "float32", **changes})


def test_the_learning_rate_rises_over_the_warm_up_then_falls_to_zero():
    factors = [learning_rate_factor(step, steps=100, warmup_steps=10) for step in range(101)]

    assert factors[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0)


def test_a_warm_up_shorter_than_a_step_changes_nothing():
    assert learning_rate_factor(0, steps=10, warmup_steps=0.5) == 1


def test_a_training_runs_through_the_whole_schedule(data):
    fitted = fit(network(data), data, recipe(epochs=4, learning_rate=0.2), augmentation=PLAIN, seed=0, device=CPU)

    # after e of 4 epochs, of which the first half is warm-up: 0.1 (1 + cos(pi (e - 0.5) / 3.5))
    expected = [0.1 * (1 + np.cos(np.pi * (epoch - 0.5) / 3.5)) for epoch in (1, 2, 3, 4)]
    assert [record["learning_rate"] for record in fitted.history] == pytest.approx(expected, abs=1e-12)


def test_the_warm_up_takes_its_share_of_the_steps_of_an_epoch(data):
    classifier = Classifier(network(data), recipe(learning_rate=1.0, warmup_epochs=0.5), steps_per_epoch=10)

    rates = []
    for classifier.updates in range(6):
        rates.append(classifier.learning_rate)

    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_the_optimizer_is_sgd_with_nesterov_momentum_and_weight_decay(data):
    (group,) = Classifier(network(data), Recipe(), 1).configure_optimizers().param_groups

    chosen = {name: group[name] for name in ("lr", "momentum", "nesterov", "weight_decay", "dampening")}
    assert chosen == {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "dampening": 0}


def test_a_classifier_computes_in_float32_by_default(data):
    classifier = Classifier(network(data), Recipe(), 1)

    with classifier.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)

    assert product.dtype == torch.float32


def test_an_average_keeps_as_much_of_itself_as_its_decay_says():
    network = torch.nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, decay=0.9)
    for value in (1.0, 2.0):
        torch.nn.init.constant_(network.weight, value)
        average.update(network)

    assert average.module.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 2)


def test_of_epochs_with_the_same_error_the_first_is_kept(data):
    torch.manual_seed(0)
    still = recipe(epochs=2, learning_rate=0.0)  # the weights stay; only the statistics of batch normalization move
    trained = network(data)
    after_one = network(data)

    fitted = fit(trained, data, still, augmentation=PLAIN, seed=0, device=CPU)
    fit(after_one, data, recipe(epochs=1, learning_rate=0.0), augmentation=PLAIN, seed=0, device=CPU)

    assert len({record["validation_error"] for record in fitted.history}) == 1
    assert all(torch.equal(a, b) for a, b in zip(weights(trained), weights(after_one), strict=True))


def test_training_learns_the_lines(data):
    fitted = fit(network(data), data, recipe(epochs=8), augmentation=PLAIN, seed=0, device=CPU)

    assert fitted.validation_error < 0.1
    assert [record["epoch"] for record in fitted.history] == list(range(1, 9))


def test_the_same_seed_gives_the_same_weights_to_the_last_bit(data):
    one, other = network(data), network(data)

    fits = [fit(n, data, recipe(), augmentation=PLAIN, seed=3, device=CPU) for n in (one, other)]

    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert fits[0].history == fits[1].history


def test_another_seed_gives_another_order_of_images(data):
    one, other = network(data), network(data)

    for n, seed in ((one, 0), (other, 1)):
        fit(n, data, recipe(epochs=1), augmentation=PLAIN, seed=seed, device=CPU)

    assert not torch.equal(one.state_dict()["head.4.weight"], other.state_dict()["head.4.weight"])


def test_global_generators_are_unchanged(data):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002

    fit(network(data), data, recipe(epochs=1), augmentation=Augmentation(), seed=0, device=CPU)

    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@torch.no_grad()
def error_of(trained: torch.nn.Module, data: SearchData) -> float:
    images = (torch.from_numpy(data.validation.images) / 255 - data.mean.item()) / data.std.item()
    return (trained(images).argmax(1).numpy() != data.validation.labels).mean()


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_network_ends_with_the_weights_of_the_epoch_that_is_kept(data, keep):
    trained = network(data)

    fitted = fit(trained, data, recipe(epochs=4, keep=keep), augmentation=PLAIN, seed=1, device=CPU)

    errors = [record["validation_error"] for record in fitted.history]
    assert fitted.validation_error == (min(errors) if keep == "best" else errors[-1])
    assert not trained.training
    assert error_of(trained, data) == pytest.approx(fitted.validation_error, abs=1 / len(data.validation))


def test_bfloat16_learns_as_float32_does(data):
    fitted = fit(network(data), data, recipe(epochs=8, precision="bfloat16"), augmentation=PLAIN, seed=0, device=CPU)

    assert fitted.validation_error < 0.1


def test_a_loss_that_is_not_finite_fails_the_trial(data):
    with pytest.raises(TrialFailure, match="diverged: the training loss was nan in epoch"):
        fit(network(data), data, recipe(learning_rate=1e30), augmentation=PLAIN, seed=0, device=CPU)


def test_settings_at_their_bounds_are_accepted():
    Recipe(epochs=1, batch_size=2, learning_rate=0, momentum=0, weight_decay=0, warmup_epochs=0, regularizer=0)
    Recipe(label_smoothing=0, average=0)


def test_the_regularizer_makes_a_network_more_introspectable_and_its_loss_stays_cross_entropy(data):
    scores = {}
    for weight in (0.0, 0.5):
        trained = network(data)
        fitted = fit(trained, data, recipe(epochs=5, regularizer=weight), augmentation=PLAIN, seed=0, device=CPU)
        images = (torch.from_numpy(data.validation.images).float() / 255 - data.mean.item()) / data.std.item()
        labels = torch.from_numpy(data.validation.labels)
        scores[weight] = ActivationScorer().score(trained, images, labels, n_classes=data.n_classes, seed=0).value
        assert fitted.history[-1]["train_loss"] < 0.7  # similarities would add to it
    assert scores[0.5] > scores[0.0] + 0.05


class Killed(BaseException):
    """Raised in place of a kill signal."""


def weights(trained: torch.nn.Module) -> list[torch.Tensor]:
    return list(trained.state_dict().values())


@pytest.mark.parametrize(
    "changes", [{}, {"average": 0.9, "label_smoothing": 0.1}, {"keep": "best", "regularizer": 0.5}]
)
@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_killed_training_continues_from_its_checkpoint_to_the_same_weights(data, tmp_path, changes, killed_after):
    course = {"augmentation": Augmentation(), "seed": 3, "device": CPU}
    undisturbed, resumed = network(data), network(data, seed=1)  # other initial weights: the checkpoint replaces them
    whole = fit(undisturbed, data, recipe(**changes), **course)

    def kill(record):
        if record["epoch"] == killed_after:
            raise Killed

    with pytest.raises(Killed):
        fit(network(data), data, recipe(**changes), **course, checkpoint=tmp_path / "c.safetensors", report=kill)
    rest = fit(resumed, data, recipe(**changes), **course, checkpoint=tmp_path / "c.safetensors")

    assert rest.history == whole.history
    assert all(torch.equal(a, b) for a, b in zip(weights(resumed), weights(undisturbed), strict=True))


def test_a_checkpoint_of_another_training_is_refused(data, tmp_path):
    course = {"augmentation": PLAIN, "device": CPU, "checkpoint": tmp_path / "c.safetensors"}
    fit(network(data), data, recipe(epochs=1), seed=0, **course)

    with pytest.raises(RunError, match=r"the checkpoint .*c.safetensors belongs to another training. Remove it"):
        fit(network(data), data, recipe(epochs=1), seed=1, **course)


def test_the_average_of_the_weights_replaces_them(data):
    plain, averaged = network(data), network(data)

    fit(plain, data, recipe(), augmentation=PLAIN, seed=0, device=CPU)
    fitted = fit(averaged, data, recipe(average=0.9), augmentation=PLAIN, seed=0, device=CPU)

    assert not torch.equal(plain.head[4].weight, averaged.head[4].weight)
    assert error_of(averaged, data) == pytest.approx(fitted.validation_error, abs=1 / len(data.validation))


def test_smoothed_labels_raise_the_loss_but_not_the_error_of_a_network_that_learns(data):
    losses = []
    for share in (0.0, 0.2):
        fitted = fit(
            network(data), data, recipe(epochs=6, label_smoothing=share), augmentation=PLAIN, seed=0, device=CPU
        )
        losses.append(fitted.history[-1]["train_loss"])
        assert fitted.validation_error < 0.15
    assert losses[1] > losses[0] + 0.1


def test_a_loaded_average_reports_keys_that_do_not_fit_and_continues_where_it_was(data):
    first, second = WeightAverage(torch.nn.Linear(2, 1), 0.5), WeightAverage(torch.nn.Linear(2, 1), 0.5)
    first.update(torch.nn.Linear(2, 1))

    found = second.load_state_dict({**first.state_dict(), "unknown": torch.zeros(1)}, strict=False)

    assert found.unexpected_keys == ["unknown"]
    second.update(new := torch.nn.Linear(2, 1))  # an average that was empty would copy these weights
    assert torch.allclose(second.module.weight, (first.module.weight + new.weight) / 2)


def test_reasons_why_graphs_were_not_captured_are_listed_without_those_that_were():
    from nasx.training.fit import _result

    steps = {"training": SimpleNamespace(is_captured=True, failure=""), "validation": SimpleNamespace(failure="no")}

    found = _result([], {"validation_error": 0.25, "validation_macro_error": 0.5}, steps, seconds=1.5)

    assert (found.graphed, found.graph_failure, found.seconds) == (True, "validation: no", 1.5)


def test_dropout_depends_only_on_the_seed_and_leaves_the_generator_of_torch_as_it_was(data):
    def trained(global_seed):
        made = network(data)
        made.head.insert(len(made.head) - 1, torch.nn.Dropout(0.5))
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        fit(made, data, recipe(epochs=2), augmentation=PLAIN, seed=0, device=CPU)
        assert torch.equal(torch.get_rng_state(), before)
        return made.state_dict()

    with torch.random.fork_rng(devices=[]):
        first, second = trained(1), trained(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
