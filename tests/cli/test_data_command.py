"""`nasx data`, as it is called."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasx.cli.main import main
from nasx.introspection.class_similarity import read_similarity


@pytest.fixture
def folder(tmp_path):
    """Six pictures of two classes."""
    for name, grey in (("dark", 20), ("light", 230)):
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.fromarray(np.full((10, 10), grey + i, np.uint8)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_sound_dataset_is_told_with_its_classes_and_counts(capsys):
    assert main(["data", "check", "lines", "dataset.train_images=40", "dataset.test_images=8"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lines: sound\ntraining: 40 images, 12 x 12, 1 channel\n")
    assert "diagonal" in out


def test_a_directory_of_class_folders_can_be_checked(folder, capsys):
    assert main(["data", "check", str(folder)]) == 0
    assert "dark" in capsys.readouterr().out


def test_a_damaged_picture_is_named_and_the_status_is_2(folder, capsys):
    (folder / "dark" / "0.png").write_bytes(b"no picture")
    assert main(["data", "check", str(folder)]) == 2
    out = capsys.readouterr().out
    assert "NOT sound" in out
    assert "0.png" in out


def test_a_contact_sheet_has_a_row_of_images_for_each_class(folder, tmp_path, capsys):
    sheet = tmp_path / "sheets" / "mine.png"

    assert main(["data", "check", str(folder), "--sheet", str(sheet)]) == 0

    assert f"Contact sheet: {sheet}" in capsys.readouterr().err
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert (abs(pixels.astype(int) - 22) < 4).sum() > 6 * 40 * 40  # six dark images
    assert (abs(pixels.astype(int) - 232) < 4).sum() > 6 * 40 * 40


def test_unbalanced_classes_are_told_with_their_ratio(folder, capsys):
    for name in ("1", "2", "3"):
        (folder / "dark" / f"{name}.png").unlink()

    assert main(["data", "check", str(folder), "dataset.test_fraction=0.3"]) == 0
    assert "images of the commonest class for each one of the rarest" in capsys.readouterr().out


# lines of data.noun: entity, and under it animal, under which cat and dog are
NOUNS = ((None, "entity"), (0, "animal"), (1, "cat"), (1, "dog"))


@pytest.fixture
def wordnet(tmp_path_factory):
    """A small database in the form of WordNet's, and a file with the ids of cat and dog."""
    text, offsets = "", []
    for above, word in NOUNS:
        offsets.append(len(text))
        pointer = "000" if above is None else f"001 @ {offsets[above]:08d} n 0000"
        text += f"{offsets[-1]:08d} 05 n 01 {word} 0 {pointer} | a gloss\n"
    home = tmp_path_factory.mktemp("wordnet")
    (home / "data.noun").write_text(text)
    (home / "ids").write_text("\n".join(f"n{offset:08d}" for offset in offsets[2:]) + "\n")
    return home


def test_the_csv_of_similarities_can_be_given_back(wordnet, folder, capsys):
    asked = ["data", "similarity", "--dataset", str(folder)]
    by_wordnet = ["--wordnet", str(wordnet), "--synsets", str(wordnet / "ids"), "--format", "csv"]
    assert main([*asked, *by_wordnet]) == 0
    printed = capsys.readouterr().out
    file = wordnet / "similarity.csv"
    file.write_text(printed)

    # cat - animal - dog: 2 steps
    np.testing.assert_allclose(read_similarity(file).matrix, [[1, 1 / 3], [1 / 3, 1]])
    assert main([*asked, "--source", str(file), "--format", "csv"]) == 0
    assert capsys.readouterr().out == printed
    assert main([*asked, "--source", str(file), "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["class_names"] == ["dark", "light"]
    assert shown["similarity"][0][1] == pytest.approx(1 / 3)
    assert main([*asked, "--source", str(file)]) == 0
    assert "dark    1.000   0.333" in capsys.readouterr().out


def test_classes_that_are_no_ids_of_wordnet_need_them(folder, capsys):
    assert main(["data", "similarity", "--dataset", str(folder)]) == 2
    assert "--synsets must be given: 'dark', a class of" in capsys.readouterr().err


def test_similarities_of_another_dataset_are_refused(wordnet, folder, capsys):
    file = wordnet / "other.csv"
    file.write_text(",a,b\na,1,0\nb,0,1\n")
    assert main(["data", "similarity", "--dataset", str(folder), "--source", str(file)]) == 2
    assert "class 1 is 'a', but 'dark' in the dataset" in capsys.readouterr().err


def test_without_wordnet_the_step_to_have_it_is_told(tmp_path, capsys):
    asked = ["data", "similarity", "--dataset", "imagenet16_120", "--wordnet", str(tmp_path)]
    assert main(asked) == 2
    assert "apt install wordnet-base" in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(not Path("/usr/share/wordnet/data.noun").is_file(), reason="no WordNet: apt install wordnet-base")
def test_the_classes_of_imagenet_are_known_without_its_files(capsys):
    assert main(["data", "similarity", "--dataset", "imagenet16_120", "--format", "csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert (len(rows), rows[0][:2]) == (121, ["", "kit fox"])
