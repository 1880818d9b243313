"""Batches for training and evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches, TrainingBatches, normalize
from nasx.data.dataset import LabeledImages
from nasx.errors import SettingError

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)

MEAN, STD = np.array([0.5, 0.25, 0], np.float32), np.array([0.25, 0.5, 1], np.float32)


def numbered(n: int) -> LabeledImages:
    """Return n images; the label of each is its index."""
    images = np.random.default_rng(0).integers(256, size=(n, 3, 8, 8), dtype=np.uint8)
    return LabeledImages(images, np.arange(n), tuple(str(i) for i in range(n)))


def training(n: int = 10, **changed) -> TrainingBatches:
    settings = {"mean": MEAN, "std": STD, "batch_size": 4, "augmentation": NO_AUGMENTATION, "seed": 0}
    return TrainingBatches(numbered(n), **(settings | changed))


def evaluation(n: int = 10, **changed) -> EvaluationBatches:
    return EvaluationBatches(numbered(n), **({"mean": MEAN, "std": STD, "batch_size": 4} | changed))


def labels_of(batches) -> list[int]:
    return [int(label) for _, labels in batches for label in labels]


def test_normalize_scales_the_pixels_by_channel():
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(normalize(images, MEAN, STD).flatten(), torch.tensor([-2.0, 1.5, 0.2]))


@pytest.mark.parametrize("make", [training, evaluation])
@given(n=st.integers(2, 40), batch_size=st.integers(2, 12))
def test_an_epoch_has_every_image_once_in_as_many_batches_as_its_length_says(make, n, batch_size):
    batches = make(n, batch_size=batch_size)
    sizes = [len(labels) for _, labels in batches]
    assert len(sizes) == len(batches)
    assert sorted(labels_of(batches)) == list(range(n))


@given(n=st.integers(2, 40), batch_size=st.integers(2, 12))
def test_no_training_batch_is_a_single_image_and_only_the_last_differs_in_size(n, batch_size):
    sizes = [len(labels) for _, labels in training(n, batch_size=batch_size)]
    assert min(sizes) >= 2
    assert max(sizes) <= batch_size + 1
    assert set(sizes[:-1]) <= {batch_size}


def test_each_image_comes_normalized_with_its_own_label():
    batches = training()
    expected = normalize(torch.from_numpy(numbered(10).images), MEAN, STD)
    for images, labels in batches:
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        torch.testing.assert_close(images, expected[labels])


def test_evaluation_keeps_the_order_every_time():
    batches = evaluation()
    assert labels_of(batches) == labels_of(batches) == list(range(10))


def test_every_epoch_has_an_order_of_its_own():
    batches = training(50)
    assert labels_of(batches) != labels_of(batches)


def test_order_and_augmentation_depend_only_on_seed_and_epoch():
    settings = {"augmentation": Augmentation(horizontal_flip=True), "seed": 7}
    went_on, set_ahead, other = training(50, **settings), training(50, **settings), training(50, seed=8)
    for _ in went_on:
        pass
    set_ahead.epoch = 1
    other.epoch = 1
    first, second = list(went_on), list(set_ahead)
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    assert labels_of(first) == labels_of(second) != labels_of(other)


def test_an_epoch_broken_off_counts_as_one():
    batches = training(50)
    next(iter(batches))
    assert batches.epoch == 1


def test_training_images_are_augmented():
    plain, augmented = training(4), training(4, augmentation=Augmentation(crop_padding=0, cutout=0.5))
    (images, labels), (cut, cut_labels) = next(iter(plain)), next(iter(augmented))
    assert torch.equal(labels, cut_labels)
    changed = images != cut
    assert changed.any()
    assert (cut[changed] == 0).all()  # the mean color


@pytest.mark.parametrize("make", [training, evaluation])
def test_channels_last_changes_the_memory_and_not_the_values(make):
    last, first = next(iter(make(channels_last=True)))[0], next(iter(make()))[0]
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    assert torch.equal(last, first)


def test_the_global_generator_is_not_touched():
    state = torch.get_rng_state()
    list(training(augmentation=Augmentation(horizontal_flip=True)))
    assert torch.equal(torch.get_rng_state(), state)


def test_read_only_arrays_are_taken_without_a_copy_or_a_warning():
    data = numbered(10)
    data.images.setflags(write=False)
    batches = EvaluationBatches(data, mean=MEAN, std=STD, batch_size=4)
    assert batches.pixels.images.data_ptr() == data.images.__array_interface__["data"][0]


@pytest.mark.parametrize("make", [training, evaluation])
def test_a_batch_size_below_two_is_reported(make):
    with pytest.raises(SettingError, match=r"^batch_size must be at least 2, got 1$"):
        make(batch_size=1)


class Counting(pl.LightningModule):
    """Records the labels that Lightning passes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3 * 64, 10)
        self.trained: list[list[int]] = []
        self.validated: list[int] = []

    def on_train_epoch_start(self) -> None:
        self.trained.append([])

    def training_step(self, batch, _):
        images, labels = batch
        self.trained[-1] += labels.tolist()
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch, _):
        self.validated += batch[1].tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.filterwarnings("ignore")  # warnings of Lightning about the number of workers and steps
def test_lightning_takes_them_in_place_of_data_loaders():
    batches, module = training(9), Counting()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", num_sanity_val_steps=0, **quiet)
    trainer.fit(module, batches, evaluation())
    assert trainer.global_step == 2 * len(batches)
    assert [sorted(epoch) for epoch in module.trained] == [list(range(9))] * 2
    assert module.trained == [labels_of(training(9)), labels_of_epoch(1)]
    assert module.validated == list(range(10)) * 2


def labels_of_epoch(epoch: int) -> list[int]:
    batches = training(9)
    batches.epoch = epoch
    return labels_of(batches)
