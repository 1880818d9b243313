"""Whatever is wrong with what people bring is told in one line and costs status 2; nothing in a file is ever run.

One table: data, configs, overrides, command lines, run directories and ids. A new mistake gets a row here. Tables of
their own have what takes many cases of one reader (tests/data/test_bad_files.py, test_unpickle.py, test_arrays.py), the
models of `nasx predict` (tests/export/test_predict.py) and of `nasx score` (tests/cli/test_score_command.py).
"""

from __future__ import annotations

import io
import os
import pickle
import shlex
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
from tests.factories.published_formats import python2_pickle, write_cifar10, write_cifar100, write_imagenet16

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
        """Run a command; its message on stderr becomes the error. Its status must be 2, its stdout empty."""
        status = main([str(word) for word in words])
        out, said = (text.strip() for text in self.capsys.readouterr())
        assert (status, out) == (2, ""), (status, out, said)
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


def npz_of_bytes(change: Callable[[bytes], bytes]):
    """A sound archive, changed."""

    def act(case: Case) -> None:
        out = io.BytesIO()
        np.savez(out, train_images=np.zeros((20, 8, 8), np.uint8), train_labels=np.arange(20) % 2)
        read("numpy", file=case.write("x.npz", change(out.getvalue())))

    return act


def single_array(_: bytes) -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros((20, 8, 8), np.uint8))
    return out.getvalue()


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


def unpickled_wrong(**changes: Any) -> dict:
    return {"data": np.zeros((3, 768), np.uint8), "labels": [1, 2, 3], **changes}


CIFAR, CIFAR100 = "cifar-10-batches-py/data_batch_2", "cifar-100-python/train"
PICTURE = r"dog/x\.\w+ cannot be read as an image \(.+\)\. Replace it .* or remove it\."
NPZ = r"x\.npz is damaged or of another format: .+\. Write it with numpy\.savez"
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
    "numpy without a file": (lambda case: read("numpy", file=None), r"needs its file: set dataset\.file=FILE\.npz\."),
    "numpy from nowhere": (
        lambda case: read("numpy", file="/no/where.npz"),
        r"/no/where\.npz does not exist: a dataset of numpy arrays needs dataset\.file=FILE\.npz\.",
    ),
    "numpy from a folder": (lambda case: read("numpy", file="/"), r"/ is not a file: a dataset of numpy arrays needs "),
    "pictures without a folder": (
        lambda case: read("folder", root=None),
        r"A folder of images needs its path: set dataset\.root=DIR, with one folder per class\.",
    ),
    "pictures from nowhere": (lambda case: read("folder", root="/no/where"), r"/no/where does not exist: a folder of "),
    "pictures from a file": (
        lambda case: read("folder", root=__file__),
        r"test_bad_inputs\.py is not a folder: a folder of images needs dataset\.root=DIR",
    ),
    "objects in an npz": (npz_of_objects, "expected an .npz archive of plain arrays"),
    "a pickle named npz": (npz_that_is_a_pickle, "expected an .npz archive of plain arrays"),
    "an empty npz": (npz_of_bytes(lambda sound: b""), NPZ),
    "noise named npz": (npz_of_bytes(lambda sound: bytes(range(256)) * 2), NPZ),
    "text named npz": (npz_of_bytes(lambda sound: b"train_images"), NPZ),
    "an npz cut off": (npz_of_bytes(lambda sound: sound[:-100]), NPZ),
    "a changed byte in an npz": (npz_of_bytes(lambda sound: sound[:400] + b"\xff\xff" + sound[402:]), NPZ),
    "one array named npz": (npz_of_bytes(single_array), NPZ),
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
    **{
        f"a {kind} cut short": (folder_with(f"dog/x.{kind}", sound_picture(kind)[:half]), rf"dog/x\.{kind} cannot be r")
        for kind, half in (("jpeg", 200), ("webp", 99), ("png", 2000), ("bmp", 2000), ("gif", 900), ("tiff", 2000))
    },
    "a signature alone": (folder_with("dog/x.png", b"\x89PNG\r\n\x1a\n"), PICTURE),
    "a GIF of nothing": (folder_with("dog/x.gif", b"GIF89a"), PICTURE),
    "half a bitmap": (folder_with("dog/x.bmp", b"BM" + bytes(20)), PICTURE),
    "text named png": (folder_with("dog/x.png", b"this is no picture"), PICTURE),
    "a pickle named png": (folder_with("dog/x.png", b"cos\nsystem\n(S'touch CANARY'\ntR."), PICTURE),
    "an empty picture": (folder_with("dog/x.bmp", b""), PICTURE),
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
        config = compose("lines", [word.replace("CANARY", str(case.canary)) for word in words])
        nasx.workflows.search.prepare(config).algorithm(workers=1)

    return act


def choice_of(text: str):
    """A scorer of the user's own, in the file configs/scorer/mine.yaml."""

    def act(case: Case) -> None:
        file = Path("configs/scorer/mine.yaml")
        file.parent.mkdir(parents=True)
        file.write_text(text)
        override("scorer=mine")(case)

    return act


BASED = "defaults:\n  - lines\n  - _self_\n"
TAG = "!!python/object/apply:os.system"
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 28))
CONFIGS = {
    "no YAML": (config_of("a: [1\nb: }"), "mine.yaml"),
    "no text": (config_of(b"\xff\xfe\x00\x01" * 9), "mine.yaml"),
    "a control character": (config_of("a: \x01\n"), r"mine\.yaml cannot be read: "),
    "a list that never ends": (config_of("seed: [1\n"), r"mine\.yaml, line 2: "),
    "a key twice": (config_of("seed: 1\nseed: 2\n"), r"mine\.yaml, line 2: found duplicate key seed\.$"),
    "a tab": (config_of("a:\n\tb: 1\n"), r"mine\.yaml, line 2: found character '\\t' that cannot start any token\.$"),
    "a colon too many": (config_of("a: b: c\n"), r"mine\.yaml, line 1: mapping values are not allowed here\.$"),
    "a list": (config_of("- 1\n- 2\n"), r"mine\.yaml is not a config: it must be a mapping of keys to values\.$"),
    "words": (config_of("just words\n"), r"^dataset is missing: "),
    "nothing": (config_of(""), r"^dataset is missing: choose one in the config's defaults list"),
    "defaults that are a word": (config_of("defaults: digits\n"), r"cannot be composed: .*defaults must be a list"),
    "defaults that are a mapping": (config_of("defaults:\n  digits: 1\n"), r"composed: .*defaults must be a list"),
    "a number in the defaults": (config_of("defaults: [3]\n"), r"cannot be composed: Unsupported type in defaults"),
    "an unknown config in the defaults": (config_of("defaults: [bse]\n"), r"mine\.yaml names 'bse', which does not ex"),
    "an unknown group in the defaults": (
        config_of("defaults: [base, datset: lines]\n"),
        r"names 'datset/lines', which does not exist\. Did you mean dataset\?$",
    ),
    "an unknown choice in the defaults": (
        config_of("defaults: [base, dataset: lnes]\n"),
        r"^there is no dataset 'lnes', in .*mine\.yaml\. Did you mean lines\?",
    ),
    "nothing to override": (config_of("defaults: [base, override dataset: lines]\n"), r"yaml: .*Could not override '"),
    "itself in its defaults": (config_of("defaults:\n  - mine\n  - _self_\n"), "mine"),
    "a mapping for a number": (config_of(f"{BASED}seed:\n  x: 1\n"), r'^seed must be an integer, got \{"x": 1\}\.$'),
    "an unknown key": (config_of(f"{BASED}sede: 1\n"), r"^unknown key sede\. Did you mean seed\?$"),
    "a number for a dataset": (config_of(f"{BASED}dataset: 3\n"), r"mine\.yaml|^dataset must be"),
    "a reference to nothing": (config_of(f"{BASED}seed: ${{nowhere}}\n"), r"^seed: Interpolation key 'nowhere' not"),
    "a reference cut off": (config_of(f"{BASED}dataset:\n  noise: ${{oops\n"), r"mine\.yaml|dataset\.noise"),
    "a reference to itself": (config_of(f"{BASED}seed: ${{seed}}\n"), "seed"),
    "a value left open": (config_of(f"{BASED}dataset:\n  root: ???\n"), r"^dataset\.root has no value\. Set it"),
    "a mistake in a choice of one's own": (choice_of("_target_: a.B\nx: [1\n"), r"scorer/mine\.yaml, line 3: "),
    "a tag that runs a command": (config_of(f"{BASED}x: {TAG} ['touch CANARY']\n"), "python/"),
    "a tag that imports": (config_of(f"{BASED}x: !!python/name:os.system\n"), "python/"),
    "a class that is no dataset": (config_of(f"{BASED}dataset: {{_target_: subprocess.Popen}}\n"), "dataset"),
    "aliases of aliases": (config_of(BASED + BOMB), r"aliases expand to more than 100,000 values"),
    "depth without end": (config_of("a: " + "[" * 5000), "mine.yaml"),
    "a process for an operation": (
        override("space=cell_yaml", '+space.operations.x={_target_: subprocess.Popen, args: [touch, "CANARY"]}'),
        "must be a torch module, got subprocess.Popen",
    ),
}  # fmt: skip

# overrides of configs/lines.yaml, separated by semicolons -> what is said
OVERRIDES = {
    "foo": r"^the override 'foo' is not of the form key=value\.$",
    "=3": r"^the override '=3' is not of the form key=value\.$",
    "a b=3": r"^the override 'a b=3' is not of the form key=value\.$",
    "seed=1,2": r"^the override 'seed=1,2' has several values, but one is expected\.",
    "hydra.job.name=x": r"^the override 'hydra\.job\.name=x' is not a setting of nasx",
    "dataset.nois=1": r"^unknown key dataset\.nois in the override 'dataset\.nois=1'\. Did you mean dataset\.noise\?$",
    "dataset.zzz=1": r"Known: dataset\.augmentation, .* If its class accepts it, write \+dataset\.zzz=1\.$",
    "dataset.augmentation.flip=1": r"^unknown key dataset\.augmentation\.flip .* Did you mean dataset\.augmentation\.h",
    "epochs=1": r"^unknown key epochs in the override 'epochs=1'\. Did you mean training\.epochs\?$",
    "scoer=shap": r"^unknown key scoer in the override 'scoer=shap'\. Did you mean scorer\?$",
    "space=backbone;space.backbone=resnet18": r"^space\.backbone must be a known network, .* Known: .*, timm:NAME, ",
    "space=backbone;space.backbone=nowhere:mine": r"^there is no module 'nowhere': install it, or run nasx in its dir",
    "space=backbone;space.weights=none.pt": r"^space\.weights must be a file of weights of .*: none\.pt does not exist",
    "seed.x=1": r"^unknown key seed\.x in the override 'seed\.x=1'\. seed has no settings\.$",
    "+sede=1": r"^unknown key sede\. Did you mean seed\?$",
    "+early_stopping=true": r"^unknown key early_stopping\. Did you mean algorithm\.early_stopping\?$",
    "+evaluations=3": r"^unknown key evaluations\. Did you mean algorithm\.evaluations\?$",
    "+split.fraction=1": r"^unknown key split\.fraction\. Did you mean split\.validation_fraction\?$",
    "constraints.error.mx=1": r"^unknown key constraints\.error\.mx\. Did you mean constraints\.error\.max\?$",
    "scorer=shp": r"^there is no scorer 'shp', in the override 'scorer=shp'\. Did you mean shap\? Known: activations, ",
    "scorer=foo": r"^there is no scorer 'foo', in the override 'scorer=foo'\. Known: activations, .*shap",
    "scorer=null": r"Config group override must be a string or a list\. Got NoneType\.$",
    "+scorer=shap": r"lines\.yaml: scorer appears more than once in the final defaults list\.$",
    "~scorer": r"^scorer is missing: choose one in the config's defaults list, as `- scorer: NAME`\.$",
    "~seed": r"^seed is missing: .*needs an integer, at least 0\.$",
    "~split.validation_fraction": r"^split\.validation_fraction is missing: .*needs a number, more than 0 and less",
    "~split.train_images": r"Could not delete from config\. 'split\.train_images' does not exist\.$",
    "~algorithm.evaluations": r"^algorithm\.evaluations is missing: the number of candidates to evaluate, e\.g\. 64\.$",
    "seed=a": r"^seed must be an integer, got 'a'\.$",
    "seed=-1": r"^seed must be at least 0, got -1\.$",
    "seed=???": r"^seed has no value\. Set it: seed=VALUE\.$",
    "seed=${sed}": r"^seed: Interpolation key 'sed' not found\.$",
    "name=${oc.env:NASX_NO_SUCH_VARIABLE}": r"^name: .*Environment variable 'NASX_NO_SUCH_VARIABLE' not found",
    "name=a/b": r"^name must be the name of a folder, without a path, got 'a/b'\.$",
    "name=../../x": r"^name must be the name of a folder, without a path, got '\.\./\.\./x'\.$",
    "name=..": r"^name must be the name of a folder, without a path, got '\.\.'\.$",
    "name=''": r"^name must be the name of a folder, without a path, got ''\.$",
    "name=.": r"^name must be the name of a folder, without a path, got '\.'\.$",
    "name=con": r"^name must be a name that every system accepts for a folder, got 'con'\.$",
    "name=NUL.txt": r"^name must be a name that every system accepts for a folder, got 'NUL\.txt'\.$",
    "name=x.": r"^name must be a name that every system accepts for a folder, got 'x\.'\.$",
    "name=x ": r"^name must be a name that every system accepts for a folder, got 'x '\.$",
    "name=a\nb": r"^name must be a name that every system accepts for a folder, got 'a\\nb'\.$",
    "name=a\x1bb": r"^name must be a name that every system accepts for a folder, got 'a\\x1bb'\.$",
    f"name={'x' * 300}": r"^name must have at most 255 bytes in UTF-8, got 300\.$",
    f"name={'é' * 128}": r"^name must have at most 255 bytes in UTF-8, got 256\.$",
    "runs_dir=~nobody9/x": r"^runs_dir begins with ~, but there is no such home directory: ~nobody9/x\.$",
    "dataset=folder;dataset.root=~nobody9/x": r"begins with ~, but there is no such home directory: ~nobody9/x",
    "dataset=folder;dataset.root=": r"needs its path: set dataset\.root=DIR",
    "dataset=folder;dataset.root=null": r"needs its path: set dataset\.root=DIR",
    "dataset=folder;dataset.root=/no/a,b (c) [d]": r"^/no/a,b \(c\) \[d\] does not exist: a folder of images needs",
    "dataset=folder;dataset.root=2024": r"^2024 does not exist: a folder of images needs",
    "dataset=folder;dataset.root=007": r"^007 does not exist: a folder of images needs",
    "dataset=folder;dataset.root=true": r"^true does not exist: a folder of images needs",
    "dataset=folder;dataset.root='x y'": r"^x y does not exist: a folder of images needs",
    r"dataset=folder;dataset.root=C:\\x\y": r"^C:\\\\x\\y does not exist: a folder of images needs",
    "dataset=folder;dataset.root=${nowhere}": r"^dataset\.root: Interpolation key 'nowhere' not found\.$",
    "dataset=folder;dataset.root=a\0b": r"null|does not exist",
    f"dataset=folder;dataset.root={'x/' * 2500}": r"does not exist|File name too long",
    "dataset=numpy;dataset.file=a=b.npz": r"^a=b\.npz does not exist: a dataset of numpy arrays needs",
    "dataset=numpy;dataset.file=1_000": r"^1_000 does not exist: a dataset of numpy arrays needs",
    "dataset=numpy;dataset.file=/dev/zero": r"^/dev/zero is not a file: a dataset of numpy arrays needs",
    "dataset.noise=0.1,0.2": r"^the override 'dataset\.noise=0\.1,0\.2' has several values, but one is expected\.",
    "scorer=shap,activations": r"^the override 'scorer=shap,activations' has several values, but one is expected\.",
    "seed=10^26": r"^seed must be an integer, got '10\^26'\.$",
    "seed=100000000000000000000000000": r"^seed must be at most 9,223,372,036,854,775,807, the largest integer of 64",
    "seed=9223372036854775808": r"^seed must be at most 9,223,372,036,854,775,807, the largest integer of 64 bits\.$",
    f"seed={'1' * 5000}": r"^seed must be an integer, got '1{20}",
    "seed=0x10": r"^seed must be an integer, got '0x10'\.$",
    "seed=1e3": r"^seed must be an integer, got 1000\.0\.$",
    "seed=-0.0": r"^seed must be an integer, got -0\.0\.$",
    "seed=inf": r"^seed must be an integer, got Infinity\.$",
    "seed=nan": r"^seed must be an integer, got NaN\.$",
    "algorithm.evaluations=1e3": r"^algorithm\.evaluations must be an integer, got 1000\.0\.$",
    "training.epochs=9223372036854775808": r"^training\.epochs must be at most 9,223,372,036,854,775,807, the largest",
    "objectives=[error,100000000000000000000]": r"^objectives must be at most 9,223,372,036,854,775,807, the largest",
    f"objectives={'[' * 3000}": r"^objectives must be a list of one or more of .*, got '\[{20}",
    "runs_dir=null": r"^runs_dir must be a path, got null\.$",
    "objectives=[]": r"^objectives must name at least one of error, macro_error, introspectability",
    "objectives=error": r"^objectives must be a list of one or more of error, macro_error, .*, got 'error'\.$",
    "objectives=[error,error]": r"^objectives must all be different, got error, error\.$",
    "objectives=[eror]": r"^objectives must name known metrics, got 'eror'\. Did you mean error\?$",
    "constraints.eror.max=1": r"^constraints must name known metrics, got 'eror'\. Did you mean error\?$",
    "constraints.error=1": r"^constraints\.error must be a mapping with the keys min, max, got 1\.$",
    "constraints.error={}": r"^constraints\.error\.min or max is required\.$",
    "constraints.error={min: 1, max: 0.5}": r"^constraints\.error\.min must be less than max, got 1 and 0\.5",
    "constraints.error={min: 0, max: 50}": r"^constraints\.error\.max must be in \[0, 1\], .* got 50\.$",
    "split=3": r"split must be a mapping with the keys validation_fraction, train_images, validation_images, got 3",
    "split.validation_fraction=1": r"^split\.validation_fraction must be more than 0 and less than 1, got 1\.$",
    "split.validation_fraction=20%": r"^split\.validation_fraction must be a number, got '20%'\.$",
    "+split.train_images=0": r"^split\.train_images must be at least 1, got 0\.$",
    "search.time_limit=0": r"^search\.time_limit must be more than 0, got 0\.$",
    "search.stall_limit=-1": r"^search\.stall_limit must be more than 0, got -1\.$",
    "search.max_gpu_hours=0": r"^search\.max_gpu_hours must be more than 0, got 0\.$",
    "search.retries=-1": r"^search\.retries must be at least 0, got -1\.$",
    "search.max_failure_share=0": r"^search\.max_failure_share must be more than 0 and at most 1, got 0\.$",
    "algorithm.evaluations=0": r"^algorithm\.evaluations must be at least 1, got 0\.$",
    "algorithm.evaluations=many": r"^algorithm\.evaluations must be an integer, got 'many'\.$",
    "algorithm.early_stopping=yes!": r"^algorithm\.early_stopping must be true or false, got 'yes!'\.$",
    "algorithm.population_size=2": r"^algorithm\.population_size must be at least 4, got 2\.$",
    "algorithm.crossover=1.5": r"^algorithm\.crossover must be at least 0 and at most 1, got 1\.5\.$",
    "algorithm.lag=0": r"^algorithm\.lag must be at least 1, got 0\.$",
    "algorithm.initial_samples=0": r"^algorithm\.initial_samples must be at least 1, got 0\.$",
    "algorithm.retraining=always": r"^algorithm\.retraining must be auto or a number, got 'always'\.$",
    "algorithm.retraining=0.8": r"^algorithm\.retraining must be auto or a number, at least 0 and at most 0\.75, got",
    "algorithm.preference=[0.1]": r"^algorithm\.preference must have a value for each of 2 objectives, got \(0\.1,\)",
    "algorithm=nsga2_paper;algorithm.population_size=2": r"^algorithm\.population_size must be at least 4, got 2\.$",
    "algorithm=regularized_evolution;algorithm.population_size=3": r"population_size must be at least 4, got 3\.$",
    "algorithm=local_search;algorithm.initial_samples=0": r"^algorithm\.initial_samples must be at least 1, got 0\.$",
    "algorithm=regularized_evolution;algorithm.sample_size=9": r"sample_size must be at most population_size, 8, got 9",
    "finetune_front=0": r"^finetune_front must be more than 0, got 0\.$",
    "objectives=[3]": r"^objectives must be a list of one or more of .*, got \[3\]\.$",
    "+also_scored.x=null": r"^also_scored\.x must be a component with its settings, got null\.$",
    "+also_scored.x=3": r"^also_scored\.x must be a component with its settings, got 3\.$",
    "training.epochs=0": r"^training\.epochs must be at least 1, got 0\.$",
    "training.epochs=many": r"^training\.epochs must be an integer, got 'many'\.$",
    "training.batch_size=1": r"^training\.batch_size must be at least 2, got 1\.$",
    "training.momentum=-1": r"^training\.momentum must be at least 0, got -1",
    "training.label_smoothing=1": r"^training\.label_smoothing must be at least 0 and less than 1, got 1",
    "training.average=1": r"^training\.average must be at least 0 and less than 1, got 1",
    "training.learning_rate=.nan": r"^training\.learning_rate",
    "training.learning_rate=.inf": r"^training\.learning_rate",
    "dataset=folder;dataset.image_size=7": r"^dataset\.image_size must be at least 8 and at most 224, got 7\.$",
    "dataset=folder;dataset.image_size=225": r"^dataset\.image_size must be at least 8 and at most 224, got 225\.$",
    "dataset=folder;dataset.test_fraction=0": r"^dataset\.test_fraction must be more than 0 and less than 1, got 0",
    "dataset=folder;dataset.seed=-1": r"^dataset\.seed must be at least 0, got -1\.$",
    "dataset=numpy;dataset.test_fraction=1": r"^dataset\.test_fraction must be more than 0 and less than 1, got 1",
    "dataset=numpy;dataset.seed=-1": r"^dataset\.seed must be at least 0, got -1\.$",
    "dataset=huggingface;dataset.image_size=7": r"^dataset\.image_size must be at least 8 and at most 224, got 7\.$",
    "dataset=huggingface;dataset.test_fraction=1": r"^dataset\.test_fraction must be more than 0 and less than 1, got",
    "dataset=huggingface;dataset.seed=-1": r"^dataset\.seed must be at least 0, got -1\.$",
    "dataset._target_=os.system": r"os\.system cannot be used as dataset: it has no train and no test",
    "scorer._target_=subprocess.Popen": r"subprocess\.Popen cannot be used as scorer: it has no score\.$",
    "space._target_=builtins.eval": r"builtins\.eval cannot be used as space",
}  # fmt: skip


# --- run directories and ids ----------------------------------------------------------------------------------------


RESUME = ("search", "--resume")


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
            connection.executescript(change)
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


def weights_of(content: Callable[[Case, bytes], bytes | None], *words: str):
    def act(case: Case) -> None:
        arch_id, changed = case.weights.parent.name, content(case, case.weights.read_bytes())
        if changed is None:
            case.weights.unlink()
        else:
            case.weights.write_bytes(changed)
        case.command("explain", "--arch-id", arch_id, "--run-dir", case.run, *words)

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


def runs_home(*command: str, runs: int = 0):
    """A command on a place with so many runs, NASX_RUNS."""

    def act(case: Case) -> None:
        for number in range(runs):
            shutil.copytree(case.sound_run, case.here / "runs" / "lines" / f"2026-01-0{number + 1}_00-00-00")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NASX_RUNS", str(case.here / "runs"))
            case.command(*command)

    return act


def arch(text: str):
    return lambda case: case.command("explain", "--arch-id", text, "--run-dir", case.run)


def called(line: str):
    """A command line in which {run} stands for a sound run, {id} for one of its networks and {file} for this file."""

    def act(case: Case) -> None:
        case.command(
            *(word.format(run=case.run, id=case.weights.parent.name, file=__file__) for word in shlex.split(line))
        )

    return act


LONG_PATH = "x/" * 2500
NEW = "search --config lines --run-dir"  # into a directory that cannot be made
# command lines -> what is said
CALLS = {
    "data cache nosuch --clear --cache .": r"^NAME must be in the list of `nasx data cache`, got 'nosuch'\. The list",
    "data cache --older-than soon": r"--older-than must be a .*number, got 'soon'",
    "data cache --cache ''": r"^--cache must be a path, got an empty text",
    f"{NEW} /proc/nope": r"^/proc/nope cannot be written \(No such file or directory\)\. Choose another path\.$",
    f"{NEW} /sys/nope": r"^/sys/nope cannot be written \(Operation not permitted|Permission denied|Read-only",
    f"{NEW} /dev/null/x": r"^/dev/null/x.* cannot be ",
    f"{NEW} /dev/null": r"^/dev/null ",
    f"{NEW} {{file}}/x": r"test_bad_inputs\.py/x.* cannot be ",
    f"{NEW} {{file}}": r"test_bad_inputs\.py is a file: choose a new directory with --run-dir\.",
    f"{NEW} {LONG_PATH}": r"File name too long",
    f"{NEW} ''": r"^--run-dir must be a path, got an empty text",
    f"{NEW} ~nobody9/x": r"^--run-dir begins with ~, but there is no such home directory: ~nobody9/x",
    "search --config lines runs_dir=/proc/nope": r"^/proc/nope cannot be written",
    "search --config lines runs_dir=/dev/null": r"^/dev/null.* cannot be written",
    f"search --config lines runs_dir={LONG_PATH}": r"File name too long",
    "search --config ''": r"^--config must be a path, got an empty text",
    "search --config /dev/zero": r"^there is no config '/dev/zero'",
    "search --config .": r"^\. is a directory, not a config",
    "search --config ~nobody9/x.yaml": r"^--config begins with ~, but there is no such home directory",
    f"search --config {LONG_PATH}": r"File name too long|there is no config",
    "pareto --run-dir=": r"^--run-dir must be a path, got an empty text",
    "pareto --run-dir /dev/null/x": r"^/dev/null/x ",
    f"pareto --run-dir {LONG_PATH}": r"too long",
    "explain --run-dir {run} --arch-id {id} --out ''": r"^--out must be a path, got an empty text",
    "report --run-dir {run} --out /proc/nope": r"^/proc/nope cannot be written: name another place with --out\.$",
    "report --run-dir {run} --out {file}/x": r"test_bad_inputs\.py/x cannot be written",
    "report --run-dir {run} --out /": r"^/ cannot be written: it is a directory, expected a file\.",
    f"report --run-dir {{run}} --out {'x' * 256}": r"File name too long",
    "export --run-dir {run} --arch-id {id} --format safetensors --out /proc/nope": r"^/proc/nope.* cannot be written",
    f"compare {{run}} {LONG_PATH}": r"too long",
    "data fetch mnist --root ''": r"^--root must be a path, got an empty text",
    "predict /dev/zero x.png": r"^/dev/zero is not an exported model",
    f"predict {LONG_PATH} x.png": r"too long|does not exist",
    "score a:b --data lines --weights /dev/zero": r"there is no module 'a'|is not a file",
    "data similarity --dataset lines --source /dev/zero": r"/dev/zero is a device, expected a file",
    "data similarity --dataset lines --source ''": r"cannot be read|cannot read|is a directory",
    "pareto --run-dir {run} --plot front.gif": r"figure's file name must end in .png, .svg or .pdf, got 'front.gif'",
    "pareto --run-dir {run} --paper": "the paper has no front for the dataset 'lines'",
    "explain --run-dir {run} --arch-id {id} --samples 0": "--samples must be at least 1, got 0",
    "debug --run-dir {run} --arch-id {id} --seeds 0": r"--seeds must be at least 1, got 0\. `nasx --help`",
    "debug --run-dir {run} --arch-id {id} --repair vertical sideways": "--repair must name two different classes, got",
    "report --run-dir {run} --serve --out x.html": "--out cannot be given with --serve: a served page is no file",
    "compare {run}": r"RUN RUN\.\.\. must be two or more run directories, got 1\.",
    "compare {run} {run}": r"RUN RUN\.\.\. contains a run twice\.",
    "compare {run} /nowhere": r"/nowhere does not exist\.",
    "compare {run} {run} --plot x.gif": "the figure's file name must end in .png, .svg or .pdf",
    "config show didgits": r"^there is no config 'didgits'\. Did you mean digits\? Known: cifar10, .*; or",
    "config show qqq.yaml": r"^there is no config 'qqq\.yaml'\. Known: cifar10, .*use the path of a YAML",
    "config show here": r"^here is a directory, not a config\. Name a YAML file, e\.g\. here/config\.yaml",
    "data check cifra10": "Known: cifar10",
    "data check /no/such": "/no/such does not exist: name a directory of class folders, or a dataset as in digits",
    "data check lines --sheet x.jpg": r"must end in \.png, \.svg or \.pdf, got 'x\.jpg'",
    "data fetch imagnet": "there is no download for 'imagnet'",
    "data fetch cifar": r"there is no download for 'cifar'\. Did you mean cifar10\?",
    "train": "--arch-id must name a network, or use --front for the whole front",
    "train --run-dir {run} --front search.retries=0": "search.retries=0: a final training may change only training",
    "train --run-dir {run} --front training=finl": "there is no training 'finl'.*Did you mean final",
    "train --run-dir {run} --front --width 0": "--width must be at least 1, got 0",
    "train --run-dir {run} --front --calibration 1": "--calibration must be more than 0 and less than 1, got 1",
    "runs check .": "is not a run directory",
}  # fmt: skip
RUNS = {
    "no runs to show": (runs_home("pareto"), r"no runs in .* yet\. Start one with `nasx search`"),
    "no runs to list": (runs_home("runs"), r"no runs in .* yet\. Start one with `nasx search`, or name another --r"),
    "a folder of runs": (
        runs_home("pareto", "--run-dir", "here/runs/lines", runs=2),
        r"contains 2 of them; the newest is .*2026-01-02_00-00-00\.",
    ),
    "a journal of noise": (run_with("run.db", bytes(range(256)) * 20), r"run\.db is damaged: it is not a database"),
    "a journal of noise, to go on with": (run_with("run.db", bytes(range(256)) * 20, *RESUME), "run.db is damaged"),
    "a journal without content": (run_with("run.db", b""), "has no tables, but its search has trained"),
    "a journal that is a pickle": (run_with("run.db", pickle.dumps([1] * 2000)), "run.db is damaged"),
    "a run without journal": (run_with("run.db", None), r"is not a run directory: it has no run\.db\. `nasx runs`"),
    "a journal of the future": (
        journal_with("PRAGMA user_version = 99"),
        r"written by a newer nasx \(schema 99, this one reads up to \d+\)\. Update nasx",
    ),
    "a journal of another program": (journal_with("PRAGMA application_id = 7"), "a database, but not a journal of nas"),
    "a journal without trials": (journal_with("DROP TABLE trials"), "run.db"),
    "genotypes that are no lists": (journal_with("UPDATE trials SET genotype = '['"), "run.db"),
    "metrics that are words": (journal_with("""UPDATE trials SET metrics = '"x"'"""), "run.db"),
    "a status unknown": (journal_with("UPDATE trials SET status = 'splendid'"), "run.db"),
    "an objective of another run": (journal_with("""UPDATE run SET objectives = '["beauty"]'"""), "run.db|beauty"),
    "distances cut short": (journal_with("UPDATE scores SET distances = x'00'"), "run.db"),
    "the run of somebody who is gone": (journal_with("DELETE FROM run"), "run.db"),
    "a config without content": (run_with("config.yaml", "", *RESUME), r"config\.yaml is not a config: it is empty\."),
    "a config of noise": (run_with("config.yaml", b"\xff\x00" * 50, *RESUME), "config.yaml"),
    "a config that runs a command": (config_with("nasx.data.synthetic.Lines", "os.system"), "is 'os.system' now"),
    "a config that starts a process": (
        config_with("nasx.spaces.nb201.NASBench201", "subprocess.Popen"),
        "space._target_ was 'nasx.spaces.nb201.NASBench201', is 'subprocess.Popen' now",
    ),
    "a config with a tag": (
        config_with("seed: 0", f"seed: {TAG} ['touch CANARY']"),
        "config.yaml",
    ),
    "a config of other settings": (config_with("channels: 4", "channels: 5"), "space.channels was 4, is 5 now"),
    "weights gone": (weights_of(lambda case, data: None, "--no-train"), r"keeps no weights of .*switched off \(--no-t"),
    "weights cut short": (weights_of(lambda case, data: data[:-9]), "bytes of tensors"),
    "weights of noise": (weights_of(lambda case, data: b"\x00\x01" * 300), "not a safetensors file"),
    "a bit of the weights flipped": (
        weights_of(lambda case, data: data[:-1] + bytes([data[-1] ^ 1])),
        "checksum does not match",
    ),
    "weights that run a command": (weights_of(evil_zip), "not a safetensors file"),
    "weights that are a pickle": (weights_of(lambda case, data: pickle.dumps(Evil(case.canary))), "not a safetensors"),
    "a header of 2**62 bytes": (weights_of(lambda case, data: header_of(2**62, b"{}")), "its header is truncated"),
    "a header that is a list": (weights_of(lambda case, data: header_of(2, b"[]")), "not a JSON object"),
    "a header without end": (weights_of(lambda case, data: header_of(90_000, b"[" * 90_000)), "not a safetensors file"),
    "a header of other entries": (weights_of(lambda case, data: header_of(8, b'{"a": 1}')), "not a safetensors file"),
    "weights of another network": (weights_of(other_network), "cannot be used"),
    "a run that is a file": (with_run_dir(lambda case: case.write("x", "")), "is not a run directory"),
    "a run that is nowhere": (with_run_dir(lambda case: case.here / "nowhere"), r"not exist\. `nasx runs` lists the "),
    "a link to nowhere": (with_run_dir(lambda case: linked(case, "nowhere")), "does not exist"),
    "a link to itself": (with_run_dir(lambda case: linked(case, "link")), "Too many levels of symbolic links"),
    "a path of a null byte": (with_run_dir(lambda case: f"{case.here}/a\0b"), "does not exist|null|is not"),  # type: ignore[arg-type,return-value]
    "an id unknown": (arch("0000000000"), "no architecture '0000000000' in this run"),
    "an id of nothing": (arch(""), "matches|no architecture"),
    "an id that climbs": (arch("../../../etc/passwd"), "no architecture '../../../etc/passwd'"),
    "an id of control characters": (arch("a\x1b[2J\nb"), "no architecture"),
    "an id of SQL": (arch("' OR 1=1; DROP TABLE trials; --"), "no architecture"),
    "an id without end": (arch("f" * 10_000), "no architecture"),
}  # fmt: skip


# --- journals that are none -----------------------------------------------------------------------------------------


def journal_replaced(make: Callable[[Path], object], *command: str):
    """A command on a run whose journal is something else than a file."""

    def act(case: Case) -> None:
        (case.run / "run.db").unlink()
        make(case.run / "run.db")
        case.command(*(command or ("pareto",)), "--run-dir", case.run)

    return act


RUNS |= {
    "a journal that is a pipe": (journal_replaced(os.mkfifo), "run.db is a named pipe, expected a file"),
    "a journal that is a folder": (journal_replaced(Path.mkdir), "run.db is a directory, expected a file"),
    "a journal that is a link": (
        journal_replaced(lambda path: path.symlink_to("/dev/zero"), *RESUME),
        "run.db is a link, expected a file",
    ),
    "a view in place of the trials": (
        journal_with("ALTER TABLE trials RENAME TO kept; CREATE VIEW trials AS SELECT * FROM kept"),
        "run.db",
    ),
    "a trigger": (
        journal_with("CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END", *RESUME),
        "contains the trigger 't', which nasx has not created",
    ),
    "an index of one's own": (journal_with("CREATE INDEX i ON trials (status)"), "contains the index 'i', which nasx"),
    "no class at all": (journal_with("UPDATE run SET n_classes = 0"), "n_classes is 0, expected an integer from 2"),
    "metrics of nothing": (journal_with("UPDATE trials SET metrics = '{}'"), "run.db is damaged"),
    "an error of 1e300": (journal_with("""UPDATE trials SET metrics = '{"error":1e300}'"""), "numbers in range"),
    "an id that is a path": (journal_with("UPDATE events SET arch_id = '../x'", *RESUME), "10 hexadecimal digits"),
    "a value that was changed": (
        journal_with("UPDATE trials SET train_seconds = train_seconds + 1"),
        "its checksum does not match its values: it was changed, or is of another run",
    ),
}  # fmt: skip


# --- a run and its config -------------------------------------------------------------------------------------------


def config_that_is(make: Callable[[Path], Any]):
    """A command on a run whose config.yaml is no regular file."""

    def act(case: Case) -> None:
        (case.run / "config.yaml").unlink()
        make(case.run / "config.yaml")
        case.command("pareto", "--run-dir", case.run)

    return act


IDENTITY = {
    "a config that is a link": (config_that_is(lambda file: file.symlink_to("/etc/passwd")), r"config\.yaml is a link"),
    "a config that is a pipe": (config_that_is(os.mkfifo), r"config\.yaml is a pipe|expected a file"),
    "a config that is a folder": (config_that_is(Path.mkdir), r"config\.yaml is a directory|expected a file"),
    "a config of 10 MB": (run_with("config.yaml", b"#" * 10**7), "bytes, expected at most 1,000,000|larger than"),
    "a config that is a list": (run_with("config.yaml", "- 1"), "must be a mapping of keys to values"),
    "a key that occurs twice": (config_with("seed: 0", "seed: 0\nseed: 1"), "the key 'seed' occurs twice"),
    "a variable in a place": (
        config_with("device: auto", "device: auto\nlogger: {_target_: '${oc.env:PATH}'}"),
        r"logger\._target_ names \$\{oc\.env:PATH\}",
    ),
    "code in a section that may change": (
        config_with("nasx.execution.serial.SerialExecution", "this.s"),
        r"execution\._target_ names this\.s, which is not part of nasx or of an installed package",
    ),
    "a seed of another run": (config_with("seed: 0", "seed: 7"), "seed was 0, is 7 now"),
    "a place that a run does not have": (
        called("explain --run-dir {run} --arch-id {id} dataset.rot=x"),
        "dataset.rot was not set, is 'x' now",
    ),
    "other noise than in the search": (
        called("explain --run-dir {run} --arch-id {id} dataset.noise=0.5"),
        "dataset.noise was 0, is 0.5 now. Here only dataset.test_images may change",
    ),
}  # fmt: skip


# --- model files ----------------------------------------------------------------------------------------------------


def state_of(name: str, content: Callable[[Case], bytes]):
    def act(case: Case) -> None:
        from nasx.introspection.load_model import read_state

        read_state(case.write(name, content(case)))

    return act


def saved(content: Any) -> Callable[[Case], bytes]:
    def make(_: Case) -> bytes:
        out = io.BytesIO()
        torch.save(content, out)
        return out.getvalue()

    return make


MODELS = {
    "weights by torch.save that run a command": (state_of("x.pt", evil_zip), "contains Python objects"),
    "weights of an old torch that run a command": (state_of("x.pt", evil_opcodes), "contains Python objects"),
    "weights that are a list": (state_of("x.pt", saved([1, 2])), "contains no state_dict"),
    "weights by torch.save cut short": (state_of("x.pt", lambda case: saved({})(case)[:50]), "Python obj|is damaged"),
    "weights without content": (state_of("x.pt", lambda case: b""), "torch.save: EOFError|Python objects"),
    "safetensors without content": (state_of("x.safetensors", lambda case: b""), "cannot be used: not a safetensors f"),
    "safetensors that are a pickle": (state_of("x.safetensors", evil_pickle), "cannot be used"),
    "safetensors of an endless header": (
        state_of("x.safetensors", lambda case: header_of(90_000, b"[" * 90_000)),
        "cannot be used: not a safetensors file",
    ),
}  # fmt: skip

OVERRIDDEN = {text: (override(*text.split(";")), message) for text, message in OVERRIDES.items()}
CALLED = {line: (called(line), message) for line, message in CALLS.items()}
TABLE = {**DATA, **CONFIGS, **OVERRIDDEN, **RUNS, **IDENTITY, **CALLED, **MODELS}


@pytest.fixture(scope="session")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a network on its front."""
    run = tmp_path_factory.mktemp("bad_inputs") / "run"
    small = ["dataset.train_images=120", "dataset.noise=0", "training.epochs=2", "training.batch_size=12"]
    nasx.workflows.search.start(compose("lines", [*small, "algorithm=random", "algorithm.evaluations=3"]), run_dir=run)
    assert list(run.glob("archs/*/weights_0.safetensors"))
    return run


def test_the_table_names_nothing_twice():
    parts = (DATA, CONFIGS, OVERRIDES, RUNS, IDENTITY, CALLS, MODELS)
    assert len(TABLE) == sum(map(len, parts))


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
