"""Folders of images as users have them, made from published pictures: for `scripts.own_images` and its test.

`photos`: photos of many sizes and formats, unbalanced, with wrong labels, damaged and foreign files.
`scans`: 12-bit grayscale scans in 16-bit PNG files, in Training/ and Testing/.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nasx.data.dataset import LabeledImages
from nasx.data.synthetic import Lines

LONG_NAME = "a class with a name that fills a line, as product lists have them"
EXIF_ORIENTATION = 0x0112
SUFFIXES = (".jpg", ".png", ".webp", ".bmp", ".JPG")
MODES = {".jpg": ("RGB", "L", "CMYK"), ".png": ("RGB", "RGBA", "P", "L"), ".webp": ("RGB", "RGBA")}
BITS = 12  # of a scan


@dataclass(frozen=True)
class Folder:
    """A folder of images, and the truth about it."""

    root: Path
    wrong: dict[str, str]  # image with a wrong label, relative to root -> its true class
    damaged: tuple[str, ...]  # images that cannot be read


def pictures(data: Path | None, published: str, n: int, seed: int = 0) -> LabeledImages:
    """Return `n` published pictures; those of synthetic lines without `data`.

    Args:
        data: directory with the published files, as `NASX_DATA`.
        published: "cifar10" or "fashion_mnist".
        n: number of pictures.
        seed: of the choice.
    """
    if data is None:
        images = Lines(train_images=n).train()
    elif published == "cifar10":
        from nasx.data.cifar import CIFAR10

        images = CIFAR10(root=str(data)).train()
    else:
        from nasx.data.mnist import FashionMNIST

        images = FashionMNIST(root=str(data)).train()
    chosen = np.random.default_rng(seed).permutation(len(images))[:n]
    return images.take(chosen)


def photos(
    root: Path,
    images: LabeledImages,
    *,
    wrong: float = 0.08,
    damaged: int = 3,
    sides: tuple[int, int] = (40, 120),
    seed: int = 0,
) -> Folder:
    """Write photos into one folder per class.

    The first class has half of its images. Sizes, formats, color modes and EXIF orientations are mixed.

    Args:
        root: folder to create.
        images: their content.
        wrong: share of the images that are written into the folder of another class.
        damaged: number of images that are cut off.
        sides: range of the short sides, in pixels.
        seed: of all choices.
    """
    rng = np.random.default_rng(seed)
    names = [*images.class_names[:-1], LONG_NAME]
    mistaken: dict[str, str] = {}
    written: list[str] = []
    for number in range(len(images)):
        label = int(images.labels[number])
        if label == 0 and rng.random() < 0.5:
            continue
        shown = label
        if rng.random() < wrong:
            shown = int(rng.choice([c for c in range(len(names)) if c != label]))
        file = f"{names[shown]}/IMG_{number:05d}{rng.choice(SUFFIXES)}"
        _write_photo(root / file, images.images[number], rng, sides)
        written.append(file)
        if shown != label:
            mistaken[file] = names[label]
    cut = [str(file) for file in rng.choice([f for f in written if f not in mistaken], damaged, replace=False)]
    for file in cut:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) // 3])
    _write_clutter(root, names[0])
    return Folder(root, mistaken, tuple(cut))


def _write_photo(file: Path, pixels: NDArray[np.uint8], rng: np.random.Generator, sides: tuple[int, int]) -> None:
    """Write a picture in the format of the suffix: enlarged, not square, in a random mode and orientation."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    side = int(rng.integers(*sides))
    image = image.resize((side, side), Image.Resampling.BICUBIC)
    margin = int(rng.integers(0, side // 3))  # on both sides, outside of the central square
    across = rng.random() < 0.5
    size = (side + 2 * margin, side) if across else (side, side + 2 * margin)
    canvas = Image.new(image.mode, size, 128 if image.mode == "L" else (128, 128, 128))
    canvas.paste(image, (margin, 0) if across else (0, margin))
    suffix = file.suffix.lower()
    canvas = canvas.convert(str(rng.choice(MODES.get(suffix, ("RGB",)))))
    if suffix == ".jpg" and rng.random() < 0.3:
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 6  # to be turned by 90 degrees clockwise when shown
        canvas.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
    else:
        canvas.save(file)


def _write_clutter(root: Path, class_name: str) -> None:
    """Write what cameras, archives and file managers leave next to images."""
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX/._IMG_00001.jpg").write_bytes(b"\0\5\26\7")
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "labels.txt").write_text("written by hand\n")
    (root / class_name / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (root / class_name / "IMG_9999.heic").write_bytes(b"\0\0\0\x18ftypheic")


def scans(root: Path, images: LabeledImages, *, test_share: float = 0.2) -> Folder:
    """Write 12-bit scans into Training/ and Testing/, one folder per class.

    Args:
        root: folder to create.
        images: their content.
        test_share: share of the images in Testing/.
    """
    for number in range(len(images)):
        part = "Testing" if number < test_share * len(images) else "Training"
        name = images.class_names[int(images.labels[number])].replace("/", " or ")
        file = root / part / name / f"scan {number:05d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        gray = images.images[number].mean(axis=0) * ((2**BITS - 1) / 255)
        Image.fromarray(gray.round().astype(np.uint16)).save(file)
    return Folder(root, {}, ())


def corrections(folder: Folder, suspects: Sequence[str], file: Path) -> int:
    """Write the decisions of a careful reviewer about suspects as a CSV; return the number of changed labels.

    Args:
        folder: with the truth.
        suspects: images that were looked at.
        file: the CSV.
    """
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["image", "action", "label", "reason"])
        for image in suspects:
            truth = folder.wrong.get(image)
            writer.writerow([image, "relabel", truth, "looked at"] if truth else [image, "keep", "", ""])
    return sum(image in folder.wrong for image in suspects)
