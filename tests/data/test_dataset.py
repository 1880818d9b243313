"""Images larger than memory: mapped from disk and read in batches, with the same results."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from nasx import machine
from nasx.data import dataset
from nasx.data.augmentation import Augmentation
from nasx.data.batches import EvaluationBatches, TrainingBatches
from nasx.data.dataset import LabeledImages
from nasx.data.folder import ImageFolder
from nasx.data.splits import split
from nasx.data.synthetic import Lines
from nasx.errors import ResourceError
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import fit
from nasx.training.recipe import Recipe

AUGMENTATION = Augmentation(crop_padding=0.2, horizontal_flip=True, cutout=0.25)


@pytest.fixture
def both(tmp_path) -> tuple[LabeledImages, LabeledImages]:
    """Return the same images in memory and on disk."""
    images = Lines(train_images=240).train()
    rows = dataset.write_rows(tmp_path / "lines.npy", images.images.shape, images.images)
    return images, LabeledImages(rows, images.labels, images.class_names, on_disk=True)


def test_a_training_from_disk_has_bit_identical_weights(both):
    results = []
    for images in both:
        data = split(images, seed=0)
        assert data.train.on_disk == images.on_disk
        torch.manual_seed(0)
        network = NASBench201(channels=4, cells=1).build((3, 1, 0, 1, 0, 3), input_shape=data.shape, n_classes=4)
        recipe = Recipe(epochs=2, batch_size=32, precision="float32")
        fitted = fit(network, data, recipe, augmentation=AUGMENTATION, seed=1, device=torch.device("cpu"))
        results.append((fitted.history, network.state_dict()))

    (history, weights), (streamed_history, streamed) = results
    assert history == streamed_history
    assert all(torch.equal(weights[name], streamed[name]) for name in weights)


def test_batches_from_disk_are_those_from_memory(both):
    scale = {"mean": np.float32([0.5]), "std": np.float32([0.25]), "batch_size": 50}
    batches = [
        (EvaluationBatches(images, **scale), TrainingBatches(images, **scale, augmentation=AUGMENTATION, seed=3))
        for images in both
    ]

    for one, other in zip(*batches, strict=True):
        for (images, labels), (streamed, streamed_labels) in zip(one, other, strict=True):
            assert torch.equal(images, streamed)
            assert torch.equal(labels, streamed_labels)


def test_nothing_is_loaded_whole(both):
    _, on_disk = both

    chosen = on_disk.take(np.arange(0, 240, 3))

    assert isinstance(chosen.images, np.memmap)
    assert chosen.images.tolist() == on_disk.images[::3].tolist()
    assert EvaluationBatches(
        on_disk, mean=np.zeros(1, np.float32), std=np.ones(1, np.float32), batch_size=9
    ).pixels.images.data_ptr() == (on_disk.images.ctypes.data)


def test_a_choice_of_images_is_copied_once(both, monkeypatch):
    _, on_disk = both
    indices = np.arange(0, 240, 2)
    first = on_disk.take(indices)
    monkeypatch.setattr(dataset, "write_rows", None)

    assert on_disk.take(indices).images.filename == first.images.filename


def test_it_is_pickled_as_the_path_of_its_file(both):
    in_memory, on_disk = both
    sent = pickle.dumps(on_disk)

    arrived = pickle.loads(sent)

    assert len(sent) < on_disk.images.nbytes / 5
    assert arrived.on_disk
    assert np.array_equal(arrived.images, in_memory.images)
    assert np.array_equal(pickle.loads(pickle.dumps(in_memory)).images, in_memory.images)


@pytest.mark.parametrize(
    ("memory_map", "n_bytes", "expected"), [(True, 1, True), (False, 99, False), (None, 24, False), (None, 26, True)]
)
def test_the_config_decides_or_a_quarter_of_the_memory(memory_map, n_bytes, expected, monkeypatch):
    monkeypatch.setattr(dataset.machine, "memory", lambda: machine.Limit(100, "memory"))

    assert dataset.stays_on_disk(memory_map, n_bytes) is expected


@pytest.mark.parametrize("memory_map", [True, False])
def test_a_folder_of_images_is_streamed_if_the_config_says_so(memory_map, tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (9, 9), 20 * number).save(tmp_path / "images" / kind / f"{number}.png")
    dataset = ImageFolder(root=str(tmp_path / "images"), cache=str(tmp_path / "cache"), memory_map=memory_map)

    data = split(dataset.train(), validation_fraction=0.25, seed=0)

    assert isinstance(data.train.images, np.memmap) is data.validation.on_disk is memory_map


def test_a_full_disk_is_reported(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ResourceError, match=r"cannot store the resized images .*set dataset\.cache=DIR"):
        dataset.write_rows(tmp_path / "file" / "x.npy", (1, 2), np.zeros((1, 2), np.uint8))


def test_images_keep_their_position_and_their_file_through_splits() -> None:
    pixels, labels = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    images = LabeledImages(pixels, labels, ("a", "b"), files=("a/1.png", "b/2.png", "a/3.png", "b/4.png"))
    chosen = images.take(np.array([3, 0, 2])).take(np.array([2, 0]))
    assert chosen.positions.tolist() == [2, 3]
    assert chosen.files == ("a/3.png", "b/4.png")
    again = pickle.loads(pickle.dumps(chosen))
    assert (again.image_name(1), again.positions.tolist()) == ("b/4.png", [2, 3])
    assert LabeledImages(pixels, labels, ("a", "b")).take(np.array([3])).image_name(0) == "3"
