"""Download of published datasets from several mirrors, with checksums; interrupted downloads are resumed."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from nasx.errors import DataError, ResourceError, did_you_mean
from nasx.places import prepare, report_lost_cache

Progress = Callable[[str, int, int | None], None]  # file, bytes so far, total bytes if known
_CHUNK = 1 << 16  # bytes
_TIMEOUT = (10, 60)  # seconds: to connect, to receive the next bytes
_ATTEMPTS = 3  # per mirror, while each attempt receives new bytes


@dataclass(frozen=True)
class RemoteFile:
    """One published file."""

    name: str
    known_hash: str  # "md5:..." or "sha256:...", as published
    urls: tuple[str, ...]  # mirrors, the first preferred


@dataclass(frozen=True)
class PublishedDataset:
    """Published dataset: its files, and the folder that its reader expects."""

    folder: str  # inside the user's root
    files: tuple[RemoteFile, ...]
    unpack: bool = False  # whether the files are tar archives that contain `folder`


def _idx(folder: str, mirrors: tuple[str, ...], hashes: Mapping[str, str]) -> PublishedDataset:
    files = (RemoteFile(name, f"md5:{md5}", tuple(f"{url}{name}" for url in mirrors)) for name, md5 in hashes.items())
    return PublishedDataset(folder, tuple(files))


def _cifar(folder: str, archive: str, md5: str) -> PublishedDataset:
    url = f"https://www.cs.toronto.edu/~kriz/{archive}"
    return PublishedDataset(folder, (RemoteFile(archive, f"md5:{md5}", (url,)),), unpack=True)


PUBLISHED: Mapping[str, PublishedDataset] = {
    "cifar10": _cifar("cifar-10-batches-py", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    "cifar100": _cifar("cifar-100-python", "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    "mnist": _idx(
        "MNIST/raw",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion_mnist": _idx(
        "FashionMNIST/raw",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
}
REGISTRATION_REQUIRED: Mapping[str, str] = {
    "imagenet16_120": "image-net.org requires registration for ImageNet's 16x16 images (under Download). "
    "Unpack them into one folder and set dataset.root to it.",
}


def cache_folder() -> Path:
    """Return the folder of nasx in the user's cache directory, for files that can be created again."""
    prepare()
    report_lost_cache()
    return Path(pooch.os_cache("nasx"))


def fetch(name: str, root: Path, *, progress: Progress | None = None) -> Path:
    """Download a published dataset. Files that exist and have the right checksum are not downloaded again.

    Args:
        name: of the dataset's config, e.g. cifar10.
        root: directory for the dataset; to be set as dataset.root.
        progress: called with the name of the file, the bytes so far and, if known, the total bytes.

    Returns:
        The folder of the dataset in `root`.

    Raises:
        DataError: if no mirror has a file with the published checksum.
        ResourceError: if the disk is full or read-only.
    """
    if name in REGISTRATION_REQUIRED:
        raise DataError(f"{name} cannot be downloaded: {REGISTRATION_REQUIRED[name]}")
    if name not in PUBLISHED:
        raise DataError(f"there is no download for {name!r}. {did_you_mean(name, PUBLISHED)}")
    return fetch_published(PUBLISHED[name], root, progress=progress)


def fetch_published(publication: PublishedDataset, root: Path, *, progress: Progress | None = None) -> Path:
    """Download the files of a dataset that is not in `PUBLISHED`; see `fetch`."""
    folder = root / publication.folder
    if publication.unpack and folder.is_dir():
        return folder  # complete: it was created by a rename
    try:
        into = root if publication.unpack else folder
        into.mkdir(parents=True, exist_ok=True)
        for file in publication.files:
            path = _fetch_file(file, into, progress)
            if publication.unpack:
                _unpack(path, publication.folder, root)
    except OSError as error:
        raise ResourceError(f"{root} cannot store the files ({error.strerror or error}).") from error
    return folder


def _fetch_file(file: RemoteFile, folder: Path, progress: Progress | None) -> Path:
    """Download a file into `folder` from the first mirror that has it."""
    pooch.get_logger().setLevel("WARNING")  # nasx reports the progress itself
    problems = []
    for url in file.urls:
        downloader = _ResumingDownloader(folder / f"{file.name}.part", progress)
        try:
            return Path(pooch.retrieve(url, file.known_hash, fname=file.name, path=folder, downloader=downloader))
        except requests.HTTPError as error:
            problems.append(f"{url} returned {error.response.status_code} {error.response.reason}")
        except requests.ConnectionError:
            problems.append(f"{url} cannot be reached, or the connection was lost: run again to resume")
        except requests.Timeout:
            problems.append(f"{url} does not respond: run again to resume")
        except requests.RequestException as error:
            problems.append(f"{url}: {' '.join(str(error).split())}")
        except ValueError:  # raised by pooch if the checksum differs
            problems.append(f"{url} has another file than the published one (its checksum is not {file.known_hash})")
    raise DataError(f"{file.name} cannot be downloaded: {'; '.join(problems)}. Or copy the file into {folder}.")


class _ResumingDownloader:
    """Downloader for pooch that keeps a partial file after a failure; the next attempt requests the rest."""

    def __init__(self, part: Path, progress: Progress | None) -> None:
        self.part = part
        self.progress = progress

    def __call__(self, url: str, output_file: str, _pooch: Any, check_only: bool = False) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            before = self._size()
            try:
                self._download(url)
                break
            except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError) as error:
                if attempt == _ATTEMPTS or self._size() == before:
                    raise requests.ConnectionError(str(error)) from error
        shutil.move(self.part, output_file)  # pooch checks the checksum, and removes the file if it differs

    def _download(self, url: str) -> None:
        have = self._size()
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, stream=True, headers=headers, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is left to request; pooch checks the checksum
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            have = have if resumed else 0  # a server without range requests sends the whole file
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with self.part.open("ab" if resumed else "wb") as file:
                for chunk in response.iter_content(_CHUNK):
                    file.write(chunk)
                    have += len(chunk)
                    if self.progress:
                        self.progress(self.part.stem, have, total)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0


def _unpack(archive: Path, folder: str, root: Path) -> None:
    """Extract `folder` from a tar archive into `root`, atomically: by a rename."""
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")  # no paths outside of the folder, no devices
        except (tarfile.TarError, EOFError) as error:
            problem = " ".join(str(error).split())
            raise DataError(f"{archive} cannot be unpacked ({problem}). Delete it and download it again.") from error
        if not (Path(scratch) / folder).is_dir():
            raise DataError(f"{archive} does not contain the folder {folder}.")
        (Path(scratch) / folder).rename(root / folder)
