"""Features of images: computed once, for what they depend on, with the same bits however they are computed."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nasx.backbones import feature_store, features, store_folder
from nasx.backbones.load import load_backbone
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.errors import DataError, ResourceError
from tests.factories.backbones import FLIPS, Cache, TinySpace, maps, pictures, tiny_backbone


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "features")


def whole(images: LabeledImages, stages: int = 3) -> torch.Tensor:
    """Return the maps as the whole backbone computes them, written down independently."""
    backbone = tiny_backbone()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (backbone.preprocessing.mean, backbone.preprocessing.std))
    return backbone.stages[:stages]((torch.from_numpy(images.images) / 255 - mean) / std)


# --- once


def test_the_maps_are_those_of_the_backbone_in_the_order_of_the_images(cache):
    images = pictures()
    found = cache.source().at("second", images)
    assert found.shape == (6, 4, 4)
    assert np.allclose(maps(found), whole(images, 2), rtol=2**-10, atol=1e-6)
    assert np.array_equal(found.labels, images.labels)


def test_later_calls_commands_and_splits_compute_nothing(cache):
    images = pictures(20)
    assert cache.newly_computed("second", images, views=3, augmentation=FLIPS) == 60
    assert cache.newly_computed("second", images, views=3, augmentation=FLIPS) == 0
    assert cache.newly_computed("second", pictures(20), views=3, augmentation=FLIPS) == 0  # as another process reads it
    split = images.take(np.array([17, 3, 5]))
    assert cache.newly_computed("second", split) == 0
    assert np.array_equal(
        maps(cache.source().at("second", split)), maps(cache.source().at("second", images))[[17, 3, 5]]
    )


def test_the_maps_of_all_cuts_are_computed_in_one_pass(cache):
    cache.source().prepare(pictures(20), ("first", "third"))
    assert cache.computed == 20
    assert cache.newly_computed("first", pictures(20)) == cache.newly_computed("third", pictures(20)) == 0
    assert cache.newly_computed("second", pictures(20)) == 20


def test_three_further_pictures_compute_three(cache):
    before = maps(cache.source().at("third", pictures(20)))
    assert cache.newly_computed("third", pictures(23)) == 3
    assert np.array_equal(maps(cache.source().at("third", pictures(23)))[:20], before)


def test_a_repeated_picture_is_computed_once_and_has_one_row(cache):
    images = pictures(6)
    repeated = replace(images, images=images.images[[0, 1, 0, 2, 0, 1]])
    assert cache.newly_computed("third", repeated) == 3
    rows = cache.source().at("third", repeated).rows[0]
    assert rows[0] == rows[2] == rows[4]
    assert len(set(rows.tolist())) == 3


def test_corrected_labels_keep_the_maps(cache):
    images = pictures(10)
    cache.source().at("third", images)
    corrected = replace(images, labels=1 - images.labels)
    assert cache.newly_computed("third", corrected) == 0
    assert np.array_equal(cache.source().at("third", corrected).labels, corrected.labels)


# --- all that they depend on


CHANGES = {
    "a picture": lambda c, i: (c.source(), replace(i, images=np.where(np.arange(16) == 3, 255 - i.images, i.images))),
    "the weights": lambda c, i: (c.source(TinySpace(seed=1)), i),
    "the activation": lambda c, i: (c.source(TinySpace(backbone=tiny_backbone(activation=nn.GELU))), i),
    "the preprocessing": lambda c, i: (c.source(TinySpace(backbone=tiny_backbone(mean=(0.5, 0.5, 0.5)))), i),
    "the size of the images": lambda c, i: (c.source(), replace(i, images=i.images[:, :, :8, :8].copy())),
    "the channels": lambda c, i: (c.source(), replace(i, images=i.images[:, :1].copy())),
}


@pytest.mark.parametrize("change", CHANGES)
def test_maps_are_computed_for_a_change_of(cache, change):
    images = pictures(10)
    cache.source().at("third", images)
    source, changed = CHANGES[change](cache, images)
    assert cache.newly_computed("third", changed, source=source) == 10
    assert cache.newly_computed("third", pictures(10)) == 0  # the old ones are still there


CODE = """
from torch import nn

class Scale(nn.Module):
    def forward(self, x):
        return {factor} * x
"""


def test_maps_are_computed_for_a_change_of_the_code_of_a_module(cache, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def source(factor: int):
        (tmp_path / "own_layers.py").write_text(CODE.format(factor=factor))
        sys.modules.pop("own_layers", None)
        importlib.invalidate_caches()
        backbone = tiny_backbone()
        backbone.stages[2].append(importlib.import_module("own_layers").Scale())
        return cache.source(TinySpace(backbone=backbone))

    images = pictures(10)
    found = maps(source(10).at("third", images))
    assert cache.newly_computed("third", images, source=source(5)) == 10
    assert np.allclose(maps(source(5).at("third", images)), found / 2)
    assert cache.newly_computed("third", pictures(10), source=source(10)) == 0


class Scale(nn.Module):
    """Does not name its factor in its description, and has no weights."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_maps_are_computed_for_a_change_of_a_setting_of_a_module(cache):
    def source(factor: float):
        backbone = tiny_backbone()
        backbone.stages[2].append(Scale(factor))
        return cache.source(TinySpace(backbone=backbone))

    images = pictures(10)
    found = maps(source(10.0).at("third", images))
    assert cache.newly_computed("third", images, source=source(5.0)) == 10
    assert np.allclose(maps(source(5.0).at("third", images)), found / 2)
    assert cache.newly_computed("third", pictures(10), source=source(10.0)) == 0


def test_backbones_of_the_same_weights_may_have_other_strides(cache):
    backbone = tiny_backbone()
    cache.source(TinySpace(backbone=backbone)).at("second", pictures(4))
    finer = tiny_backbone()
    finer.stages[0][0].stride = (1, 1)
    assert finer.digest == backbone.digest
    assert cache.source(TinySpace(backbone=finer)).at("second", pictures(4)).shape == (6, 8, 8)


def test_maps_of_another_version_of_the_computation_are_not_used(cache, monkeypatch):
    cache.source().at("third", pictures(10))
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    assert cache.newly_computed("third", pictures(10)) == 10


def test_each_view_is_computed_for_its_number_and_augmentation(cache):
    images = pictures(10)
    assert cache.newly_computed("third", images, views=2, augmentation=FLIPS) == 20
    assert cache.newly_computed("third", images, views=4, augmentation=FLIPS) == 20  # the views 2 and 3
    other = Augmentation(crop_padding=0.25, horizontal_flip=True, cutout=0.0)
    assert cache.newly_computed("third", images, views=4, augmentation=other) == 30
    assert cache.newly_computed("third", images) == 0


def test_views_differ_and_without_an_effect_of_the_augmentation_there_is_one(cache):
    found = cache.source().at("first", pictures(10), views=3, augmentation=FLIPS)
    assert found.n_views == 3
    assert not np.array_equal(maps(found, 0), maps(found, 1))
    assert not np.array_equal(maps(found, 1), maps(found, 2))
    still = Augmentation(crop_padding=0.0, horizontal_flip=False, cutout=0.0)
    assert cache.source().at("first", pictures(10), views=3, augmentation=still).n_views == 1


def test_gray_images_are_seen_by_the_backbone_as_gray_colors(cache):
    gray = pictures(8, channels=1)
    colored = replace(gray, images=gray.images.repeat(3, axis=1))
    found, expected = maps(cache.source().at("third", gray)), maps(cache.source().at("third", colored))
    assert np.allclose(found, expected, rtol=2**-9, atol=1e-4)


# --- the same bits


def test_bits_do_not_depend_on_which_images_were_computed_together(tmp_path):
    at_once, in_parts = Cache(tmp_path / "one"), Cache(tmp_path / "other")
    space = TinySpace(backbone=load_backbone("efficientnet_lite0"))  # a few layers do not show the difference
    images = pictures(24, side=64)
    in_parts.source(space).at("stage5", images.take(np.array([13, 2, 7])))
    in_parts.source(space).at("stage5", images.take(np.arange(5, 16)))
    assert in_parts.computed < 24
    found, expected = (each.source(space).at("stage5", images) for each in (in_parts, at_once))
    assert np.array_equal(maps(found), maps(expected))


def in_a_process(function: Callable, *args):
    """Start a process that is forked: it need not import torch."""
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        process.start()
    return process


def compute_until_killed(folder: Path, end: int) -> None:
    features.CHUNK = 16

    def watch(done: int, total: int) -> None:
        if done >= end:
            os.kill(os.getpid(), signal.SIGKILL)

    Cache(folder).source(watch=watch).prepare(pictures(40), ("second", "third"), views=2, augmentation=FLIPS)


def test_a_killed_computation_goes_on_to_the_same_maps_bit_for_bit(cache, tmp_path):
    process = in_a_process(compute_until_killed, cache.folder, 40)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (store,) = store_folder.list_stores(cache.folder)  # listed though it was killed
    assert store.about.backbone == "tiny"
    for file in store.directory.glob("*.float16"):  # and it was killed while a map was written
        file.write_bytes(file.read_bytes() + b"half a map")

    resumed, other = cache.source(), Cache(tmp_path / "other")
    found = resumed.prepare(pictures(40), ("second", "third"), views=2, augmentation=FLIPS)
    expected = other.source().prepare(pictures(40), ("second", "third"), views=2, augmentation=FLIPS)

    assert 80 - 48 <= cache.computed < 80
    for cut in ("second", "third"):
        for view in range(2):
            assert np.array_equal(maps(found[cut], view), maps(expected[cut], view))


def compute_with(folder: Path, barrier, answers) -> None:
    cache = Cache(folder)
    barrier.wait(60)
    cache.source().at("third", pictures(600, side=32))
    answers.put(cache.computed)


def test_two_processes_at_once_compute_each_map_once(cache):
    barrier, answers = multiprocessing.get_context("fork").Barrier(2), multiprocessing.get_context("fork").Queue()
    two = [in_a_process(compute_with, cache.folder, barrier, answers) for _ in range(2)]
    assert sorted(answers.get(timeout=60) for _ in two) == [0, 600]
    for process in two:
        process.join(60)
    assert cache.newly_computed("third", pictures(600, side=32)) == 0


# --- damage


def store_file(cache: Cache, suffix: str) -> Path:
    (file,) = cache.folder.glob(f"*/third{suffix}")
    return file


def overwritten(file: Path, position: int, n_bytes: int = 4) -> None:
    content = bytearray(file.read_bytes())
    content[position : position + n_bytes] = bytes(255 - each for each in content[position : position + n_bytes])
    file.write_bytes(content)


MAP_BYTES = 8 * 2 * 2 * 2
DAMAGES = {  # what was done to the files of a store with 10 maps -> how many are computed again
    "a map was overwritten": (lambda c: overwritten(store_file(c, ".float16"), 3 * MAP_BYTES), 1),
    "two maps were overwritten": (lambda c: overwritten(store_file(c, ".float16"), 4 * MAP_BYTES - 2), 2),
    "a digest was overwritten": (lambda c: overwritten(store_file(c, ".digests"), 3 * 20), 1),
    "a checksum was overwritten": (lambda c: overwritten(store_file(c, ".digests"), 3 * 20 + 16), 1),
    "the maps were truncated": (lambda c: os.truncate(store_file(c, ".float16"), 7 * MAP_BYTES + 5), 3),
    "the records were truncated": (lambda c: os.truncate(store_file(c, ".digests"), 7 * 20 + 5), 3),
    "the first map was lost": (
        lambda c: store_file(c, ".float16").write_bytes(store_file(c, ".float16").read_bytes()[MAP_BYTES:]),
        10,
    ),
    "the maps are missing": (lambda c: store_file(c, ".float16").unlink(), 10),
    "the records are empty": (lambda c: os.truncate(store_file(c, ".digests"), 0), 10),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_maps_are_never_used_but_computed_again(cache, damage):
    expected = maps(cache.source().at("third", pictures(10)))
    act, n_damaged = DAMAGES[damage]
    act(cache)

    assert cache.newly_computed("third", images := pictures(10)) == n_damaged
    assert np.array_equal(maps(cache.source().at("third", images)), expected)
    assert cache.newly_computed("third", pictures(10)) == 0  # repaired for good


def test_damage_is_reported(cache):
    cache.source().at("third", pictures(10))
    overwritten(store_file(cache, ".float16"), 3 * MAP_BYTES)
    cache.source().at("third", pictures(10))
    assert cache.notices == ["Damaged feature maps in the cache at third: 1, which are computed again."]


def test_a_disk_that_changes_what_is_written_is_an_error(cache, monkeypatch):
    append = feature_store.FeatureStore.append

    def damaging(store, *args):
        append(store, *args)
        overwritten(store_file(cache, ".float16"), 3 * MAP_BYTES)

    monkeypatch.setattr(feature_store.FeatureStore, "append", damaging)
    with pytest.raises(ResourceError, match=r"does not return the features as they were written: check the disk\."):
        cache.source().at("third", pictures(10))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_description_does_not_matter(cache, content):
    cache.source().at("third", pictures(10))
    (about,) = cache.folder.glob("*/about.json")
    about.write_bytes(content)
    assert cache.newly_computed("third", pictures(10)) == 0
    assert store_folder.list_stores(cache.folder)[0].maps == {"third": 10}


def test_a_store_whose_maps_were_only_timed_has_a_description(cache):
    assert cache.source().seconds_per_image(pictures(4), ["third"]) > 0
    (store,) = store_folder.list_stores(cache.folder)
    assert store.about == store_folder.About("tiny", (3, 16, 16), ())
    assert store.maps == {}
    cache.source().at("third", pictures(4))
    assert store_folder.list_stores(cache.folder)[0].about.datasets == ("photos",)


# --- disk


@pytest.fixture
def read_only(monkeypatch):
    """Make every file read-only for this process, which may be root's."""
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return real(path, flags, *args, **kwargs)

    def refuse_times(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    def start():
        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr(os, "utime", refuse_times)

    return start


def test_a_store_that_may_only_be_read_is_used(cache, read_only):
    expected = maps(cache.source().at("third", pictures(10)))
    store_folder._uses.clear()
    read_only()
    assert np.array_equal(maps(cache.source().at("third", pictures(10))), expected)
    with pytest.raises(ResourceError, match=r"cannot store features \(Read-only file system\): set another"):
        cache.source().at("third", pictures(12))


def test_without_room_on_the_disk_nothing_is_lost(cache, monkeypatch):
    cache.source().at("third", pictures(10))
    usage = shutil.disk_usage(cache.folder)._replace(free=store_folder.SPARE + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(ResourceError, match=r"has no room for the features: 0\.0 MB are needed, 0\.0 MB can be used\."):
        cache.source().at("third", pictures(40))
    assert cache.newly_computed("third", pictures(10)) == 0


def test_a_disk_that_is_full_meanwhile_keeps_the_maps_so_far(cache, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 16)
    append = feature_store.FeatureStore.append

    def full(store, cut, keys, found):
        if cache.folder.exists() and sum(store_folder._describe(store.directory).maps.values()) >= 16:
            monkeypatch.setattr(Path, "open", no_space)
        append(store, cut, keys, found)

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_store.FeatureStore, "append", full)
    with pytest.raises(ResourceError, match=r"cannot be written to .*No space left on device\); those so far are kept"):
        cache.source().at("third", pictures(40))
    monkeypatch.undo()
    assert cache.newly_computed("third", pictures(40)) == 24


def bytes_of(cache: Cache) -> int:
    return store_folder.total_bytes(store_folder.list_stores(cache.folder))


def fill(cache: Cache, monkeypatch, *seeds: int) -> list[Path]:
    """Compute with several backbones, and set the limit so that there is no room for one more."""
    for seed in seeds:
        cache.source(TinySpace(seed=seed), dataset=f"photos{seed}").at("third", pictures(100))
    found = sorted(store_folder.list_stores(cache.folder), key=lambda each: each.about.datasets)
    monkeypatch.setattr(store_folder, "LIMIT", bytes_of(cache) + 5000)
    gc.collect()  # the pictures, and with them the locks
    for age, each in enumerate(found):
        os.utime(each.directory / "used", (1e9 - age, 1e9 - age))
    return [each.directory for each in found]


def test_above_the_limit_the_store_that_was_not_used_for_the_longest_time_is_removed(cache, monkeypatch):
    newer, oldest = fill(cache, monkeypatch, 1, 2)
    cache.source(TinySpace(seed=3)).at("third", pictures(100))
    assert newer.exists()
    assert not oldest.exists()
    assert cache.notices == ["removed the features of photos2 by tiny from the cache: they were the oldest."]


def test_a_store_in_use_is_not_removed(cache, monkeypatch):
    newer, oldest = fill(cache, monkeypatch, 1, 2)
    images = pictures(100)
    source = cache.source(TinySpace(seed=2))
    source.at("third", images)
    os.utime(oldest / "used", (9e8, 9e8))
    cache.source(TinySpace(seed=3)).at("third", pictures(100))
    assert oldest.exists()
    assert not newer.exists()


def test_nothing_is_removed_if_that_would_not_be_enough(cache, monkeypatch):
    stores = fill(cache, monkeypatch, 1, 2)
    with pytest.raises(ResourceError, match=r"has no room"):
        cache.source(TinySpace(seed=3)).at("third", pictures(2000, side=16))
    assert all(each.exists() for each in stores)


def use_until(folder: Path, ready, end) -> None:
    images = pictures(10)
    Cache(folder).source().at("third", images)
    ready.set()
    end.wait(60)
    del images


def test_a_store_that_another_process_uses_is_not_removed_until_that_process_ends(cache):
    cache.source().at("third", pictures(10))
    gc.collect()
    (store,) = store_folder.list_stores(cache.folder)
    ready, end = multiprocessing.get_context("fork").Event(), multiprocessing.get_context("fork").Event()
    user = in_a_process(use_until, cache.folder, ready, end)
    assert ready.wait(60)
    assert store_folder.remove_store(store.directory) == "is in use by another process"
    end.set()
    user.join(60)
    assert store_folder.remove_store(store.directory) is None
    assert not list(cache.folder.iterdir())


# --- numbers, memory, workers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_numbers_that_cannot_be_stored_are_an_error(cache, value):
    backbone = tiny_backbone()
    backbone.stages[2][0].bias.data[0] = value
    with pytest.raises(DataError, match=r"feature maps of tiny at third have numbers above 65,504, or NaN, which"):
        cache.source(TinySpace(backbone=backbone)).at("third", pictures(10))


def test_maps_are_written_chunk_by_chunk_of_a_bounded_size(cache, monkeypatch):
    monkeypatch.setattr(features, "CHUNK_BYTES", 40 * (MAP_BYTES + 20))
    sizes = []
    append = feature_store.FeatureStore.append
    monkeypatch.setattr(
        feature_store.FeatureStore, "append", lambda s, cut, keys, m: (sizes.append(len(m)), append(s, cut, keys, m))
    )
    cache.source().at("third", pictures(100))
    assert sizes == [32, 32, 32, 4]


def test_opened_features_are_the_same_object_as_long_as_the_images_exist(cache):
    images = pictures(10)
    assert cache.source().at("third", images) is cache.source().at("third", images)
    assert cache.source().at("third", images) is not cache.source().at("third", pictures(10))


def test_a_pickled_source_and_pickled_features_read_the_same_files(cache):
    images = pictures(10)
    found = cache.source().at("third", images, views=2, augmentation=FLIPS)
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(maps(again, 1), maps(found, 1))
    assert len(pickle.dumps(found)) < 3000
    source = pickle.loads(pickle.dumps(cache.source()))
    size = bytes_of(cache)
    assert np.array_equal(maps(source.at("third", pictures(10))), maps(found))
    assert bytes_of(cache) == size
