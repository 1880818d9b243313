"""Features of images: read from the store, and computed for the images that it does not have.

Feature maps are computed in float32, with deterministic algorithms, and stored in float16: relative to the largest
number of a map, they differ by at most 2^-11 from those of the whole network.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.backbones.feature_store import FOLDER, KEY_BYTES, FeatureStore, Notify
from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.backbones.stages import cut_stages, measure
from nasx.data.augmentation import Augmentation, augment
from nasx.data.batches import as_tensor, normalize
from nasx.data.dataset import LabeledImages, SearchData
from nasx.data.download import cache_folder
from nasx.data.features import Features, at_cut
from nasx.errors import DataError
from nasx.introspection.layers import evaluation_mode
from nasx.networks.backbone import CPU_BATCH, GPU_BATCH, backbone_of, gray_scale, trained_part

VERSION: Final = 1  # of the computation: features of another version are computed again
CHUNK: Final = 256  # images whose maps are written at a time
# digest of each image, (n, KEY_BYTES), of images that are used several times
_digests: WeakKeyDictionary[LabeledImages, list[bytes]] = WeakKeyDictionary()

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
        maps = measure(pretrained, images.shape)
        store = FeatureStore(self._store_directory(pretrained, images), {cut: maps[cut] for cut in cuts})
        keys = view_digests(images, views, augmentation)
        rows = {cut: store.find(cut, keys) for cut in cuts}
        if any((found < 0).any() for found in rows.values()):
            with store.locked(self.notify):
                self._compute(store, pretrained, images, keys, augmentation)
                store.record_use(pretrained.name, images.shape, self.dataset)
            rows = {cut: store.find(cut, keys) for cut in cuts}
        else:
            store.touch()
        return {
            cut: Features(
                images=store.open(cut),  # type: ignore[arg-type]  # float16
                labels=images.labels,
                class_names=images.class_names,
                on_disk=True,
                files=images.files,
                indices=images.indices,
                rows=found.reshape(views, len(images)),
            )
            for cut, found in rows.items()
        }

    def _store_directory(self, pretrained: Pretrained, images: LabeledImages) -> Path:
        name = hashlib.sha256(f"{VERSION} {pretrained.digest} {images.shape}".encode()).hexdigest()[:16]
        return self.directory / name

    def _compute(
        self,
        store: FeatureStore,
        pretrained: Pretrained,
        images: LabeledImages,
        keys: Sequence[bytes],
        augmentation: Augmentation | None,
    ) -> None:
        """Compute the missing maps and append them to the store, chunk by chunk."""
        missing: dict[bytes, tuple[int, set[str]]] = {}  # digest -> its position, cuts without its map
        for cut in store.shapes:
            for position in np.flatnonzero(store.find(cut, keys) < 0).tolist():
                missing.setdefault(keys[position], (position, set()))[1].add(cut)
        needed = sum(store.bytes_per_image(tuple(cuts)) for _, cuts in missing.values())
        store.check_room(needed, self.notify)
        device = torch.device(self.device)
        stages = copy.deepcopy(cut_stages(pretrained, _deepest(pretrained, tuple(store.shapes)), images.shape[0]))
        stages = stages.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batches = _Batches(images, pretrained.preprocessing, augmentation, device)
        due, done = list(missing.items()), 0
        self.watch(0, len(due))
        with evaluation_mode(stages), torch.inference_mode():
            for start in range(0, len(due), CHUNK):
                chunk = due[start : start + CHUNK]
                found: dict[str, list[NDArray[np.float16]]] = {cut: [] for cut in store.shapes}
                for batch in batches.of([(key, position) for key, (position, _) in chunk]):
                    for cut, maps in maps_at(stages, batch, tuple(store.shapes)).items():
                        found[cut].append(_as_float16(maps, pretrained.name, cut))
                    done += len(batch)
                    self.watch(done, len(due))
                for cut, parts in found.items():
                    is_due = np.array([cut in cuts for _, (_, cuts) in chunk])
                    own = [key for key, (_, cuts) in chunk if cut in cuts]
                    store.append(cut, own, np.concatenate(parts)[is_due])


class _Batches:
    """Normalized batches of views of images."""

    def __init__(
        self,
        images: LabeledImages,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None,
        device: torch.device,
    ) -> None:
        self.images = as_tensor(images.images)
        self.mean, self.std = input_scale(preprocessing, images.shape[0])
        self.augmentation = augmentation
        self.device = device
        self.size = CPU_BATCH if device.type == "cpu" else GPU_BATCH

    def of(self, chunk: Sequence[tuple[bytes, int]]) -> Iterator[Tensor]:
        """Yield batches of (digest, position); positions from n on are augmented views."""
        n = len(self.images)
        for start in range(0, len(chunk), self.size):
            part = chunk[start : start + self.size]
            pixels = self.images.index_select(0, torch.tensor([position % n for _, position in part]))
            batch = normalize(pixels, self.mean, self.std)
            for row, (key, position) in enumerate(part):
                if position >= n and self.augmentation is not None:
                    generator = torch.Generator().manual_seed(int.from_bytes(key[:8]) >> 1)
                    batch[row : row + 1] = augment(batch[row : row + 1], self.augmentation, generator)
            yield batch.to(self.device).contiguous(memory_format=torch.channels_last)


def maps_at(stages: nn.Sequential, images: Tensor, cuts: Sequence[str]) -> dict[str, Tensor]:
    """Return the feature maps of images, (n, channels, height, width), after the named stages."""
    found, maps = {}, images
    for name, stage in stages.named_children():
        maps = stage(maps)
        if name in cuts:
            found[name] = maps
    return found


def input_scale(preprocessing: Preprocessing, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation, (channels,), by which images are normalized for a backbone."""
    mean, std = preprocessing.mean, preprocessing.std
    if channels == 1:
        return tuple(np.array(each, np.float32) for each in gray_scale(mean, std))  # type: ignore[return-value]
    return np.array(mean, np.float32), np.array(std, np.float32)


def view_digests(images: LabeledImages, views: int, augmentation: Augmentation | None) -> list[bytes]:
    """Return a digest for each view of each image: of the pixels, and for augmented views also of their number.

    Args:
        images: n images.
        views: number of views.
        augmentation: of all views but the first.

    Returns:
        views * n digests; those of the first view come first.
    """
    plain = _image_digests(images)
    digests = list(plain)
    for view in range(1, views):
        suffix = f" view {view} {augmentation}".encode()
        digests += [_digest(key + suffix) for key in plain]
    return digests


def _image_digests(images: LabeledImages) -> list[bytes]:
    if images not in _digests:
        _digests[images] = [_digest(np.ascontiguousarray(image).tobytes()) for image in images.images]
    return _digests[images]


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def _changes(augmentation: Augmentation) -> bool:
    """Return whether an augmentation does anything."""
    return bool(augmentation.crop_padding or augmentation.horizontal_flip or augmentation.cutout)


def _deepest(pretrained: Pretrained, cuts: Sequence[str]) -> str:
    return max(cuts, key=pretrained.stage_names.index)


def _as_float16(maps: Tensor, backbone: str, cut: str) -> NDArray[np.float16]:
    found: NDArray[np.float16] = maps.half().cpu().contiguous().numpy()
    if not np.isfinite(found).all():
        raise DataError(
            f"the feature maps of {backbone} at {cut} have numbers above 65,504 or none at all, which cannot be "
            "stored: check its weights, or use another backbone."
        )
    return found


def feature_folder(cache: Path | None) -> Path:
    """Return the directory of the stores.

    Args:
        cache: setting of the dataset; None: the user's cache directory.
    """
    return (cache_folder() if cache is None else cache) / FOLDER


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
