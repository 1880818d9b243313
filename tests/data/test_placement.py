"""Placement of images on a GPU: which stay there, number of uploads, streaming of the others.

The meta device replaces a GPU: it has no memory, but copies to it are counted.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nasx.data import batches
from nasx.data.augmentation import Augmentation
from nasx.data.batches import DATA_SHARE, EvaluationBatches, Pixels, TrainingBatches, normalize, place, split_batches
from nasx.data.dataset import LabeledImages

GPU = torch.device("meta")
SCALE = {"mean": np.float32([0.5, 0.4]), "std": np.float32([0.2, 0.3])}


def made_up(n: int = 40) -> LabeledImages:
    rng = np.random.default_rng(n)
    labels = rng.integers(3, size=n)
    return LabeledImages(rng.integers(256, size=(n, 2, 8, 8), dtype=np.uint8), labels, ("a", "b", "c"))


class Uploads(TorchDispatchMode):
    """Count the bytes copied from the host to the simulated GPU, by type."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("_to_copy", "copy_") and result.device == GPU:
            source = args[1] if func.overloadpacket.__name__ == "copy_" else args[0]
            self.bytes[source.dtype] += source.nbytes if source.device != GPU else 0
        return result


@pytest.fixture
def memory(monkeypatch):
    """Set the bytes of memory of the simulated GPU."""
    return lambda n: monkeypatch.setattr(batches, "_memory", lambda device: n)


def test_on_the_cpu_nothing_is_copied():
    images = made_up()
    pixels, labels = place(images, torch.device("cpu"))
    assert pixels.data_ptr() == images.images.ctypes.data
    assert labels.data_ptr() == images.labels.ctypes.data


def test_images_are_uploaded_once_however_often_they_are_trained_on():
    images = made_up()
    with Uploads() as first:
        EvaluationBatches(images, **SCALE, batch_size=8, device=GPU)
    with Uploads() as again:
        for _ in range(3):
            EvaluationBatches(images, **SCALE, batch_size=8, device=GPU)
            TrainingBatches(images, **SCALE, batch_size=8, device=GPU, augmentation=Augmentation(), seed=0)
            Pixels(images, **SCALE, device=GPU)
    assert first.bytes[torch.uint8] == images.images.nbytes
    assert again.bytes[torch.uint8] == again.bytes[torch.int64] == 0


def test_images_that_are_gone_leave_the_gpu():
    images = made_up()
    uploaded = weakref.ref(place(images, GPU)[0])
    assert uploaded() is not None
    del images
    gc.collect()
    assert uploaded() is None


def test_only_a_share_of_a_trials_share_of_the_gpu_is_for_data(memory):
    small, other, third = made_up(40), made_up(40), made_up(41)
    bytes_of_two = small.images.nbytes + other.images.nbytes
    memory(bytes_of_two / DATA_SHARE / 0.25)
    where = [place(images, GPU, gpu_share=0.25)[0].device for images in (small, other, third)]
    assert where == [GPU, GPU, torch.device("cpu")]
    assert place(third, GPU, gpu_share=0.25)[1].device == GPU  # the labels
    assert place(small, GPU, gpu_share=0.25)[0].device == GPU  # as before


def test_images_on_disk_stay_there(memory):
    memory(1e12)
    assert place(replace(made_up(), on_disk=True), GPU)[0].device == torch.device("cpu")


@pytest.mark.parametrize("index", [3, slice(5, 12), torch.tensor([7, 7, 0])], ids=str)
def test_pixels_are_indexed_like_the_tensor_of_all(index):
    images = made_up()
    everything = normalize(torch.from_numpy(images.images), **SCALE)
    pixels = Pixels(images, **SCALE)
    assert torch.equal(pixels[index], everything[index])
    assert (len(pixels), pixels.shape, pixels.dtype) == (40, everything.shape, everything.dtype)


def test_pixels_can_be_taken_out_again_and_again():
    images = made_up()
    everything = normalize(torch.from_numpy(images.images), **SCALE)
    first, second = torch.tensor([9, 3, 5, 30]), torch.tensor([2, 0])
    taken = Pixels(images, **SCALE).take(first).take(second)
    assert torch.equal(taken[:], everything[first][second])
    assert torch.equal(taken[torch.tensor([1])], everything[first][second][[1]])
    assert taken.labels.tolist() == images.labels[first.numpy()][second.numpy()].tolist()
    assert torch.equal(torch.cat(list(split_batches(taken, 1))), everything[first][second])


@pytest.mark.parametrize("bytes_there", [0, 1e12], ids=["streamed", "resident"])
def test_batches_are_on_the_gpu_regardless_of_where_the_images_are(memory, monkeypatch, bytes_there):
    """On the meta device: mixing devices raises an error, and so does reading a value."""
    memory(bytes_there)
    images, here = made_up(), torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": here())  # the meta device has none
    training = TrainingBatches(
        images, **SCALE, batch_size=16, device=GPU, augmentation=Augmentation(crop_padding=0, cutout=0), seed=0
    )
    taken = training.pixels.take(torch.tensor([3, 4, 5]))
    assert training.pixels.is_streamed == (bytes_there == 0)
    found = [*training, *EvaluationBatches(images, **SCALE, batch_size=16, device=GPU)]
    assert [len(labels) for _, labels in found] == [16, 16, 8] * 2
    assert all(each.device == GPU for pair in found for each in pair)
    assert all(taken[index].device == GPU for index in (1, slice(1), torch.tensor([0, 2])))


def test_what_is_streamed_is_the_same_and_gathered_by_a_thread_one_batch_ahead(monkeypatch):
    settings = {**SCALE, "batch_size": 8, "augmentation": Augmentation(horizontal_flip=True, cutout=0.3), "seed": 5}
    images, threads = made_up(), []
    expected = list(TrainingBatches(images, **settings)) + list(EvaluationBatches(images, **SCALE, batch_size=8))
    gather = Pixels.gather

    def noted(self, index):
        threads.append(threading.current_thread().name)
        return gather(self, index)

    monkeypatch.setattr(Pixels, "gather", noted)
    monkeypatch.setattr(Pixels, "is_streamed", True)
    training = iter(TrainingBatches(images, **settings))
    streamed = [next(training)]
    assert 1 <= len(threads) <= 2  # not all at once
    streamed += [*training, *EvaluationBatches(images, **SCALE, batch_size=8)]
    assert all(name.startswith("batches") for name in threads)
    for (one, labels), (other, others) in zip(expected, streamed, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(labels, others)


def test_an_error_of_the_thread_is_raised_in_the_loop_over_batches(monkeypatch):
    def broken(self, index):
        raise OSError("the disk is gone")

    monkeypatch.setattr(Pixels, "gather", broken)
    monkeypatch.setattr(Pixels, "is_streamed", True)
    with pytest.raises(OSError, match="the disk is gone"):
        next(iter(EvaluationBatches(made_up(), **SCALE, batch_size=8)))


def test_an_epoch_that_is_left_early_ends_its_thread(monkeypatch):
    monkeypatch.setattr(Pixels, "is_streamed", True)
    epoch = iter(EvaluationBatches(made_up(), **SCALE, batch_size=8))
    next(epoch)
    epoch.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_images_that_stay_on_the_host_do_not_count(monkeypatch):
    monkeypatch.setattr(batches, "_placed", weakref.WeakKeyDictionary())
    large, small = made_up(400), made_up(20)
    monkeypatch.setattr(batches, "_memory", lambda device: 2 * small.images.nbytes / DATA_SHARE)

    places = [place(images, GPU)[0].device.type for images in (large, small)]

    assert places == ["cpu", "meta"]
    assert place(large, GPU)[1].device.type == "meta"  # labels are on the device


def test_a_process_takes_its_share_of_the_memory_and_no_more(monkeypatch):
    images = made_up()
    monkeypatch.setattr(batches, "_memory", lambda device: images.images.nbytes / DATA_SHARE / 0.5)
    found = {}
    for share in (0.5, 0.49):
        monkeypatch.setattr(batches, "_placed", weakref.WeakKeyDictionary())
        found[share] = place(images, GPU, share)[0].device.type

    assert found == {0.5: "meta", 0.49: "cpu"}
