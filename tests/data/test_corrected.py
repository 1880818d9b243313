"""Corrections applied to the images of any reader: by file, by position, with one line for each mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nasx.data.augmentation import Augmentation
from nasx.data.corrected import CorrectedDataset, apply, require_found
from nasx.data.corrections import parse_corrections
from nasx.data.dataset import LabeledImages, write_rows
from nasx.errors import DataError
from nasx.escaping import to_csv

CLASSES = ("ant", "bee", "drop")  # a class may have the name of an action


def images(files=(), labels=(0, 0, 1, 1, 2, 2)):
    pixels = np.arange(len(labels) * 64, dtype=np.uint8).reshape(-1, 1, 8, 8)
    return LabeledImages(pixels, np.array(labels), CLASSES, files=tuple(files))


class Arrays:
    """A user's own dataset: without files, and without any mention of corrections."""

    name, augmentation = "arrays", Augmentation()

    def __init__(self, train=None, test=None):
        self._train, self._test = train or images(), test or images()

    def train(self):
        return self._train

    def test(self):
        return self._test


class Files(Arrays):
    """A dataset whose images are files below a root."""

    def __init__(self, root: Path, train, test=()):
        super().__init__(images(train, range(len(train))), images(test, range(len(test))) if test else None)
        self.root = root
        for file in (*train, *test):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()

    def path(self, file):
        return self.root / file


def corrected(dataset, *rows, test=False):
    text = to_csv([("image", "action", "label", "reason"), *rows])
    part = dataset.test() if test else dataset.train()
    return apply(parse_corrections(text.encode(), "fixes.csv"), dataset, part, test=test)


def test_images_without_files_are_named_by_position():
    found = corrected(Arrays(), (0, "relabel", "drop", ""), (3, "drop", "", "blurred"), (5, "keep", "", ""))

    assert found.images.labels.tolist() == [2, 0, 1, 2, 2]
    assert found.images.positions.tolist() == [0, 1, 2, 4, 5]
    assert found.content.facts == {
        "relabeled": 1,
        "dropped": 1,
        "confirmed": 1,
        "others": 0,
        "file": "fixes.csv",
        "file_digest": found.file_digest,
    }


def test_positions_are_those_of_training_images_only():
    found = corrected(Arrays(), (0, "drop", "", ""), test=True)

    assert not found.is_dropped.any()
    assert len(found.others) == 1


NAMES = ("ant/a.png", "bee/=1+1,x.png", "drop/caf\u00e9.png")


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda root: NAMES[0], id="relative"),
        pytest.param(lambda root: f"./{NAMES[0]} ", id="with a dot and spaces"),
        pytest.param(lambda root: f"{root}/{NAMES[0]}", id="absolute"),
        pytest.param(lambda root: f"{root}/bee/../{NAMES[0]}", id="absolute by another way"),
    ],
)
def test_a_file_has_several_spellings(tmp_path, written):
    dataset = Files(tmp_path, NAMES)

    found = corrected(dataset, (written(tmp_path), "relabel", "bee", ""), (1, "relabel", "ant", ""))

    assert found.labels.tolist() == [1, 0, 2]


def test_names_that_a_spreadsheet_would_run_are_found_as_to_csv_writes_them(tmp_path):
    names = ("=1+1.png", "@x.png", "caf\u00e9.png")

    found = corrected(Files(tmp_path, names), *((name, "keep", "", "") for name in names))

    assert found.is_confirmed.all()
    nfd = corrected(Files(tmp_path, names), ("cafe\u0301.png", "keep", "", ""))
    assert nfd.is_confirmed.tolist() == [False, False, True]


def test_a_file_of_the_test_images_changes_only_those(tmp_path):
    dataset = Files(tmp_path, NAMES, ("test/a.png", "test/b.png", "test/c.png"))
    row = ("test/b.png", "relabel", "ant", "")
    text = to_csv([("image", "action", "label"), row[:3], ("test/c.png", "keep", "drop")])
    both = CorrectedDataset(dataset, parse_corrections(text.encode(), "fixes.csv"))

    with pytest.raises(DataError, match=r"leaves no test image of the class 'bee', which had 1"):
        both.test()
    assert both.train() is not None and corrected(dataset, row).content.facts["others"] == 1


def test_keep_with_a_label_confirms_that_label_after_an_earlier_correction():
    found = corrected(Arrays(), (0, "keep", "bee", ""), (1, "relabel", "ant", ""))

    assert found.labels.tolist() == [1, 0, 1, 1, 2, 2]
    assert found.is_confirmed.tolist() == [False, True, *[False] * 4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(6, "drop", "", "")], r"fixes.csv, line 2: no training image has the position 6, expected 0 to 5\."),
        ([("a.png", "drop", "", "")], r"no image of the dataset is 'a.png'\. Images .* position, 0 to 5\."),
        (
            [(0, "relabel", "bea", "")],
            r"the dataset has no class 'bea', .* cannot add one\. Did you mean 'bee'\?",
        ),
        ([(0, "relabel", "", "")], r"line 2: relabel needs the name of a class as label\."),
        ([(0, "drop", "", ""), (0, "keep", "", "")], r"line 3: contradicts line 2, .* same image, 0\."),
        ([(0, "relabel", "bee", ""), ("0 ", "relabel", "drop", "")], r"line 3: contradicts line 2"),
        ([(0, "drop", "", ""), (1, "relabel", "bee", "")], r"leaves no training image of the class 'ant', which had 2"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_row(rows, message):
    with pytest.raises(DataError, match=message) as error:
        corrected(Arrays(), *rows)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("bee/a.png", r"Did you mean 'ant/a.png'\?"),
        ("ant\\a.png", r"Did you mean 'ant/a.png'\?"),
        ("../secret.png", r"Files are written as 'ant/a.png'\."),
        ("/etc/passwd", r"Files are written as"),
    ],
)
def test_an_unknown_file_is_refused_with_a_hint(tmp_path, name, hint):
    root = tmp_path / "root"
    dataset = Files(root, NAMES)
    (tmp_path / "secret.png").touch()

    with pytest.raises(DataError, match=rf"line 2: no image of the dataset is .*{hint}"):
        corrected(dataset, (name, "drop", "", ""))


def test_files_that_cannot_be_looked_up_must_be_in_one_of_both_parts():
    dataset = Arrays(images(("a", "b", "c", "d", "e", "f")), images(("g", "h", "i", "j", "k", "l")))
    rows = [("image", "action", "label"), ("h", "keep", ""), ("z", "drop", "")]
    corrections = parse_corrections(to_csv(rows).encode(), "fixes.csv")
    train = apply(corrections, dataset, dataset.train())
    test = apply(corrections, dataset, dataset.test(), test=True)

    with pytest.raises(DataError, match=r"line 3: no image of the dataset is 'z'"):
        require_found(corrections, dataset, train, test)


def test_the_same_decision_twice_and_a_confirmed_label_change_nothing():
    once = corrected(Arrays(), (0, "relabel", "bee", ""))
    twice = corrected(Arrays(), (0, "relabel", "bee", ""), (0, "relabel", "bee", "sure"), (5, "keep", "", ""))

    assert once.content.digest == twice.content.digest != corrected(Arrays(), (1, "relabel", "bee", "")).content.digest


def test_images_on_disk_are_relabeled_without_a_copy_and_dropped_on_disk(tmp_path):
    whole = images()
    mapped = write_rows(tmp_path / "images.npy", whole.images.shape, [whole.images])
    dataset = Arrays(replace(whole, images=mapped, on_disk=True))

    relabeled = corrected(dataset, (0, "relabel", "bee", "")).images
    dropped = corrected(dataset, (0, "drop", "", "")).images

    assert relabeled.images is mapped
    assert isinstance(dropped.images, np.memmap) and (dropped.images == whole.images[1:]).all()
