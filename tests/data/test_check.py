"""Check of a dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from nasx.cli.main import main
from nasx.data.augmentation import Augmentation
from nasx.data.check import check_dataset
from nasx.data.cifar import CIFAR10
from nasx.data.dataset import LabeledImages
from nasx.data.folder import ImageFolder
from nasx.data.synthetic import Digits
from tests.factories.published_formats import write_cifar10

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


@dataclass
class InMemory:
    """Gray images with a single pixel value each."""

    train_values: list[int]
    train_labels: list[int]
    test_values: list[int]
    test_labels: list[int]
    name = "in_memory"
    augmentation = NO_AUGMENTATION

    def train(self) -> LabeledImages:
        return self.part(self.train_values, self.train_labels)

    def test(self) -> LabeledImages:
        return self.part(self.test_values, self.test_labels)

    def part(self, values: list[int], labels: list[int]) -> LabeledImages:
        images = np.zeros((len(values), 1, 8, 8), np.uint8) + np.array(values, np.uint8)[:, None, None, None]
        return LabeledImages(images, np.array(labels), ("a", "b"))


def test_images_are_counted_class_by_class():
    report = check_dataset(InMemory([1, 2, 3, 4], [0, 0, 0, 1], [5, 6], [0, 1]))
    assert (report.train.counts, report.test.counts) == ((3, 1), (1, 1))
    assert (report.train.n_images, report.train.shape) == (4, (1, 8, 8))
    assert (report.train.imbalance, report.test.imbalance) == (3, 1)
    assert report.is_sound


def test_repeated_and_leaked_images_are_counted():
    report = check_dataset(InMemory([1, 1, 1, 2], [0, 1, 0, 1], [1, 1, 9], [0, 1, 1]))
    assert report.train.repeated == 2
    assert report.test.repeated == 1
    assert report.leaked == 2


def test_a_class_without_images_is_a_defect():
    report = check_dataset(InMemory([1, 2], [0, 0], [3, 4], [0, 1]))
    assert report.train.imbalance == float("inf")
    assert not report.is_sound


def test_the_digits_have_no_defects():
    report = check_dataset(Digits())
    assert report.is_sound
    assert (report.train.n_images, report.test.n_images, report.leaked) == (1437, 360, 0)
    assert report.train.imbalance == pytest.approx(146 / 139, rel=0.02)


def test_a_part_that_cannot_be_read_is_reported_and_the_other_is_still_counted(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(b"")
    report = check_dataset(CIFAR10(root=str(tmp_path)))
    assert report.train.n_images == 100
    assert report.test.counts == ()
    assert "test_batch" in report.test.damaged[0]
    assert not report.is_sound


def test_every_damaged_image_of_a_folder_is_reported(tmp_path):
    for kind in ("ant", "bee"):
        (tmp_path / kind).mkdir()
        for i in range(10):
            Image.new("L", (8, 8), i).save(tmp_path / kind / f"{i}.png")
    (tmp_path / "ant/3.png").write_bytes(b"")
    (tmp_path / "bee/7.png").write_bytes(b"")
    report = check_dataset(ImageFolder(root=str(tmp_path), image_size=8))
    damaged = report.train.damaged + report.test.damaged
    assert sorted(sentence.split(" cannot")[0] for sentence in damaged) == [
        str(tmp_path / "ant/3.png"),
        str(tmp_path / "bee/7.png"),
    ]
    assert report.train.n_images + report.test.n_images == 18
    assert not report.is_sound


def test_a_folder_that_does_not_exist_is_reported_for_both_parts():
    report = check_dataset(ImageFolder(root="/no/where"))
    assert report.train.damaged == report.test.damaged
    assert "/no/where does not exist" in report.train.damaged[0]


def test_corrected_labels_are_counted_and_the_files_of_a_folder_still_checked(tmp_path, capsys):
    for name in ("ant", "bee"):
        for number in range(6):
            file = tmp_path / "data" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([len(name), number, ord(name[0])]).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(file)
    (tmp_path / "data/ant/broken.png").write_bytes(b"no picture")
    fixes = tmp_path / "fixes.csv"
    fixes.write_text("image,action,label,reason\nant/0.png,relabel,bee,\nant/broken.png,drop,,\nbee/1.png,keep,,\n")
    words = ["data", "check", str(tmp_path / "data"), f"dataset.corrections={fixes}"]
    assert main(["data", "check", str(tmp_path / "data")]) == 2  # a file is damaged
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "corrections: 1 label changed, 1 image dropped, 1 confirmed (fixes.csv)" in said
    assert "layout: " in said
