"""Whatever is wrong with what people bring is told in one line and costs status 2; nothing in a file is ever run.

One table: data, configs, run directories, model files and ids. Finer points of single readers have tests of their own
beside them (tests/data/test_bad_files.py, test_unpickle.py, test_arrays.py, test_folder.py).
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from PIL import Image

import nasx.workflows.search
from nasx.cli.main import main
from nasx.config.components import build
from nasx.config.compose import compose
from nasx.data.download import _unpack
from nasx.errors import NasxError
from nasx.evaluation.tabular import TabularEvaluation
from nasx.introspection.class_similarity import read_similarity
from tests.data.published_formats import python2_pickle, write_cifar10, write_cifar100, write_idx, write_imagenet16

Act = Callable[[], Any]
BIG = 2**31


class Evil:
    """Whoever unpickles it runs a command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@dataclass
class Case:
    """Where a bad input is made, and what may be broken for it."""

    here: Path  # an empty directory
    canary: Path  # a file that only code out of the input would make
    sound_run: Path
    capsys: pytest.CaptureFixture[str]

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    @property
    def run(self) -> Path:
        """A copy of a sound run."""
        copy = self.here / "run"
        if not copy.exists():
            shutil.copytree(self.sound_run, copy)
        return copy

    @property
    def weights(self) -> Path:
        return sorted(self.run.glob("archs/*/weights_0.safetensors"))[0]

    def command(self, *words: object) -> None:
        """Run a command; what it says on stderr becomes the error, if its status is 2."""
        status = main([str(word) for word in words])
        said = self.capsys.readouterr().err.strip()
        assert status == 2, (status, said)
        raise NasxError(said.removeprefix("nasx: "))

    def explain(self) -> None:
        self.command("explain", "--arch-id", self.weights.parent.name, "--run-dir", self.run)


@cache
def node_of(name: str) -> dict[str, Any]:
    return dict(compose("lines", [f"dataset={name}"])["dataset"])


def read(name: str, **settings: Any) -> None:
    """Read all of a dataset by its config's name."""
    given = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    dataset = build(node_of(name) | given, "dataset")
    dataset.train()
    dataset.test()


# --- data -----------------------------------------------------------------------------------------------------------


def pickled_batch(write: Callable[[Path], Any], file: str, content: Callable[[Case], bytes], name: str):
    def act(case: Case) -> None:
        write(case.here)
        case.write(file, content(case))
        read(name, root=case.here)

    return act


def evil_pickle(case: Case) -> bytes:
    return pickle.dumps({"data": Evil(case.canary), "labels": []}, protocol=2)


def evil_opcodes(case: Case) -> bytes:
    return f"cos\nsystem\n(S'touch {case.canary}'\ntR.".encode()


def evil_eval(case: Case) -> bytes:
    return f'cbuiltins\neval\n(S\'open("{case.canary}","w")\'\ntR.'.encode()


def imagenet16_of(batch: dict):
    def act(case: Case) -> None:
        write_imagenet16(case.here)
        python2_pickle(batch, case.here / "ImageNet16" / "train_data_batch_7")
        read("imagenet16_120", root=case.here)

    return act


def imagenet16_cut(case: Case) -> None:
    write_imagenet16(case.here)
    file = case.here / "ImageNet16" / "train_data_batch_10"
    file.write_bytes(file.read_bytes()[:-300])
    read("imagenet16_120", root=case.here)


def imagenet16_missing(case: Case) -> None:
    write_imagenet16(case.here)
    (case.here / "ImageNet16" / "train_data_batch_3").unlink()
    read("imagenet16_120", root=case.here)


def idx_of(content: bytes, *, gzipped: bool = False):
    def act(case: Case) -> None:
        write_idx(case.here / "MNIST/raw", gzipped=False)
        images = case.here / "MNIST/raw/train-images-idx3-ubyte"
        images.unlink()
        case.write(f"MNIST/raw/train-images-idx3-ubyte{'.gz' if gzipped else ''}", content)
        read("mnist", root=case.here)

    return act


def npz_of(**members: bytes):
    """An archive of these members, as they are."""

    def act(case: Case) -> None:
        with zipfile.ZipFile(case.here / "x.npz", "w") as archive:
            for name, content in members.items():
                archive.writestr(f"{name}.npy", content)
        read("numpy", file=case.here / "x.npz")

    return act


def npy_claiming(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue() + content


def npz_of_objects(case: Case) -> None:
    objects = np.array([Evil(case.canary)], dtype=object)
    np.savez(case.here / "x.npz", images=objects, labels=np.array([0]))
    read("numpy", file=case.here / "x.npz")


def npz_that_is_a_pickle(case: Case) -> None:
    read("numpy", file=case.write("x.npz", evil_pickle(case)))


def npz_symlinked_to_a_secret(case: Case) -> None:
    (case.here / "x.npz").symlink_to("/etc/passwd")
    read("numpy", file=case.here / "x.npz")


def folder_with(name: str, content: bytes | Callable[[Path], None]):
    """Two classes of sound pictures, and one bad file beside them."""

    def act(case: Case) -> None:
        for kind in ("cat", "dog"):
            (case.here / "images" / kind).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (9, 9), (number, 0, 0)).save(case.here / "images" / kind / f"{number}.png")
        path = case.here / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content.replace(b"CANARY", str(case.canary).encode()))
        else:
            content(path)
        read("folder", root=case.here / "images", cache=case.here / "cache", test_fraction=0.4)

    return act


def png(width: int, height: int) -> bytes:
    """A small PNG whose header claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def sound_picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((40, 40), 60).convert("RGB").save(out, kind)
    return out.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(CANARY) (w) file closefile showpage\n%%EOF\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


def a_link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def tar_of(*members: tuple[str, str], kind: bytes = tarfile.REGTYPE):
    """An archive with the folder that is looked for, and members (name, link target) that want out of it."""

    def act(case: Case) -> None:
        archive = case.here / "x.tar"
        with tarfile.open(archive, "w") as tar:
            for name, target in (("good/file", ""), *members):
                info = tarfile.TarInfo(name.replace("CANARY", str(case.canary)))
                info.type = kind if (name, target) in members else tarfile.REGTYPE
                info.linkname = target
                info.size = 4 if info.isreg() else 0
                tar.addfile(info, io.BytesIO(b"evil"[: info.size]))
        _unpack(archive, "good", case.here)

    return act


def tar_bytes(content: bytes):
    def act(case: Case) -> None:
        _unpack(case.write("x.tar", content), "good", case.here)

    return act


def table_of(text: str):
    def act(case: Case) -> None:
        table = TabularEvaluation(table=case.write("table.csv", text), metrics={}, architecture="arch")
        table.read(build(compose("lines")["space"], "space"), (), None)

    return act


def similarity_of(text: str):
    return lambda case: read_similarity(case.write("classes.csv", text))


def unpickled_wrong(**changes: Any) -> dict:
    return {"data": np.zeros((3, 768), np.uint8), "labels": [1, 2, 3], **changes}


CIFAR, CIFAR100, IMAGENET = "cifar-10-batches-py/data_batch_2", "cifar-100-python/train", "ImageNet16/val_data"
DATA = {
    "a pickle that runs a command": (pickled_batch(write_cifar10, CIFAR, evil_pickle, "cifar10"), "refused.*system"),
    "opcodes that run a command": (pickled_batch(write_cifar10, CIFAR, evil_opcodes, "cifar10"), "'os.system'"),
    "a pickle that evaluates": (pickled_batch(write_cifar100, CIFAR100, evil_eval, "cifar100"), "'builtins.eval'"),
    "batches that run a command": (
        pickled_batch(write_imagenet16, "ImageNet16/train_data_batch_1", evil_pickle, "imagenet16_120"),
        "is refused",
    ),
    "a batch cut short": (imagenet16_cut, "train_data_batch_10 cannot be read as a pickle"),
    "a batch missing": (imagenet16_missing, "train_data_batch_3 is missing: ImageNet-16-120 needs"),
    "labels from 0": (imagenet16_of(unpickled_wrong(labels=[0, 1, 2])), "expected labels 1 to 1000, got 0"),
    "labels past 1000": (imagenet16_of(unpickled_wrong(labels=[1, 1, 1001])), "got 1001 at image 2"),
    "labels as words": (imagenet16_of(unpickled_wrong(labels=["a", "b", "c"])), "a list of integers"),
    "fewer labels": (imagenet16_of(unpickled_wrong(labels=[1])), "got 3 images and 1 labels"),
    "pixels of another size": (imagenet16_of(unpickled_wrong(data=np.zeros((3, 3072), np.uint8))), r"shape \(n, 768\)"),
    "2**31 images claimed by idx": (idx_of(struct.pack(">4I", 2051, BIG, 28, 28) + bytes(99)), "declares .* got 99"),
    "idx of two dimensions": (idx_of(struct.pack(">3I", 2050, 9, 9) + bytes(81)), "magic number 2051, got 2050"),
    "idx that unzips for ever": (
        idx_of(gzip.compress(struct.pack(">4I", 2051, 1, 28, 28) + bytes(2_000_000)), gzipped=True),
        "declares 784 values, got more",
    ),
    "idx zipped otherwise": (idx_of(zlib.compress(bytes(100)), gzipped=True), "cannot be unzipped"),
    "objects in an npz": (npz_of_objects, "expected an .npz archive of plain arrays"),
    "a pickle named npz": (npz_that_is_a_pickle, "expected an .npz archive of plain arrays"),
    "an npz that links to a secret": (npz_symlinked_to_a_secret, "expected an .npz archive of plain arrays"),
    "2**31 images claimed by npy": (npz_of(images=npy_claiming((BIG, 32, 32)), labels=b""), "archive of plain arrays"),
    "a negative shape in npy": (npz_of(images=npy_claiming((-1, 8, 8)), labels=b""), "archive of plain arrays"),
    "code in the header of npy": (
        npz_of(images=b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').system('id')".ljust(63) + b"\n", labels=b""),
        "archive of plain arrays",
    ),
    "members that are no arrays": (npz_of(images=b"hello", labels=b"hello"), "archive of plain arrays"),
    "a PNG of 2**31 pixels a side": (folder_with("cat/x.png", png(BIG - 1, BIG - 1)), "cat/x.png cannot be read"),
    "a PNG of 400 megapixels": (folder_with("cat/x.png", png(20_000, 20_000)), "exceeds limit|cannot be read"),
    "a PNG without width": (folder_with("cat/x.png", png(0, 9)), "cannot be read as an image"),
    "a GIF of 65535 pixels a side": (folder_with("cat/x.gif", b"GIF89a" + b"\xff" * 4 + bytes(20)), "cannot be read"),
    "a JPEG cut short": (folder_with("dog/x.jpg", sound_picture("JPEG")[:200]), "dog/x.jpg cannot be read"),
    "a WebP cut short": (folder_with("dog/x.webp", sound_picture("WEBP")[:99]), "dog/x.webp cannot be read"),
    "an empty picture": (folder_with("dog/x.bmp", b""), "dog/x.bmp cannot be read"),
    "a web page named jpg": (folder_with("dog/x.jpg", b"<html>404</html>"), "dog/x.jpg cannot be read"),
    "PostScript named png": (folder_with("dog/x.png", POSTSCRIPT), "dog/x.png cannot be read"),
    "SVG that reads a file": (folder_with("dog/x.png", SVG), "dog/x.png cannot be read"),
    "a picture that links to a secret": (folder_with("cat/x.png", a_link_to("/etc/passwd")), "cannot be read"),
    "a name of control characters": (folder_with("cat/\x1b[2J\n.png", b"x"), "cannot be read as an image"),
    "a class of dangling links": (folder_with("bird/x.png", a_link_to("nowhere")), "bird contains no images"),
    "a class of endless links": (folder_with("bird/x.png", a_link_to("x.png")), "bird contains no images"),
    "an archive that climbs out": (tar_of(("../../CANARY", "")), "cannot be unpacked"),
    "an archive that links hard": (tar_of(("good/link", "../../x"), kind=tarfile.LNKTYPE), "cannot be unpacked"),
    "an archive that links out": (tar_of(("good/link", "../../../etc"), kind=tarfile.SYMTYPE), "cannot be unpacked"),
    "an archive that links absolutely": (tar_of(("good/link", "/etc/passwd"), kind=tarfile.SYMTYPE), "cannot be unpac"),
    "an archive of devices": (tar_of(("good/null", ""), kind=tarfile.CHRTYPE), "cannot be unpacked"),
    "noise named tar": (tar_bytes(bytes(range(256)) * 8), "cannot be unpacked"),
    "an empty tar": (tar_bytes(b""), "cannot be unpacked"),
    "a table of another form": (table_of("a,b\n1,2\n"), "has no column 'arch'"),
    "a table of malformed cells": (table_of("arch\n|none~0|\n"), "line 2: expected 3 nodes"),
    "a table that is no text": (table_of("arch\n\x00\n"), "line 2|cannot be read as CSV"),
    "an empty table": (table_of(""), "has no column 'arch'"),
    "similarities not square": (similarity_of(",a,b\na,1,0\n"), "classes.csv"),
    "similarities below 0": (similarity_of(",a,b\na,1,-1\nb,-1,1\n"), "classes.csv"),
    "similarities that are words": (similarity_of(",a,b\na,1,x\nb,x,1\n"), "classes.csv"),
}  # fmt: skip


# --- configs --------------------------------------------------------------------------------------------------------


def config_of(content: bytes | str, *overrides: str):
    def act(case: Case) -> None:
        text = content if isinstance(content, bytes) else content.replace("CANARY", str(case.canary)).encode()
        config = compose(str(case.write("mine.yaml", text)), list(overrides))
        nasx.workflows.search.prepare(config)

    return act


def override(*words: str):
    def act(case: Case) -> None:
        nasx.workflows.search.prepare(compose("lines", [word.replace("CANARY", str(case.canary)) for word in words]))

    return act


BASED = "defaults:\n  - lines\n  - _self_\n"
TAG = "!!python/object/apply:os.system"
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 28))
CONFIGS = {
    "no YAML": (config_of("a: [1\nb: }"), "mine.yaml"),
    "no text": (config_of(b"\xff\xfe\x00\x01" * 9), "mine.yaml"),
    "a list": (config_of("- 1\n- 2\n"), "mine.yaml"),
    "nothing": (config_of(""), "missing|empty"),
    "a tag that runs a command": (config_of(f"{BASED}x: {TAG} ['touch CANARY']\n"), "python/"),
    "a tag that imports": (config_of(f"{BASED}x: !!python/name:os.system\n"), "python/"),
    "a class that is no dataset": (config_of(f"{BASED}dataset: {{_target_: subprocess.Popen}}\n"), "dataset"),
    "aliases of aliases": (config_of(BASED + BOMB), r"aliases expand to more than 100,000 values"),
    "depth without end": (config_of("a: " + "[" * 5000), "mine.yaml"),
    "itself in its defaults": (config_of("defaults:\n  - mine\n  - _self_\n"), "mine"),
    "an unknown key": (config_of(f"{BASED}sede: 1\n"), "unknown key sede. Did you mean seed"),
    "a reference to nothing": (config_of(f"{BASED}seed: ${{nowhere}}\n"), "nowhere"),
    "a reference to itself": (config_of(f"{BASED}seed: ${{seed}}\n"), "seed"),
    "a name that climbs": (config_of(f"{BASED}name: ../../x\n"), "name must be the name of a folder"),
    "a function for a dataset": (override("dataset._target_=os.system"), "cannot be used as dataset: it has no train and no test"),
    "a process for a scorer": (override("scorer._target_=subprocess.Popen"), "subprocess.Popen cannot be used as scorer"),
    "eval for a space": (override("space._target_=builtins.eval"), "builtins.eval cannot be used as space"),
    "a process for an operation": (
        override("space=cell_yaml", '+space.operations.x={_target_: subprocess.Popen, args: [touch, "CANARY"]}'),
        "must be a torch module, got subprocess.Popen",
    ),
    "not a number": (override("training.learning_rate=.nan"), "training.learning_rate"),
    "infinity": (override("training.learning_rate=.inf"), "training.learning_rate"),
    "a text for a number": (override("training.epochs=many"), "training.epochs must be an integer, got 'many'"),
    "a share above 1": (override("split.validation_fraction=2"), "must be more than 0 and less than 1, got 2"),
    "an objective unknown": (override("objectives=[eror]"), "Did you mean"),
    "no objective": (override("objectives=[]"), "must name at least one"),
    "a choice unknown": (override("space=nb2O1"), "Did you mean|nb201"),
}  # fmt: skip


# --- run directories and ids ----------------------------------------------------------------------------------------


def run_with(file: str, content: bytes | str | None, *command: str):
    """A command on a run of which one file is something else, or gone."""

    def act(case: Case) -> None:
        path = case.run / file
        for beside in case.run.glob(f"{file}*"):
            beside.unlink()
        if content is not None:
            case.write(f"run/{path.relative_to(case.run)}", content)
        case.command(*(command or ("pareto",)), "--run-dir", case.run)

    return act


def journal_with(change: str, *command: str):
    def act(case: Case) -> None:
        with sqlite3.connect(case.run / "run.db") as connection:
            connection.execute(change)
        connection.close()
        case.command(*(command or ("pareto",)), "--run-dir", case.run)

    return act


def config_with(old: str, new: str):
    """`nasx explain` on a run whose config.yaml somebody else has written."""

    def act(case: Case) -> None:
        text = (case.run / "config.yaml").read_text()
        assert old in text
        (case.run / "config.yaml").write_text(text.replace(old, new.replace("CANARY", str(case.canary)), 1))
        case.explain()

    return act


def weights_of(content: Callable[[Case, bytes], bytes | None]):
    def act(case: Case) -> None:
        arch_id, changed = case.weights.parent.name, content(case, case.weights.read_bytes())
        if changed is None:
            case.weights.unlink()
        else:
            case.weights.write_bytes(changed)
        case.command("explain", "--arch-id", arch_id, "--run-dir", case.run)

    return act


def other_network(case: Case, _: bytes) -> bytes:
    from safetensors.torch import save

    return save({"stem.0.weight": torch.zeros(2, 2)})


def evil_zip(case: Case, _: bytes = b"") -> bytes:
    out = io.BytesIO()
    torch.save({"weights": Evil(case.canary)}, out)
    return out.getvalue()


def header_of(length: int, header: bytes) -> bytes:
    return struct.pack("<Q", length) + header


def with_run_dir(make: Callable[[Case], Path]):
    return lambda case: case.command("pareto", "--run-dir", make(case))


def linked(case: Case, target: str) -> Path:
    link = case.here / "link"
    link.symlink_to(target)
    return link


def arch(text: str):
    return lambda case: case.command("explain", "--arch-id", text, "--run-dir", case.run)


SCHEMA_99 = "PRAGMA user_version = 99"
RUNS = {
    "a journal of noise": (run_with("run.db", bytes(range(256)) * 20), "run.db is damaged"),
    "a journal without content": (run_with("run.db", b""), "is empty: its search was stopped"),
    "a journal that is a pickle": (run_with("run.db", pickle.dumps([1] * 2000)), "run.db is damaged"),
    "a run without journal": (run_with("run.db", None), "is not a run directory"),
    "a journal of the future": (journal_with(SCHEMA_99), "was written by a newer nasx"),
    "a journal of another program": (journal_with("PRAGMA application_id = 7"), "not a journal of nasx"),
    "a journal without trials": (journal_with("DROP TABLE trials"), "run.db"),
    "genotypes that are no lists": (journal_with("UPDATE trials SET genotype = '['"), "run.db"),
    "metrics that are words": (journal_with("""UPDATE trials SET metrics = '"x"'"""), "run.db"),
    "a status unknown": (journal_with("UPDATE trials SET status = 'splendid'"), "run.db"),
    "an objective of another run": (journal_with("""UPDATE run SET objectives = '["beauty"]'"""), "run.db|beauty"),
    "distances cut short": (journal_with("UPDATE scores SET distances = x'00'"), "run.db"),
    "the run of somebody who is gone": (journal_with("DELETE FROM run"), "run.db"),
    "no config": (run_with("config.yaml", None, "search", "--resume"), "config.yaml"),
    "a config without content": (run_with("config.yaml", "", "search", "--resume"), "dataset is missing: choose one"),
    "a config of noise": (run_with("config.yaml", b"\xff\x00" * 50, "search", "--resume"), "config.yaml"),
    "a config that runs a command": (config_with("nasx.data.synthetic.Lines", "os.system"), "os.system cannot be used as dataset"),
    "a config that starts a process": (
        config_with("nasx.spaces.nb201.NASBench201", "subprocess.Popen"),
        "subprocess.Popen cannot be used as space",
    ),
    "a config with a tag": (
        config_with("seed: 0", f"seed: {TAG} ['touch CANARY']"),
        "config.yaml",
    ),
    "a config of other settings": (config_with("channels: 4", "channels: 5"), "cannot be used"),
    "weights gone": (weights_of(lambda case, data: None), "keeps no weights"),
    "weights cut short": (weights_of(lambda case, data: data[:-9]), "bytes of tensors"),
    "weights of noise": (weights_of(lambda case, data: b"\x00\x01" * 300), "not a safetensors file"),
    "a bit of the weights flipped": (weights_of(lambda case, data: data[:-1] + bytes([data[-1] ^ 1])), "checksum does not match"),
    "weights that run a command": (weights_of(evil_zip), "not a safetensors file"),
    "weights that are a pickle": (weights_of(lambda case, data: pickle.dumps(Evil(case.canary))), "not a safetensors"),
    "a header of 2**62 bytes": (weights_of(lambda case, data: header_of(2**62, b"{}")), "its header is truncated"),
    "a header that is a list": (weights_of(lambda case, data: header_of(2, b"[]")), "not a JSON object"),
    "a header without end": (weights_of(lambda case, data: header_of(90_000, b"[" * 90_000)), "not a safetensors file"),
    "a header of other entries": (weights_of(lambda case, data: header_of(8, b'{"a": 1}')), "not a safetensors file"),
    "weights of another network": (weights_of(other_network), "cannot be used"),
    "a run that is a file": (with_run_dir(lambda case: case.write("x", "")), "is not a run directory"),
    "a run that is nowhere": (with_run_dir(lambda case: case.here / "nowhere"), "does not exist"),
    "a link to nowhere": (with_run_dir(lambda case: linked(case, "nowhere")), "does not exist"),
    "a link to itself": (with_run_dir(lambda case: linked(case, "link")), "does not exist|is not a run"),
    "a path of a null byte": (with_run_dir(lambda case: f"{case.here}/a\0b"), "does not exist|null|is not"),  # type: ignore[arg-type,return-value]
    "an id unknown": (arch("0000000000"), "no architecture '0000000000' in this run"),
    "an id of nothing": (arch(""), "matches|no architecture"),
    "an id that climbs": (arch("../../../etc/passwd"), "no architecture '../../../etc/passwd'"),
    "an id of control characters": (arch("a\x1b[2J\nb"), "no architecture"),
    "an id of SQL": (arch("' OR 1=1; DROP TABLE trials; --"), "no architecture"),
    "an id without end": (arch("f" * 10_000), "no architecture"),
}  # fmt: skip


# --- model files ----------------------------------------------------------------------------------------------------


def state_of(name: str, content: Callable[[Case], bytes]):
    def act(case: Case) -> None:
        from nasx.introspection.load_model import read_state

        read_state(case.write(name, content(case)))

    return act


def model_of(name: str, content: Callable[[Case], bytes]):
    def act(case: Case) -> None:
        from nasx.export.predict import load_model

        load_model(case.write(name, content(case)))

    return act


def saved(content: Any) -> Callable[[Case], bytes]:
    def make(_: Case) -> bytes:
        out = io.BytesIO()
        torch.save(content, out)
        return out.getvalue()

    return make


def plain_safetensors(_: Case) -> bytes:
    from safetensors.torch import save

    return save({"a": torch.zeros(2)})


def described_as(description: str) -> Callable[[Case], bytes]:
    def make(case: Case) -> bytes:
        from safetensors.torch import save

        return save({"a": torch.zeros(2)}, {"nasx": description.replace("CANARY", str(case.canary))})

    return make


HOSTILE = '{"rebuild": {"space": {"_target_": "os.system", "command": "touch CANARY"}}}'
MODELS = {
    "weights by torch.save that run a command": (state_of("x.pt", evil_zip), "contains Python objects"),
    "weights of an old torch that run a command": (state_of("x.pt", evil_opcodes), "contains Python objects"),
    "weights that are a list": (state_of("x.pt", saved([1, 2])), "contains no state_dict"),
    "weights by torch.save cut short": (state_of("x.pt", lambda case: saved({})(case)[:50]), "Python obj|is damaged"),
    "weights without content": (state_of("x.pt", lambda case: b""), "torch.save: EOFError|Python objects"),
    "safetensors that are a pickle": (state_of("x.safetensors", evil_pickle), "cannot be used"),
    "safetensors of an endless header": (
        state_of("x.safetensors", lambda case: header_of(90_000, b"[" * 90_000)),
        "cannot be used: not a safetensors file",
    ),
    "a model of noise": (model_of("x.onnx", lambda case: bytes(range(256))), "x.onnx cannot be loaded"),
    "a model without content": (model_of("x.onnx", lambda case: b""), "x.onnx"),
    "a program of torch": (model_of("x.pt2", evil_zip), "which unpickles it: this can execute any code"),
    "a pickle named safetensors": (model_of("x.safetensors", evil_pickle), "x.safetensors is damaged"),
    "safetensors of somebody else": (model_of("x.safetensors", plain_safetensors), "x.safetensors"),
    "a description that is no JSON": (model_of("x.safetensors", described_as("{")), "x.safetensors"),
    "a description that runs a command": (
        model_of("x.safetensors", described_as(HOSTILE)),
        "x.safetensors",
    ),
}  # fmt: skip

TABLE = {**DATA, **CONFIGS, **RUNS, **MODELS}


@pytest.fixture(scope="session")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a network on its front."""
    run = tmp_path_factory.mktemp("bad_inputs") / "run"
    small = ["dataset.train_images=120", "dataset.noise=0", "training.epochs=2", "training.batch_size=12"]
    nasx.workflows.search.start(compose("lines", [*small, "algorithm=random", "algorithm.evaluations=3"]), run_dir=run)
    assert list(run.glob("archs/*/weights_0.safetensors"))
    return run


def test_the_table_is_long_enough_and_names_nothing_twice():
    assert len(TABLE) == len(DATA) + len(CONFIGS) + len(RUNS) + len(MODELS) >= 60


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", TABLE)
def test_a_bad_input_is_told_in_one_line_and_runs_nothing(name, sound_run, tmp_path, capsys, monkeypatch):
    act, message = TABLE[name]
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    case = Case(here, tmp_path / "canary", sound_run, capsys)

    with pytest.raises(NasxError, match=message) as caught:
        act(case)

    said = str(caught.value)
    assert said.isprintable(), said  # one line, and nothing that a terminal would obey
    assert len(said) < 600
    assert not case.canary.exists()
