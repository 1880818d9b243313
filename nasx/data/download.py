"""Downloads published datasets: every file checked by its hash, resumed where it was cut off, from several mirrors."""

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

Progress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all where known
_CHUNK = 1 << 16  # bytes
_TIMEOUT = (10, 60)  # seconds: to connect, to the next bytes
_ATTEMPTS = 3  # a mirror, as long as each attempt brings new bytes


@dataclass(frozen=True)
class RemoteFile:
    """One published file."""

    name: str
    known_hash: str  # "md5:..." or "sha256:...", as published
    urls: tuple[str, ...]  # mirrors, the first preferred


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset as it is published: its files, and the folder that its reader expects."""

    folder: str  # inside the user's root
    files: tuple[RemoteFile, ...]
    unpack: bool = False  # the files are tar archives that hold `folder`


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
    "imagenet16_120": "image-net.org gives ImageNet's 16x16 images to registered users, under Download. "
    "Unpack them into one folder and give it as dataset.root.",
}


def cache_folder() -> Path:
    """Where nasx keeps what it can make again: the user's cache directory."""
    return Path(pooch.os_cache("nasx"))


def fetch(name: str, root: Path, *, progress: Progress | None = None) -> Path:
    """Download the dataset of that config into `root`, the directory to give as dataset.root; gives its folder.

    Files that are there and sound are left alone. Raises DataError where no mirror gives a file, or gives another,
    and ResourceError where the disk does not take it.
    """
    if name in REGISTRATION_REQUIRED:
        raise DataError(f"{name} cannot be fetched: {REGISTRATION_REQUIRED[name]}")
    if name not in PUBLISHED:
        raise DataError(f"nasx knows no place to fetch {name!r} from. {did_you_mean(name, PUBLISHED)}")
    return fetch_published(PUBLISHED[name], root, progress=progress)


def fetch_published(publication: PublishedDataset, root: Path, *, progress: Progress | None = None) -> Path:
    """As `fetch`, for files published anywhere."""
    folder = root / publication.folder
    if publication.unpack and folder.is_dir():
        return folder  # made by a rename, after every file was there
    try:
        into = root if publication.unpack else folder
        into.mkdir(parents=True, exist_ok=True)
        for file in publication.files:
            path = _fetch_file(file, into, progress)
            if publication.unpack:
                _unpack(path, publication.folder, root)
    except OSError as error:
        raise ResourceError(f"{root} cannot take the files ({error.strerror or error}).") from error
    return folder


def _fetch_file(file: RemoteFile, folder: Path, progress: Progress | None) -> Path:
    """The file in `folder`, from the first mirror that gives it."""
    pooch.get_logger().setLevel("WARNING")  # progress is ours to tell
    problems = []
    for url in file.urls:
        downloader = _ResumingDownloader(folder / f"{file.name}.part", progress)
        try:
            return Path(pooch.retrieve(url, file.known_hash, fname=file.name, path=folder, downloader=downloader))
        except requests.HTTPError as error:
            problems.append(f"{url} answers {error.response.status_code} {error.response.reason}")
        except requests.ConnectionError:
            problems.append(f"{url} cannot be reached, or was cut off: run it again to go on where it stopped")
        except requests.Timeout:
            problems.append(f"{url} does not answer: run it again to go on where it stopped")
        except requests.RequestException as error:
            problems.append(f"{url}: {' '.join(str(error).split())}")
        except ValueError:  # pooch on a hash that differs
            problems.append(f"{url} gives another file than the published one (its hash is not {file.known_hash})")
    raise DataError(f"{file.name} could not be fetched: {'; '.join(problems)}. Or put the file into {folder} yourself.")


class _ResumingDownloader:
    """Downloads for pooch into a file beside the target that outlives a failure: the next attempt asks for the rest."""

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
        shutil.move(self.part, output_file)  # pooch checks the hash, and removes the file where it differs

    def _download(self, url: str) -> None:
        have = self._size()
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, stream=True, headers=headers, timeout=_TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is left to ask for: the hash decides
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            have = have if resumed else 0  # a server that knows no ranges sends everything again
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
    """`folder` out of a tar archive into `root`, by a rename: it is there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter="data")  # nothing outside of the folder, no devices
        except (tarfile.TarError, EOFError) as error:
            problem = " ".join(str(error).split())
            raise DataError(f"{archive} cannot be unpacked ({problem}). Remove it and fetch it again.") from error
        if not (Path(scratch) / folder).is_dir():
            raise DataError(f"{archive} does not hold the folder {folder}.")
        (Path(scratch) / folder).rename(root / folder)
