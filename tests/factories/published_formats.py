"""Write small datasets in the published formats."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np

PER_BATCH = 20  # images per file
CIFAR10_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class Python2Pickler(pickle._Pickler):
    """Pickler of Python 2, which wrote the published CIFAR batches: text and bytes are the same."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_text(self, text):
        raw = text if isinstance(text, bytes) else text.encode("ascii")
        if len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(text)

    dispatch[bytes] = save_text
    dispatch[str] = save_text


def python2_pickle(content, path: Path) -> None:
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"numpy._core", b"numpy.core"))


def cifar_batch(n: int, n_classes: int, seed: int, labels_key: str = "labels") -> dict:
    rng = np.random.default_rng(seed)
    labels = [int(label) for label in rng.permutation(np.arange(n) % n_classes)]
    return {
        "data": rng.integers(256, size=(n, 3072), dtype=np.uint8),
        labels_key: labels,
        "batch_label": f"batch {seed}",
        "filenames": [f"image_{i}.png" for i in range(n)],
    }


def write_cifar10(root: Path) -> dict[str, dict]:
    """Write the published folder into `root`; return the content of each file."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    files: dict[str, dict] = {f"data_batch_{i}": cifar_batch(PER_BATCH, 10, i) for i in range(1, 6)}
    files["test_batch"] = cifar_batch(PER_BATCH, 10, 6)
    files["batches.meta"] = {"num_cases_per_batch": PER_BATCH, "label_names": CIFAR10_NAMES, "num_vis": 3072}
    for name, content in files.items():
        python2_pickle(content, folder / name)
    return files


def write_cifar100(root: Path) -> dict[str, dict]:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    names = [f"thing {i}" for i in range(100)]
    files = {
        "train": cifar_batch(300, 100, 1, "fine_labels") | {"coarse_labels": [0] * 300},
        "test": cifar_batch(100, 100, 2, "fine_labels") | {"coarse_labels": [0] * 100},
        "meta": {"fine_label_names": names, "coarse_label_names": ["everything"]},
    }
    for name, content in files.items():
        python2_pickle(content, folder / name)
    return files


def write_imagenet16(root: Path) -> dict[str, dict]:
    """Write the eleven files of ImageNet in 16x16 pixels; half of the images are of the first 120 classes."""
    folder = root / "ImageNet16"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = {}
    kept = dict(zip((f"train_data_batch_{i}" for i in range(1, 11)), np.arange(1, 121).reshape(10, 12), strict=True))
    for name, classes in (kept | {"val_data": np.arange(1, 121)}).items():
        labels = np.concatenate([classes, rng.integers(121, 1001, len(classes))])
        data = rng.integers(256, size=(len(labels), 768), dtype=np.uint8)
        files[name] = {"data": data, "labels": [int(label) for label in rng.permutation(labels)]}
        python2_pickle(files[name], folder / name)
    return files


def idx_bytes(array: np.ndarray) -> bytes:
    magic = 0x0800 | array.ndim
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, *, gzipped: bool) -> dict[str, np.ndarray]:
    """Write the four files of MNIST or Fashion-MNIST."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 60), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = rng.integers(256, size=(n, 28, 28), dtype=np.uint8)
        files[f"{part}-labels-idx1-ubyte"] = rng.permutation(np.arange(n) % 10).astype(np.uint8)
    for name, array in files.items():
        content = idx_bytes(array)
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return files
