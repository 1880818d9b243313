"""Features of images: read from the store, and computed for the images that it does not have.

Maps are stored in float16: each number differs by at most 2^-11 of itself from that of the whole network. A store has
the same content however it was computed.

Logits of heads on cached features differ from those of the whole network by less than `LOGIT_TOLERANCE` of the largest
logit. Measured with EfficientNet-Lite0 on 200 photos of 128 x 128 pixels, 10 heads: at most 4.4e-4, 6e-4 in
probability, no other class; scores differ by at most 1e-3 (SHAP) and 1e-6 (activations).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nasx.backbones.digests import describe, digest, view_digests
from nasx.backbones.extraction import MapExtractor
from nasx.backbones.feature_store import FeatureStore
from nasx.backbones.onnx_stages import uses_onnx
from nasx.backbones.pretrained import Pretrained
from nasx.backbones.stages import measure
from nasx.backbones.store_folder import Notify, Use, make_room, record_dataset, use_store
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, SearchData
from nasx.data.features import Features, at_cut
from nasx.errors import ResourceError
from nasx.networks.backbone import backbone_of, trained_part

VERSION: Final = 2  # of the computation: features of another version are computed again
TIMED: Final = 2048  # images at most with which the time per image is measured
TIMED_SECONDS: Final = 1.0  # of that measurement, about
LOGIT_TOLERANCE: Final = 1e-3  # of the largest logit
CHUNK: Final = 256  # images whose maps are written at a time, at most
CHUNK_BYTES: Final = 2**26  # of their maps, about
# Opened features by store, cut and views, of images that are used several times
_opened: WeakKeyDictionary[LabeledImages, dict[tuple[Any, ...], _Opened]] = WeakKeyDictionary()

Watch = Callable[[int, int], None]  # called with (finished, all) images


def _ignore(done: int, total: int) -> None:
    return None


class HasPretrained(Protocol):
    """Search space on a backbone."""

    @property
    def cuts(self) -> tuple[str, ...]:
        """Return the names of the stages after which the backbone may be cut."""

    def pretrained(self) -> Pretrained:
        """Return the backbone."""


@dataclass(frozen=True, eq=False)
class BackboneFeatures:
    """Features of the images of a dataset by the backbone of a space: a `FeatureSource`."""

    space: HasPretrained
    directory: Path  # contains the stores
    dataset: str  # name, for people
    device: str = "cpu"  # on which missing maps are computed
    watch: Watch = field(default=_ignore)  # receives the progress
    notify: Notify = field(default=print)  # receives messages for the user, one line each

    def __reduce__(self) -> Any:
        """Pickle without the functions, which belong to the process of the search."""
        return BackboneFeatures, (self.space, self.directory, self.dataset, self.device)

    def at(
        self, cut: str, images: LabeledImages, *, views: int = 1, augmentation: Augmentation | None = None
    ) -> Features:
        """Return the feature maps of images at a cut; see `nasx.data.features.FeatureSource`."""
        return self.prepare(images, (cut,), views=views, augmentation=augmentation)[cut]

    def prepare(
        self, images: LabeledImages, cuts: Sequence[str], *, views: int = 1, augmentation: Augmentation | None = None
    ) -> dict[str, Features]:
        """Return the feature maps of images at several cuts, by cut. Those that are missing are computed in one pass.

        Raises:
            ResourceError: if there is no room for them.
            DataError: if a map has numbers that float16 cannot represent.
        """
        views = views if augmentation is not None and _changes(augmentation) else 1
        pretrained = self.space.pretrained()
        directory = self._store_directory(pretrained, images)
        opened = _opened.setdefault(images, {})
        names = {cut: (directory, cut, views, augmentation if views > 1 else None) for cut in cuts}
        if due := [cut for cut in cuts if names[cut] not in opened]:
            maps = measure(pretrained, images.shape)
            store = FeatureStore(directory, {cut: maps[cut] for cut in due})
            use = use_store(directory)
            keys = view_digests(images, views, augmentation)
            for cut, rows in self._rows(store, pretrained, images, keys, augmentation).items():
                opened[names[cut]] = _Opened(_features(images, store.open(cut), rows.reshape(views, -1)), use)
        return {cut: opened[names[cut]].features for cut in cuts}

    def count_missing(
        self, images: LabeledImages, cuts: Sequence[str], *, views: int = 1, augmentation: Augmentation | None = None
    ) -> int:
        """Return the number of views of images whose maps `prepare` would compute."""
        views = views if augmentation is not None and _changes(augmentation) else 1
        pretrained = self.space.pretrained()
        maps = measure(pretrained, images.shape)
        store = FeatureStore(self._store_directory(pretrained, images), {cut: maps[cut] for cut in cuts})
        keys = view_digests(images, views, augmentation)
        return int(np.any([store.find(cut, keys)[0] < 0 for cut in cuts], axis=0).sum())

    def seconds_per_image(
        self, images: LabeledImages, cuts: Sequence[str], augmentation: Augmentation | None = None
    ) -> float:
        """Return the time in which `prepare` computes the maps of one view, measured with some views; stores none.

        Args:
            images: of which some are used.
            cuts: names of stages.
            augmentation: of the views.
        """
        pretrained = self.space.pretrained()
        extractor = self._extractor(pretrained, images, cuts, augmentation)
        views = [(digest(str(i).encode()), len(images) + i % len(images)) for i in range(TIMED)]  # augmented ones
        done, started = 0, 0.0
        for _, n in extractor.maps(views):
            if not started:  # the first pass allocates memory
                started = time.perf_counter()
                continue
            done += n
            if time.perf_counter() - started > TIMED_SECONDS:
                break
        return (time.perf_counter() - started) / done

    def _extractor(
        self, pretrained: Pretrained, images: LabeledImages, cuts: Sequence[str], augmentation: Augmentation | None
    ) -> MapExtractor:
        return MapExtractor(
            pretrained,
            images,
            cuts,
            augmentation=augmentation,
            device=self.device,
            directory=self._store_directory(pretrained, images),
            notify=self.notify,
        )

    def _store_directory(self, pretrained: Pretrained, images: LabeledImages) -> Path:
        device = f"{self.device} onnx" if uses_onnx(pretrained, self.device) else self.device
        about = f"{VERSION} {describe(pretrained)} {images.shape} {device}"
        return self.directory / hashlib.sha256(about.encode()).hexdigest()[:16]

    def _rows(
        self,
        store: FeatureStore,
        pretrained: Pretrained,
        images: LabeledImages,
        keys: Sequence[bytes],
        augmentation: Augmentation | None,
    ) -> dict[str, NDArray[np.int64]]:
        """Return the row of each digest by cut, after computing the maps that are missing."""
        found = {cut: store.find(cut, keys)[0] for cut in store.shapes}
        if all((rows >= 0).all() for rows in found.values()):
            return found
        with store.locked(self.notify):  # another process may have computed them meanwhile
            missing = self._missing(store, keys)
            if missing:
                record_dataset(store.directory, pretrained.name, images.shape, self.dataset)
                needed = sum(store.bytes_per_image(tuple(cuts)) for _, cuts in missing.values())
                make_room(store.directory, needed, self.notify)
                self._compute(store, pretrained, images, missing, augmentation)
            found = {cut: store.find(cut, keys)[0] for cut in store.shapes}
        if any((rows < 0).any() for rows in found.values()):
            raise ResourceError(f"{store.directory} does not return the features as they were written: check the disk.")
        return found

    def _missing(self, store: FeatureStore, keys: Sequence[bytes]) -> dict[bytes, tuple[int, set[str]]]:
        """Return the digests without a map at some cut: their position in `keys`, and those cuts."""
        missing: dict[bytes, tuple[int, set[str]]] = {}
        for cut in store.shapes:
            rows, n_damaged = store.find(cut, keys)
            if n_damaged:
                self.notify(f"Damaged feature maps in the cache at {cut}: {n_damaged:,}, which are computed again.")
            for position in np.flatnonzero(rows < 0).tolist():
                missing.setdefault(keys[position], (position, set()))[1].add(cut)
        return missing

    def _compute(
        self,
        store: FeatureStore,
        pretrained: Pretrained,
        images: LabeledImages,
        missing: Mapping[bytes, tuple[int, set[str]]],
        augmentation: Augmentation | None,
    ) -> None:
        """Compute the missing maps and append them to the store, chunk by chunk."""
        extractor = self._extractor(pretrained, images, tuple(store.shapes), augmentation)
        size = _chunk_size(store, extractor.batch_size)
        due, done = list(missing.items()), 0
        self.watch(0, len(due))
        for start in range(0, len(due), size):
            chunk = due[start : start + size]
            found: dict[str, list[NDArray[np.float16]]] = {cut: [] for cut in store.shapes}
            for maps, n in extractor.maps([(key, position) for key, (position, _) in chunk]):
                for cut, batch in maps.items():
                    found[cut].append(batch)
                done += n
                self.watch(done, len(due))
            for cut, parts in found.items():
                is_due = np.array([cut in cuts for _, (_, cuts) in chunk])
                own = [key for key, (_, cuts) in chunk if cut in cuts]
                store.append(cut, own, np.concatenate(parts)[is_due])


@dataclass(frozen=True)
class _Opened:
    """Features, and the lock that keeps their files from being removed."""

    features: Features
    use: Use


def _features(images: LabeledImages, maps: NDArray[np.float16], rows: NDArray[np.int64]) -> Features:
    """Return the feature maps of images; `rows`: (views, n) row of each view of each image."""
    return Features(
        images=maps,  # type: ignore[arg-type]  # float16
        labels=images.labels,
        class_names=images.class_names,
        on_disk=True,
        files=images.files,
        indices=images.indices,
        rows=rows,
    )


def _chunk_size(store: FeatureStore, batch: int) -> int:
    """Return the number of images whose maps are written at a time, whole batches."""
    fits = CHUNK_BYTES // store.bytes_per_image(tuple(store.shapes))
    return max(batch, min(CHUNK, fits) // batch * batch)


def _changes(augmentation: Augmentation) -> bool:
    """Return whether an augmentation does anything."""
    return bool(augmentation.crop_padding or augmentation.horizontal_flip or augmentation.cutout)


def on_features(
    network: nn.Sequential, data: SearchData, *, views: int = 1, augmentation: Augmentation | None = None
) -> tuple[nn.Sequential, SearchData]:
    """Return the trained part of a network, and the data that it reads; both unchanged without a frozen backbone.

    Args:
        network: whole network; its trained part shares its modules.
        data: images, with a source of features if the space has a backbone.
        views: of each training image.
        augmentation: of the training images.
    """
    backbone = backbone_of(network)
    if backbone is None or data.features is None or (cut := backbone.cut) is None:
        return network, data
    return trained_part(network), at_cut(data, cut, views=views, augmentation=augmentation)
