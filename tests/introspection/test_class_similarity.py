"""Class similarities: read from CSV, checked, computed from WordNet, and used as weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from nasx.errors import DataError, ResourceError
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.class_similarity import ClassSimilarity, read_similarity, similarity_csv, wordnet_similarity
from nasx.introspection.shap import ShapScorer
from nasx.introspection.similarity import introspectability
from nasx.protocols import ChecksClasses
from tests.factories.networks import N_CLASSES, labeled, staged_network

WORDNET = Path("/usr/share/wordnet")
CSV = ",a,b,c,d\na,1,0.5,0,0\nb,0.5,1,0,0\nc,0,0,1,0.25\nd,0,0,0.25,1\n"

# animals are pets and beasts; a dog is both; the stone has no hypernym
NOUNS = [
    ("animal", []),
    ("pet", ["animal"]),
    ("beast", ["animal"]),
    ("dog", ["pet", "beast"]),
    ("cat", ["pet"]),
    ("stone", []),
]


@pytest.fixture
def similarity_file(tmp_path: Path) -> Path:
    path = tmp_path / "similarity.csv"
    path.write_text(CSV)
    return path


def write_wordnet(folder: Path) -> dict[str, str]:
    """Write a data.noun in the format of wndb(5) with the synsets of NOUNS; return their ids by name."""
    offsets: dict[str, int] = {}
    text = "  1 licence\n"
    for name, hypernyms in NOUNS:
        offsets[name] = len(text)
        pointers = [f"@ {offsets[h]:08d} n 0000" for h in hypernyms] + ["~ 00000000 n 0000"]
        text += (
            f"{offsets[name]:08d} 05 n 01 {name} 0 {len(pointers):03d} {' '.join(pointers)} | a gloss with @ in it\n"
        )
    (folder / "data.noun").write_text(text)
    return {name: f"n{offset:08d}" for name, offset in offsets.items()}


def test_a_csv_is_read_and_written(similarity_file, tmp_path):
    similarity = read_similarity(similarity_file)

    (tmp_path / "again.csv").write_text(similarity_csv(similarity))
    again = read_similarity(tmp_path / "again.csv")

    assert similarity.class_names == again.class_names == ("a", "b", "c", "d")
    assert similarity.matrix[2, 3] == 0.25
    np.testing.assert_array_equal(similarity.matrix, again.matrix)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a header with the class names .* found 0 names and 0 lines"),
        (",a,b\na,1,2\n", "found 2 names and 1 lines"),
        (",a,b\na,1,2\nc,2,1\n", "line 3: expected the class 'b' as in the header, found 'c'"),
        (",a,b\na,1,2\nb,2\n", "line 3: expected 2 numbers, found 1"),
        (",a,b\na,1,x\nb,2,1\n", "line 2: could not convert string to float: 'x'"),
        (",a,b\na,1,-2\nb,-2,1\n", "line 2: similarities must be finite and at least 0, found -2"),
        (",a,b\na,1,2\nb,3,1\n", "is not symmetric: a to b is 2, the reverse is 3"),
    ],
)
def test_errors_in_a_csv_are_reported(tmp_path, text, message):
    path = tmp_path / "similarity.csv"
    path.write_text(text)

    with pytest.raises(DataError, match=message):
        read_similarity(path)


def test_a_missing_csv_is_reported(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the class similarities .*nowhere\.csv"):
        ShapScorer(similarity=tmp_path / "nowhere.csv")


def test_classes_are_checked_against_the_dataset(similarity_file):
    similarity = read_similarity(similarity_file)

    similarity.check_names(["a", "b", "c", "d"])
    with pytest.raises(DataError, match="class 2 is 'b', but 'd' in the dataset"):
        similarity.check_names(["a", "d", "c", "b"])
    with pytest.raises(DataError, match="has 4 classes, the dataset has 3"):
        similarity.check_names(["a", "b", "c"])


@pytest.mark.parametrize("scorer", [ActivationScorer, ShapScorer])
def test_a_scorer_with_similarities_checks_the_classes(scorer, similarity_file):
    weighted, plain = scorer(similarity=similarity_file), scorer()

    assert isinstance(weighted, ChecksClasses)
    weighted.check_classes(["a", "b", "c", "d"])
    with pytest.raises(DataError, match=r"similarity\.csv: class 2 is 'b', but 'd' in the dataset"):
        weighted.check_classes(["a", "d", "c", "b"])
    plain.check_classes(["x"])


@pytest.mark.parametrize("scorer", [ActivationScorer, ShapScorer])
def test_a_scorer_weighs_its_distances(scorer, similarity_file):
    network, (images, labels) = staged_network(), labeled()

    score = scorer(similarity=similarity_file).score(network, images, labels, n_classes=N_CLASSES, seed=0)
    plain = scorer().score(network, images, labels, n_classes=N_CLASSES, seed=0)

    np.testing.assert_array_equal(score.distances, plain.distances)
    assert score.value == pytest.approx((0.5 * plain.distances[0, 1] + 0.25 * plain.distances[2, 3]) / 0.75)
    assert score.scorer == f"{plain.scorer}_weighted"
    assert score.value == introspectability(plain.distances, read_similarity(similarity_file).matrix)


def test_wordnet_similarity_worked_out_by_hand(tmp_path):
    ids = write_wordnet(tmp_path)
    names = ("dog", "cat", "beast", "stone")

    similarity = wordnet_similarity(names, [ids[n] for n in names], wordnet=tmp_path)

    assert similarity.class_names == names
    # dog - pet - cat: 2 steps; dog - beast: 1; cat - pet - animal - beast: 3; the stone has no ancestor in common
    np.testing.assert_allclose(similarity.matrix[0], [1, 1 / 3, 1 / 2, 0])
    np.testing.assert_allclose(similarity.matrix[1], [1 / 3, 1, 1 / 4, 0])


def test_a_missing_database_or_synset_is_reported(tmp_path):
    with pytest.raises(ResourceError, match=r"no WordNet database in .*: expected the file data\.noun\. On Debian"):
        wordnet_similarity(["a"], ["n00000001"], wordnet=tmp_path)
    write_wordnet(tmp_path)
    with pytest.raises(DataError, match="synset n00000003 is not in"):
        wordnet_similarity(["a"], ["n00000003"], wordnet=tmp_path)
    with pytest.raises(DataError, match=r"a synset must be n and eight digits, as n02123045, got 'cat'"):
        wordnet_similarity(["a"], ["cat"], wordnet=tmp_path)
    with pytest.raises(DataError, match="expected one synset per class, got 1 for 2 classes"):
        wordnet_similarity(["a", "b"], ["n00000001"], wordnet=tmp_path)


@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason="no WordNet: apt-get install wordnet-base")
def test_dog_and_cat_in_wordnet_itself():
    similarity = wordnet_similarity(["dog", "cat", "car"], ["n02084071", "n02121620", "n02958343"], wordnet=WORDNET)

    # values of nltk's path_similarity
    np.testing.assert_allclose(similarity.matrix[0], [1, 1 / 5, 1 / 13])


def test_scorers_with_similarities_can_be_pickled(similarity_file):
    scorer = pickle.loads(pickle.dumps(ShapScorer(similarity=similarity_file)))

    similarity_file.unlink()
    assert isinstance(scorer.similarity, ClassSimilarity)
