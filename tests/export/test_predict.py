"""`nasx predict`: images of several sizes, modes and formats; damaged and hostile model files."""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save

from nasx.cli.main import main
from nasx.data.synthetic import Lines
from nasx.errors import DataError
from nasx.export.deployed import METADATA_KEY
from nasx.export.load import Model, load_model
from nasx.export.predict import ImageFile, list_images, predict
from nasx.files import add_checksum


@pytest.fixture
def images(tmp_path) -> Path:
    """Write Lines as images of several sizes, modes and formats, and one file that is not an image."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    pixels = Lines().test().images[:, 0]
    Image.fromarray(pixels[0]).save(folder / "a.png")
    Image.fromarray(pixels[1]).resize((40, 30)).convert("RGB").save(folder / "b.jpg")
    Image.fromarray(pixels[2]).convert("RGBA").save(folder / "more" / "c.webp")
    (folder / "d.png").write_bytes(b"not an image")
    return folder


@pytest.fixture
def model(exported) -> Path:
    return exported("safetensors")


def test_every_image_of_a_folder_has_a_row_and_a_damaged_one_does_not_stop_the_others(model, images, capsys):
    assert main(["predict", str(model), str(images), "--format=json"]) == 2

    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.jpg", "d.png", "c.webp"]
    assert "cannot be read as an image" in rows[2]["problem"]
    for row in (rows[0], rows[1], rows[3]):
        assert row["class"] in ("none", "horizontal", "vertical", "diagonal")
        assert 0 < row["probability"] <= 1
        assert 0 <= row["confidence"] <= 1


def test_valid_images_have_exit_status_0_as_table_and_csv(model, images, capsys):
    assert main(["predict", str(model), f"{images}/*.jpg", str(images / "a.png")]) == 0
    assert "confidence" in capsys.readouterr().out

    assert main(["predict", str(model), str(images / "a.png"), "--format=csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["problem"] == ""


def test_an_image_file_has_the_prediction_of_its_array(model, images):
    loaded = load_model(model)
    expected = loaded.run(Lines().test().images[:1])

    (prediction,) = predict(loaded, [ImageFile(images / "a.png")])

    assert prediction.label == loaded.description.class_names[expected[0].argmax()]
    assert prediction.probability == pytest.approx(expected[0].max(), abs=1e-6)
    assert prediction.confidence == pytest.approx(expected[1][0], abs=1e-6)


def test_images_are_resized_to_the_shape_of_the_model(images):
    shapes = []

    def run(images):
        shapes.append(images.shape)
        return np.full((len(images), 2), 0.5, dtype=np.float32), np.ones(len(images), dtype=np.float32)

    class Described:
        shape, class_names, value_range, interpolation = (3, 10, 16), ("a", "b"), None, "bicubic"

    list(predict(Model(Described(), Path(), run), [ImageFile(images / "a.png"), ImageFile(images / "b.jpg")]))

    assert shapes == [(2, 3, 10, 16)]


def test_folders_and_globs_list_each_image_once(images):
    found = list_images([str(images), f"{images}/**/*.png", str(images / "a.png")])

    assert [file.path.name for file in found.files] == ["a.png", "b.jpg", "d.png", "c.webp"]


def test_a_glob_without_images_is_reported(images):
    with pytest.raises(DataError, match=r"nothing\*\.png matches no images"):
        list_images([f"{images}/nothing*.png"])


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def weights(description: dict | str | None, **tensors) -> bytes:
    text = description if isinstance(description, str) else json.dumps(description)
    return add_checksum(save(tensors, None if description is None else {METADATA_KEY: text}))


@pytest.fixture
def described(model) -> dict:
    return json.loads((model / "model.json").read_text())


def with_space(described: dict, **space) -> dict:
    return {**described, "rebuild": {**described["rebuild"], "space": space}}


BAD = {
    "empty.onnx": (lambda d: b"", "cannot be loaded|needs the package"),
    "text.onnx": (lambda d: b"hello" * 100, "cannot be loaded|needs the package"),
    "empty.safetensors": (lambda d: b"", "is damaged: not a safetensors file"),
    "cut.safetensors": (lambda d: weights(d)[:50], "is damaged: not a safetensors file .its header is truncated"),
    "huge_header.safetensors": (lambda d: b"\xff" * 8 + b"{}", "is damaged: not a safetensors file"),
    "silent.safetensors": (lambda d: weights(None), "is not a model written by `nasx export`"),
    "no_json.safetensors": (lambda d: weights("{"), "is not a model written by `nasx export`"),
    "list.safetensors": (lambda d: weights("[]"), "is not a model written by `nasx export`"),
    "newer.safetensors": (lambda d: weights({**d, "version": 4}), "describes a model of version 4"),
    "giant.safetensors": (
        lambda d: weights({**d, "shape": [3, 10**6, 10**6]}),
        "expected at most version 3, 1 or 3 channels",
    ),
    "flat.safetensors": (
        lambda d: weights({**d, "shape": [12, 12]}),
        r"its description is invalid .shape\.2: Field requ",
    ),
    "no_weights.safetensors": (lambda d: weights(d), "cannot be loaded .*Missing key"),
    "no_rebuild.safetensors": (lambda d: weights({**d, "rebuild": {}}), "cannot be loaded"),
    "system.safetensors": (
        lambda d: weights(with_space(d, _target_="os.system", command="touch owned")),
        "needs the space os.system, but a weights file may only name spaces of nasx",
    ),
    "function.safetensors": (
        lambda d: weights(with_space(d, _target_="nasx.spaces.nb201.normal_form", edges={}, n_nodes=3)),
        "but a weights file may only name spaces of nasx",
    ),
    "smuggled.safetensors": (
        lambda d: weights(
            with_space(d, _target_="nasx.spaces.cell_yaml.CellSpace", operations={"x": {"_target_": "os.system"}})
        ),
        "but a weights file may only name spaces of nasx",
    ),
    "pickle.safetensors": (lambda d: pickle.dumps(Bomb(Path("owned"))), "is damaged: not a safetensors file"),
    "pickle.onnx": (lambda d: pickle.dumps(Bomb(Path("owned"))), "cannot be loaded|needs the package"),
    "program.pt2": (lambda d: pickle.dumps(Bomb(Path("owned"))), "Use --trust if you trust its origin"),
    "model.pt": (lambda d: pickle.dumps(Bomb(Path("owned"))), "must end in .onnx or .pt2 or .safetensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_model_file_is_reported_in_one_line_and_no_code_in_it_is_executed(
    described, images, tmp_path, monkeypatch, capfd, name
):
    make, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(make(described))

    assert main(["predict", name, str(images / "a.png")]) == 2

    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert re.search(message, err), err
    assert not (tmp_path / "owned").exists()


def test_a_trusted_but_damaged_program_of_torch_is_reported_in_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("x", "y")

    with pytest.raises(DataError, match=r"model.pt2 cannot be loaded .* Export the model again"):
        load_model(tmp_path / "model.pt2", trust=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere does not exist. Create a model with `nasx export`"),
        (".", "contains no exported model: model.onnx"),
    ],
)
def test_a_missing_model_is_reported(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match=message):
        load_model(Path(name))


def test_a_model_that_does_not_fit_its_description_is_refused(model, described, tmp_path):
    from safetensors.torch import load_file

    more = replace(load_model(model).description, class_names=("a", "b", "c", "d", "e"))
    tensors = load_file(model / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(add_checksum(save(tensors, {METADATA_KEY: more.to_json()})))

    with pytest.raises(DataError, match=r"cannot be loaded .*size mismatch"):
        load_model(tmp_path / "model.safetensors")


@pytest.fixture
def sorted_images(tmp_path) -> Path:
    """Write Lines into folders of their classes, with other folders and files around them."""
    root, lines = tmp_path / "sorted", Lines().test()
    for i in range(24):
        folder = root / "Test" / lines.class_names[lines.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(lines.images[i, 0]).save(folder / f"{i}.png")
    for folder in ("misc", ".hidden"):
        (root / folder).mkdir()
        Image.fromarray(lines.images[0, 0]).save(root / folder / "0.png")
    (root / "photo.heic").write_bytes(b"x")
    (root / "notes").write_text("x")
    (root / "misc" / "bad.png").write_bytes(b"x")
    return root


def test_a_folder_ends_with_counts_and_a_confusion_matrix_against_its_class_folders(model, sorted_images, capsys):
    assert main(["predict", str(model), str(sorted_images), "--format=csv", "--threshold=0.9"]) == 2

    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    known = [row for row in rows if row["true_class"]]
    right = sum(row["class"] == row["true_class"] for row in known)
    assert len(known) == 24
    unsure = sum(float(row["confidence"]) < 0.9 for row in rows if row["class"])
    assert f"25 images classified, {unsure} with a confidence below 90%; 1 cannot be read." in err
    assert f"({24 - right} of 24 images); macro error" in err
    assert "1 image in no such folder: not in these figures." in err
    assert "1 file .heic" in err
    for name in ("none", "horizontal", "vertical", "diagonal"):
        n = sum(row["class"] == name for row in rows)
        own = [row["class"] for row in known if row["true_class"] == name]
        assert re.search(rf"^ {name} +{n} +(\d|-)", err, re.MULTILINE), err
        assert f"({own.count(name)} of {len(own)})" in err
    matrix = err[err.index("true class") :].splitlines()[2:6]
    assert sum(int(cell) for line in matrix for cell in line.split()[1:]) == 24


def test_hidden_folders_are_not_read_and_other_files_are_counted(sorted_images):
    found = list_images([str(sorted_images)], ("none", "horizontal", "vertical", "diagonal"))

    folders = {file.path.parent.name for file in found.files}
    assert ".hidden" not in folders
    assert found.skipped.suffixes[".heic"] == 1
    assert {file.true_class for file in found.files if file.path.parent.name == "misc"} == {None}


def test_an_image_without_a_class_folder_has_no_matrix(model, images, capsys):
    assert main(["predict", str(model), str(images / "a.png"), str(images / "b.jpg")]) == 0

    err = capsys.readouterr().err
    assert "2 images classified" in err
    assert "Against the classes" not in err


def test_the_model_that_was_taken_from_a_directory_is_named(model, images, capsys):
    assert main(["predict", str(model), str(images / "a.png")]) == 0

    assert f"The model: {model / 'model.safetensors'}" in capsys.readouterr().err
